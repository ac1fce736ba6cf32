//! The prompt: one statement after another from a person, with a memory and completion.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use reedline::{
    ColumnarMenu, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode,
    PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal, ValidationResult,
    Validator, default_emacs_keybindings,
};

use super::answer::Destination;
use super::asking::{Asking, Stop};
use super::completion::SqlCompleter;
use super::told;
use crate::cli::exit::Exit;
use crate::cli::kept;
use crate::history::Paths;
use crate::history::session::TYPED;
use crate::sql::names::{fold_text, meant};
use crate::sql::question::{is_complete, questions};
use crate::sql::{SourceFiles, SqlErrors};

const HELP: &str = "\
SELECT ...;       a statement may have several lines and ends with ;
\\d                the tables
\\d TABLE          the columns of a table
\\timing           whether the time of each answer is shown
\\q, Ctrl-D        the end
Tab completes, Ctrl-R searches what was asked before, Ctrl-C leaves a statement or stops a query.
";

/// So many statements are remembered.
const REMEMBERED: usize = 1000;

const MENU: &str = "completion";

/// Asks a person what to ask until there is no more.
pub async fn prompt(asking: &Asking, destination: &Destination, data_dir: &Path) -> Exit {
    let tables = asking.kept.history.tables();
    if let Some(mistakes) = &asking.kept.mistakes {
        let count = mistakes.errors.len();
        let mistakes = if count == 1 { "1 mistake" } else { &format!("{count} mistakes") };
        eprintln!("the folder has {mistakes}, which 'acequia check' shows; tables with mistakes are not here");
    }
    eprintln!(
        "{} can be asked; help shows what the prompt knows",
        match tables.len() {
            1 => "1 table".to_owned(),
            count => format!("{count} tables"),
        }
    );
    // From now on Ctrl-C ends no process, not even between two statements.
    let _watched = Stop::watch();
    let mut editor = editor(SqlCompleter::new(tables), memory(data_dir));
    let mut timing = false;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let read = editor.read_line(&Sign);
            (editor, read)
        });
        let text = match read.await {
            Ok((back, read)) => {
                editor = back;
                match read {
                    Ok(Signal::Success(text)) => text,
                    Ok(Signal::CtrlD) => return Exit::Success,
                    Ok(_) => continue,
                    Err(error) => {
                        eprintln!("error: the terminal cannot be read: {error}");
                        return Exit::Runtime;
                    }
                }
            }
            Err(error) => {
                eprintln!("error: the terminal cannot be read: {error}");
                return Exit::Runtime;
            }
        };
        match Command::of(&text) {
            Command::Nothing => {}
            Command::Quit => return Exit::Success,
            Command::Help => print!("{HELP}"),
            Command::Timing => {
                timing = !timing;
                println!("times are {}", if timing { "shown" } else { "not shown" });
            }
            Command::Tables => print!("{}", told::tables(&asking.kept.history.tables())),
            Command::Columns(table) => columns(asking, &table).await,
            Command::Unknown(command) => eprintln!("error: there is no command {command}: help shows those there are"),
            Command::Statements => {
                let began = Instant::now();
                statements(asking, destination, text).await;
                if timing {
                    println!("{:.3} s", began.elapsed().as_secs_f64());
                }
            }
        }
    }
}

/// Answers what was typed, on the newest versions; a failure was told, and is not the end.
async fn statements(asking: &Asking, destination: &Destination, text: String) {
    let mut files = SourceFiles::default();
    files.add(TYPED.into(), text);
    let (questions, mistakes) = questions(&files, 0);
    if !mistakes.is_empty() {
        kept::report(&SqlErrors::new(files, mistakes).into());
        return;
    }
    let mut stop = Stop::watch();
    let session = match asking.kept.history.session(Paths::Allowed).await {
        Ok(session) => session,
        Err(error) => {
            kept::report(&error);
            return;
        }
    };
    for question in &questions {
        if asking.answer(question, &files, &session, destination, &mut stop).await != Exit::Success {
            return;
        }
    }
}

/// Shows the columns of a table.
async fn columns(asking: &Asking, name: &str) {
    let tables = asking.kept.history.tables();
    let name = fold_text(name.trim_end_matches(';'));
    let Some(table) = tables.iter().find(|table| table.name == name) else {
        let help = meant(&name, tables.iter().map(|table| table.name.as_str()));
        eprintln!("error: there is no table '{name}'{}", help.map_or(String::new(), |help| format!(": {help}")));
        return;
    };
    let schema = async { asking.kept.history.session(Paths::Refused).await?.columns(&table.name).await };
    match schema.await {
        Ok(schema) => print!("{}", told::columns(table, &schema)),
        Err(error) => {
            kept::report(&error);
        }
    }
}

/// What was typed.
#[derive(PartialEq, Eq, Debug)]
enum Command {
    Nothing,
    Quit,
    Help,
    Timing,
    Tables,
    Columns(String),
    Unknown(String),
    Statements,
}

impl Command {
    fn of(text: &str) -> Command {
        let text = text.trim();
        let bare = text.trim_end_matches(';').trim_end();
        let (word, rest) = bare.split_once(char::is_whitespace).unwrap_or((bare, ""));
        match (word, rest.trim()) {
            ("", _) => Command::Nothing,
            ("\\q" | "quit" | "exit", "") => Command::Quit,
            ("help" | "\\?" | "\\h", "") => Command::Help,
            ("\\timing", "") => Command::Timing,
            ("\\d" | "\\dt", "") => Command::Tables,
            ("\\d", table) => Command::Columns(table.to_owned()),
            _ if bare.starts_with('\\') => Command::Unknown(word.to_owned()),
            _ => Command::Statements,
        }
    }
}

/// Enter ends a command of the prompt, and a statement behind its `;`.
struct Ends;

impl Validator for Ends {
    fn validate(&self, line: &str) -> ValidationResult {
        match Command::of(line) {
            Command::Statements if !is_complete(line) => ValidationResult::Incomplete,
            _ => ValidationResult::Complete,
        }
    }
}

/// What stands before the line that is typed.
struct Sign;

impl Prompt for Sign {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "acequia".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "      -> ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let found = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing like ",
        };
        format!("({found}'{}') ", search.term).into()
    }
}

fn editor(completer: SqlCompleter, memory: Option<FileBackedHistory>) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext];
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let editor = Reedline::create()
        .with_completer(Box::new(completer))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name(MENU))))
        .with_validator(Box::new(Ends))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_ansi_colors(color);
    match memory {
        Some(memory) => editor.with_history(Box::new(memory)),
        None => editor,
    }
}

/// What was asked before, in the user's folder for such things, or else in the data folder. Without a place for it
/// nothing is remembered.
fn memory(data_dir: &Path) -> Option<FileBackedHistory> {
    let state = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = state("XDG_STATE_HOME").or_else(|| Some(state("HOME")?.join(".local/state")));
    let file = match folder {
        Some(folder) => folder.join("acequia/query_history"),
        None => data_dir.join("query_history"),
    };
    FileBackedHistory::with_file(REMEMBERED, file).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_need_no_semicolon_and_statements_do() {
        for (text, command) in [
            ("", Command::Nothing),
            (" ; ", Command::Nothing),
            ("\\q", Command::Quit),
            ("exit;", Command::Quit),
            ("help", Command::Help),
            ("\\timing", Command::Timing),
            ("\\d", Command::Tables),
            ("\\d  orders;", Command::Columns("orders".into())),
            ("\\x on", Command::Unknown("\\x".into())),
            ("help me", Command::Statements),
            ("SELECT 1", Command::Statements),
        ] {
            assert_eq!(Command::of(text), command, "{text}");
        }
        let complete = |text: &str| matches!(Ends.validate(text), ValidationResult::Complete);
        assert!(complete("\\d orders") && complete("SELECT 1;") && complete("quit") && complete(""));
        assert!(!complete("SELECT 1") && !complete("SELECT ';"));
    }
}

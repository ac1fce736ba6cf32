//! docs/monitoring.md against the code: the commands in it exist with their options, the console has the paths, and the
//! messages that it quotes are those that the code gives.

use std::path::Path;

use crate::{run, stdout};

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md")).unwrap()
}

/// The lines of all blocks that begin with ``` and `language`.
fn lines_of_blocks(page: &str, language: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut inside = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(language), None) => inside = Some(language),
            (Some(_), Some(_)) => inside = None,
            (None, Some(at)) if at == language => lines.push(line.to_owned()),
            (None, _) => continue,
        }
    }
    lines
}

/// All code below `src`, with texts that go on in the next line made one.
fn sources() -> String {
    let mut all = String::new();
    let files = walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for file in files.into_iter().map(Result::unwrap).filter(|entry| entry.path().extension() == Some("rs".as_ref())) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let mut parts = text.split("\\\n");
        all.push_str(parts.next().unwrap());
        parts.for_each(|part| all.push_str(part.trim_start()));
    }
    all
}

/// Texts that the code puts into its messages from elsewhere.
const PARTS: [&str; 10] = [
    "no answer",
    "a row is a dead letter",
    "the event time",
    "future_event_time",
    "malformed",
    "PostgreSQL table ",
    "write",
    "console",
    "--http",
    "--no-http",
];

/// What differs in the messages that are quoted: the system's own words, and names.
const VALUES: [&str; 7] =
    ["No space left on device (os error 28)", "realtime_events", "transactions", "at …", "epoch …", "Kafka", "Redis"];

#[test]
fn the_messages_that_it_quotes_are_in_the_code() {
    let sources = sources();
    for part in PARTS {
        assert!(sources.contains(part), "no code says '{part}'");
    }
    let mut checked = 0;
    for line in lines_of_blocks(&page(), "log") {
        let message = line.split_once(' ').expect("a level and a message").1;
        let unknown = PARTS.iter().chain(&VALUES).rev();
        let message = unknown.fold(message.to_owned(), |message, text| message.replace(text, "…"));
        for part in message.split('…').map(|part| part.trim_start_matches(": ").trim()).filter(|part| part.len() > 5)
        {
            assert!(sources.contains(part), "no code says '{part}', as in: {line}");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked} parts of messages");
}

#[test]
fn the_commands_in_it_exist() {
    let page = page();
    let mut checked = 0;
    for command in page.split("acequia ").skip(1).map(|rest| rest.split(['`', '\n', '|', ';', '#']).next().unwrap()) {
        let mut words = command.split_whitespace();
        let Some(name) = words.next().filter(|name| COMMANDS.contains(name)) else { continue };
        let help = stdout(&run(&[name, "--help"]));
        for option in words.filter(|word| word.starts_with("--")) {
            let option = option.split('=').next().unwrap();
            assert!(help.contains(option), "acequia {name} has no {option}");
        }
        checked += 1;
    }
    assert!(checked > 5, "{checked} commands");
}

const COMMANDS: [&str; 8] = ["audit", "check", "checkpoints", "demo", "explain", "generate", "run", "test"];

#[test]
fn the_paths_in_it_are_served() {
    let page = page();
    let sources = sources();
    let paths = page.split("/api/v1/").skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '/'));
    let mut checked = 0;
    for path in paths.map(|mut parts| parts.next().unwrap().to_owned()) {
        // `/api/v1/kafka/...` names all that begin so.
        let end = if path.ends_with('/') { "" } else { "\"" };
        assert!(sources.contains(&format!("\"/api/v1/{path}{end}")), "nothing serves /api/v1/{path}");
        checked += 1;
    }
    assert!(checked > 2, "{checked} paths");
}

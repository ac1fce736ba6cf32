//! What the pages promise, held against the code: the README's SQL is planned, the options that it names exist, and
//! imports go down the table of modules in ARCHITECTURE.md.

use std::path::Path;

use acequia::connectors::registry;
use acequia::program::Program;
use acequia::sql::{SourceFiles, Variables};

use crate::{folder, run, stderr, text};

/// The tables that the README's SQL names without declaring them.
const SURROUNDINGS: &str = "\
CREATE TABLE dead_letters (reason TEXT, value TEXT) WITH (connector = 'stdout');
CREATE TABLE late_transactions (customer_id BIGINT, amount DECIMAL(12, 2), ts TIMESTAMP) WITH (connector = 'stdout');
CREATE TABLE results (customer_id BIGINT, total DECIMAL(22, 2)) WITH (connector = 'stdout');
";

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The texts between ```sql and ```, with `prefix` taken from the beginning of each line.
fn sql_blocks(page: &str, prefix: &str) -> Vec<String> {
    let mut blocks: Vec<String> = vec![];
    let mut inside = false;
    for line in page.lines().filter_map(|line| line.strip_prefix(prefix)) {
        match line.trim() {
            "```sql" => {
                blocks.push(String::new());
                inside = true;
            }
            "```" => inside = false,
            _ if inside => blocks.last_mut().unwrap().extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

#[test]
fn the_sql_of_the_readme_is_planned() {
    let blocks = sql_blocks(&read("README.md"), "");
    assert!(!blocks.is_empty());
    let place = folder(&[("readme.sql", &blocks.concat()), ("surroundings.sql", SURROUNDINGS)]);
    let output = run(&["check", text(place.path())]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_sql_in_the_connectors_own_pages_is_read() {
    let mut found = 0;
    for connector in ["kafka", "redis", "postgres", "sqlite", "file", "datagen"] {
        for block in sql_blocks(&read(&format!("src/connectors/{connector}/mod.rs")), "//! ") {
            found += 1;
            let mut files = SourceFiles::default();
            files.add(format!("{connector}.sql").into(), block);
            let program = Program::parse(files, &Variables::from_environment(), &registry::connectors());
            assert!(program.is_ok(), "{connector}: {}", program.err().unwrap().render(false));
        }
    }
    assert!(found > 1);
}

/// The rows of the README's table of connectors: the names, and the options that the fourth column lists.
fn connectors_and_options(readme: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = readme.lines().skip_while(|line| !line.starts_with("| `connector` |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        // What stands in parentheses is said about an option.
        let options = cells[3].split('(').map(|part| part.rsplit(')').next().unwrap());
        (quoted(cells[0]), options.flat_map(quoted).collect())
    })
    .collect()
}

#[test]
fn the_options_in_the_table_of_connectors_exist() {
    let rows = connectors_and_options(&read("README.md"));
    let named: Vec<&str> = rows.iter().flat_map(|(names, _)| names).map(String::as_str).collect();
    for connector in registry::connectors() {
        let alias = ["filesystem", "postgresql"].contains(&connector.name());
        assert!(alias || named.contains(&connector.name()), "the README does not name {}", connector.name());
    }
    for (names, options) in &rows {
        for (name, option) in names.iter().flat_map(|name| options.iter().map(move |option| (name, option))) {
            let option = option.replace("COLUMN", "a").replace(".*", ".kind");
            let sql = format!("CREATE TABLE t (a TEXT) WITH (connector = '{name}', '{option}' = '?');");
            let mut files = SourceFiles::default();
            files.add("t.sql".into(), sql);
            let program = Program::parse(files, &Variables::from_environment(), &registry::connectors());
            let said = program.err().map(|errors| errors.render(false)).unwrap_or_default();
            assert!(!said.contains(&format!("has no option '{option}'")), "{said}");
        }
    }
}

#[test]
fn the_commands_of_the_readme_are_there_and_their_help_says_how() {
    let readme = read("README.md");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `acequia "))
        .map(|line| line.split([' ', '`']).next().unwrap())
        .collect();
    assert_eq!(
        commands,
        ["demo", "run", "query", "history", "serve", "generate", "checkpoints", "audit", "check", "explain", "test"]
    );
    for folder in readme.split("acequia run ").skip(1).map(|rest| rest.split(['`', '\n', ' ']).next().unwrap()) {
        let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).exists();
        assert!(folder.starts_with(['[', '-']) || is_there, "the README runs {folder}");
    }
}

/// The texts of a module: `src/NAME.rs` and all below `src/NAME/`.
fn sources(module: &str) -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![src.join(format!("{module}.rs")), src.join(module)];
    let mut texts = vec![];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            texts.push((path.display().to_string(), text));
        }
    }
    texts
}

#[test]
fn imports_go_down_the_table_of_modules() {
    let page = read("ARCHITECTURE.md");
    let order: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)).collect();
    let library = read("src/lib.rs");
    let mut modules: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    modules.sort_unstable();
    assert_eq!(sorted, modules, "ARCHITECTURE.md lists the modules of src/lib.rs");
    let mut imports = 0;
    for (at, module) in order.iter().enumerate() {
        for (path, text) in sources(module) {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for rest in line.split("crate::").skip(1) {
                    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    // A macro of the module below stands at the root.
                    let name = if name == "crash_point" { "faults".to_owned() } else { name };
                    imports += 1;
                    assert!(order[at..].contains(&&*name), "{path}: `{module}` stands below `{name}`: {line}");
                }
            }
        }
    }
    assert!(imports > 100);
}

//! The prompt, at a terminal that a Python program makes.

use super::*;

/// What is shown when a person waits for the first of each pair and then types the second.
fn typed(shop: &Shop, steps: &[(&str, &str)]) -> (String, Option<i32>) {
    typed_into(shop, &[], steps)
}

/// The same with more arguments.
fn typed_into(shop: &Shop, arguments: &[&str], steps: &[(&str, &str)]) -> (String, Option<i32>) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/query/prompt.py");
    let steps = serde_json::to_string(steps).unwrap();
    let mut command = Command::new("python3");
    command.arg(program).arg(steps).args([env!("CARGO_BIN_EXE_acequia"), "query"]).args(arguments);
    command.current_dir(shop.place.path()).env("ACEQUIA__RUN__DATA_DIR", shop.path("data")).env("NO_COLOR", "1");
    command.env("XDG_STATE_HOME", shop.path("state")).env("TERM", "xterm").env_remove("RUST_LOG");
    let output = command.output().unwrap();
    assert_eq!(stderr(&output), "");
    (stdout(&output), output.status.code())
}

#[test]
fn a_person_asks_and_looks_around() {
    let shop = Shop::ran();
    let (shown, code) = typed(
        shop,
        &[
            ("> ", "\\d\r"),
            ("the source, as recorded in clicks_history", "\\d clicks_history\r"),
            ("partition", "SELECT kind, total\r"),
            ("-> ", "FROM totals ORDER BY total LIMIT 1;\r"),
            ("(1 row)", "\\timing\r"),
            ("times are shown", "SELECT count(*) FROM nothing;\r"),
            ("there is no table 'nothing'", "\\quit\r"),
            ("there is no command \\quit", "\\d nothing\r"),
            ("there is no table 'nothing'", "help\r"),
            ("Ctrl-C leaves", "\\q\r"),
        ],
    );
    assert_eq!(code, Some(0), "{shown}");
    for word in [
        "3 tables can be asked",
        "clicks_history  Delta table ",
        "timestamp  TIMESTAMP     event time",
        "| view | 1     |",
        "query:1:22",
    ] {
        assert!(shown.contains(word), "no {word} in\n{shown}");
    }
    let remembered = std::fs::read_to_string(shop.path("state/acequia/query_history")).unwrap();
    assert!(remembered.contains("FROM totals ORDER BY total LIMIT 1;"), "{remembered}");
}

#[test]
fn a_prompt_writes_no_file() {
    let shop = Shop::new();
    let (shown, code) = typed_into(&shop, &["--output", "answer.csv"], &[]);
    assert_eq!(shown.trim_end(), "error: the prompt writes no file: say what to ask, as SQL or with --file FILE");
    assert_eq!(code, Some(2));
    assert!(!shop.path("answer.csv").exists());
}

#[test]
fn ctrl_c_stops_the_query_and_not_the_prompt() {
    let shop = Shop::new();
    // Once the first is answered the second has begun, or is stopped before it does.
    let endless = "SELECT 'begun' AS b; SELECT sum(a.value * b.value) FROM generate_series(1, 10000000) a, \
                   generate_series(1, 10000000) b;\r";
    let (shown, code) = typed(
        &shop,
        &[
            ("> ", endless),
            ("(1 row)", "\u{3}"),
            ("error: the query was stopped", "SELECT 40 + 2 AS answer;\r"),
            ("| 42     |", ""),
            // Before the prompt is back the terminal itself would take it.
            ("> ", "\u{4}"),
        ],
    );
    assert_eq!(code, Some(0), "{shown}");
}

#[test]
fn tab_completes_names() {
    let shop = Shop::ran();
    let (shown, code) =
        typed(shop, &[("> ", "SELECT count(*) AS n FROM clicks_h\t;\r"), ("| 4 |", ""), ("> ", "\u{4}")]);
    assert_eq!(code, Some(0), "{shown}");
}

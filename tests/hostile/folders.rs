//! Folders that are no program.

use crate::{command, folder, stderr};

/// What `check` and `run` say of a folder; both end with exit 1.
fn refused(files: &[(&str, &[u8])], path: &str) -> String {
    let place = folder(files);
    let mut said = String::new();
    for action in ["check", "run"] {
        let output = command(place.path(), &[action, path]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{action}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
        said = stderr(&output);
        assert!(!said.contains("panicked"), "{said}");
    }
    said
}

#[test]
fn an_unknown_option_and_connector_are_named_with_the_right_one() {
    let program = b"CREATE TABLE t (a BIGINT) WITH (connector = 'kafka', topik = 't', bootstrap_servers = 'nowhere');
CREATE TABLE u (a BIGINT) WITH (connector = 'kafa');
SELECT a FROM t;";
    let said = refused(&[("q/p.sql", program)], "q");
    for words in [
        "error: option 'topic' is missing\n --> q/p.sql:1:14\n",
        "error: connector 'kafka' has no option 'topik'\n --> q/p.sql:1:54\n",
        "  = help: did you mean 'topic'?\n",
        "error: option 'bootstrap_servers' does not take 'nowhere' as an address\n --> q/p.sql:1:87\n",
        "  = help: it takes 'host:port', several of them with commas, or 'embedded'\n",
        "error: there is no connector 'kafa'\n --> q/p.sql:2:45\n",
        "  = help: did you mean 'kafka'? It takes ",
        "\n4 errors\n",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
}

#[test]
fn a_folder_without_a_program_is_explained() {
    let empty: &[(&str, &[u8])] = &[("q/readme.txt", b"hello")];
    assert!(
        refused(empty, "q").starts_with("error: there is no .sql file in q\n = help: put the program's statements")
    );
    assert!(refused(empty, "nowhere").starts_with("error: there is no folder nowhere\n = help: name a folder"));
    let said = refused(empty, "q/readme.txt");
    assert!(said.starts_with("error: there is no statement HELLO here\n --> q/readme.txt:1:1\n"), "{said}");
    let said = refused(&[("q/p.sql", b"-- nothing yet\n")], "q");
    assert!(said.starts_with("error: there is nothing to run in q\n = help: add an INSERT INTO"), "{said}");
    let said = refused(&[("q/p.sql", b"SELECT 1;\n-- caf\xe9\n")], "q");
    assert!(said.starts_with("error: q/p.sql is not UTF-8: line 2 has a byte that cannot be\n"), "{said}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let place = folder(&[("q/p.sql", b"")]);
    std::os::unix::fs::symlink("/nowhere/at/all.sql", place.path().join("q/broken.sql")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", place.path().join("link")).unwrap();
    std::fs::create_dir(place.path().join("loop")).unwrap();
    std::os::unix::fs::symlink("../loop", place.path().join("loop/self")).unwrap();
    for (path, message) in [
        ("q", "error: cannot read q/broken.sql: No such file or directory"),
        ("link", "error: there is no folder link\n"),
        ("loop", "error: cannot read loop/self: File system loop found"),
    ] {
        let output = command(place.path(), &["check", path]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(message), "{path}: {}", stderr(&output));
    }
}

#[test]
fn views_in_a_circle_are_shown_at_each_step() {
    let program = b"CREATE VIEW a AS SELECT * FROM b;
CREATE VIEW b AS SELECT * FROM c;
CREATE VIEW c AS SELECT * FROM a;
CREATE VIEW me AS SELECT * FROM me;
SELECT * FROM a;";
    let said = refused(&[("q/p.sql", program)], "q");
    for words in [
        "views use each other in a circle: a \u{2192} b \u{2192} c \u{2192} a\n --> q/p.sql:1:32\n",
        "q/p.sql:2:32\n",
        "q/p.sql:3:32\n",
        "error: view 'me' uses itself\n --> q/p.sql:4:33\n",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
}

#[test]
fn statements_that_nest_or_go_on_without_end_are_refused() {
    let tables = "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'in.jsonl');\n";
    let nested = format!("{tables}SELECT {}a{} FROM t;", "(".repeat(100_000), ")".repeat(100_000));
    let chain = |part: &str| format!("{tables}SELECT a FROM t WHERE a = 0{};", part.repeat(20_000));
    let longest = format!("{tables}SELECT a FROM t WHERE a = 0{};", " OR a = 1".repeat(1000));
    let union = format!("{tables}SELECT a FROM t{};", " UNION ALL SELECT a FROM t".repeat(100));
    for program in [longest, union] {
        let place = folder(&[("q/p.sql", program.as_bytes())]);
        let output = command(place.path(), &["check", "q"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{:.500}", stderr(&output));
    }
    for (program, message) in [
        (nested, "error: the statement is nested too deeply\n"),
        (chain(" OR a = 1"), "error: 20000 operators in a row are too many\n"),
        (chain(" + 1"), "error: 20000 operators in a row are too many\n"),
        (format!("{tables}SELECT a FROM t{};", " UNION ALL SELECT a FROM t".repeat(5000)), "operators in a row"),
    ] {
        let said = refused(&[("q/p.sql", program.as_bytes())], "q");
        assert!(said.contains(message), "{}", &said[..said.len().min(500)]);
    }
}

//! What is said when there is no answer, and the exit code.

use super::*;

#[track_caller]
fn refused(output: &Output, code: i32, said: &str) {
    assert_eq!(stderr(output), said);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(stdout(output), "", "{said}");
}

#[test]
fn mistakes_show_the_line_with_a_caret() {
    let shop = Shop::ran();
    refused(
        &shop.run(&["query", "SELECT kind\nFROM click_history"]),
        1,
        "error: there is no table 'click_history'\n --> query:2:6\n  |\n2 | FROM click_history\n  |      ^^^^^^^^^^^^^\n  \
         = help: did you mean 'clicks_history'?\n\n1 error\n",
    );
    refused(
        &shop.run(&["query", "SELECT amout FROM clicks"]),
        1,
        "error: there is no column 'amout'\n --> query:1:8\n  |\n1 | SELECT amout FROM clicks\n  |        ^^^^^\n  = help: did \
         you mean 'amount'?\n\n1 error\n",
    );
    refused(
        &shop.run(&["query", "DROP TABLE clicks_history"]),
        1,
        "error: DROP is not possible here: the history is only read\n --> query:1:1\n  |\n1 | DROP TABLE clicks_history\n  | \
         ^^^^\n  = help: rows come into it by INSERT INTO in a folder that 'acequia run' runs\n\n1 error\n",
    );
}

#[test]
fn mistakes_in_a_file_name_it() {
    let shop = Shop::ran();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("report.sql");
    std::fs::write(&script, "SELECT 1;\n\nSELECT * FROM clicks WHERE\n").unwrap();
    let output = shop.run(&["query", "-f", text(&script)]);
    assert!(stderr(&output).contains("report.sql:3:27"), "{}", stderr(&output));
    // Nothing was answered: a script with a mistake is not begun.
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    let output = shop.fed(&["query"], "SELECT * FROM clicks WHERE missing = 1");
    assert!(stderr(&output).contains("stdin:1:28"), "{}", stderr(&output));
    refused(&shop.fed(&["query"], " \n"), 1, "error: there is no statement in stdin\n");
    let output = shop.run(&["query", "-f", "no.sql"]);
    refused(&output, 3, "error: no.sql cannot be read: No such file or directory (os error 2)\n");
}

#[test]
fn a_failure_while_running_is_no_mistake_in_the_text() {
    let shop = Shop::ran();
    let output = shop.run(&["query", "SELECT 1 / (amount - amount) FROM clicks_history"]);
    refused(&output, 3, "error: divide by zero error\n");
    assert!(!shop.path("data/tmp").exists());
}

#[test]
fn formats_that_do_not_fit_are_refused() {
    let shop = Shop::new();
    refused(
        &shop.run(&["query", "SELECT 1", "--format", "parquet"]),
        2,
        "error: Parquet is no text: give --output FILE\n",
    );
    refused(
        &shop.run(&["query", "SELECT 1; SELECT 2", "--output", "x.parquet"]),
        2,
        "error: a Parquet file holds one answer, and there are 2 statements\n",
    );
    let output = shop.run(&["query", "SELECT 1", "--output", "no/x.csv"]);
    refused(&output, 3, "error: no/x.csv cannot be written: No such file or directory (os error 2)\n");
    let output = shop.run(&["query", "SELECT 1 / 0", "--output", "x.csv"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let left: Vec<_> = std::fs::read_dir(shop.place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("x.")), "{left:?}");
}

#[test]
fn a_file_whose_name_says_no_format_is_refused_and_has_every_row_with_one() {
    let shop = Shop::new();
    let sql = "SELECT * FROM generate_series(1, 5000)";
    for name in ["out.csv.gz", "out.txt", "out.tsv", "out.json.gz", "out"] {
        refused(
            &shop.run(&["query", sql, "-o", name]),
            2,
            &format!(
                "error: the name of {name} does not say how the rows are written: --output takes names that end with \
                 .csv, .json, .jsonl, .ndjson or .parquet; --format says it for any other\n"
            ),
        );
        assert!(!shop.path(name).exists(), "{name}");
    }
    assert_eq!(shop.asked(&["query", sql, "-o", "out.txt", "--format", "table"]), "");
    let written = std::fs::read_to_string(shop.path("out.txt")).unwrap();
    assert!(written.contains("| 5000  |") && written.ends_with("(5000 rows)\n"), "{written}");
}

#[test]
fn a_mistake_that_the_optimizer_finds_is_a_mistake_in_the_text() {
    let shop = Shop::ran();
    refused(
        &shop.run(&["query", "SELECT kind FROM clicks\nWHERE amount = 'abc'"]),
        1,
        "error: cannot cast string 'abc' to value of BIGINT type\n --> query:2:16\n  |\n2 | WHERE amount = 'abc'\n  |\x20\
                        \x20              ^^^^^\n\n1 error\n",
    );
    for sql in ["SELECT DATE '2026-13-45'", "SELECT kind FROM clicks WHERE amount LIKE 3"] {
        let output = shop.run(&["query", sql]);
        let said = stderr(&output);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{said}");
        let about_rules = said.contains("optimizer") || said.contains("coercion") || said.contains("caused by");
        assert!(said.contains(" --> query:1:") && !about_rules, "{said}");
    }
}

#[test]
fn a_folder_that_is_named_must_be_there_and_its_mistakes_are_told_when_they_matter() {
    let shop = Shop::ran();
    let output = shop.run(&["query", "SELECT 1", "--folder", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere"), "{}", stderr(&output));

    let broken = Shop::new();
    let mistake = "CREATE TABLE half (a BIGNIT) WITH (connector = 'delta');\nSELECT x FROM nothing;\n";
    std::fs::write(broken.path("queries/half.sql"), mistake).unwrap();
    assert_eq!(broken.asked(&["query", "SELECT count(*) AS n FROM totals", "--format", "csv"]), "n\n0\n");
    let output = broken.run(&["query", "SELECT a FROM half"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("there is no type BIGNIT") && said.contains("there is no table 'half'"), "{said}");
}

#[test]
fn the_history_of_what_is_not_kept() {
    let shop = Shop::ran();
    refused(
        &shop.run(&["history", "clicks_histry"]),
        1,
        "error: there is no table 'clicks_histry' that is kept: did you mean 'clicks_history'?\n",
    );
    refused(
        &shop.run(&["history", "zzz"]),
        1,
        "error: there is no table 'zzz' that is kept: the folder keeps clicks_history, totals, clicks\n",
    );
    let never = Shop::new();
    assert_eq!(never.asked(&["history", "totals"]), "nothing has been written to totals yet\n");
    let listed = never.asked(&["history"]);
    let line: Vec<&str> = listed.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(line, ["totals", "-", "0", "0", "0", "B", "-", "-", "-"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let output = never.command(&["history"]).current_dir(elsewhere.path()).output().unwrap();
    assert_eq!(
        stdout(&output),
        "the folder keeps nothing; declare a table with connector = 'delta' and INSERT INTO it\n"
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    for (arguments, right) in [
        (vec!["query", "SELECT 1", "-f", "x.sql"], "cannot be used with"),
        (vec!["query", "SELECT 1", "--memory-limit", "2"], "512MB or 2GB"),
        (vec!["query", "SELECT 1", "--timeout", "5"], "250ms, 1s or 2m"),
        (vec!["query", "SELECT 1", "--format", "xml"], "possible values"),
        (vec!["history", "--limit", "0"], "1.."),
    ] {
        let output = acequia().args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(right), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn the_help_has_examples() {
    for command in ["query", "history"] {
        let output = acequia().args([command, "--help"]).output().unwrap();
        let help = stdout(&output);
        assert!(help.contains("Examples:") && help.contains(&format!("acequia {command}")), "{help}");
    }
}

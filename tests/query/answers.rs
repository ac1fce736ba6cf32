//! What is printed, in every format.

use super::*;

#[test]
fn a_table_for_a_person() {
    let sql = "SELECT * FROM clicks_history ORDER BY \"offset\"";
    assert_eq!(
        Shop::ran().asked(&["query", sql]),
        "+------------+-------------------------+--------+--------+------------+\n\
         | kind       | timestamp               | amount | offset | day        |\n\
         +------------+-------------------------+--------+--------+------------+\n\
         | view       | 2026-11-29 12:00:00.500 | 1      | 1      | 2026-11-29 |\n\
         | buy        | 2026-11-29 12:00:01     | 20     | 2      | 2026-11-29 |\n\
         | view       | 2026-11-29 12:01:02     | 3      | 3      | 2026-11-29 |\n\
         | buy, again | 2026-11-30 00:00:00     | NULL   | 4      | 2026-11-30 |\n\
         +------------+-------------------------+--------+--------+------------+\n\
         (4 rows)\n"
    );
}

#[test]
fn rows_for_programs() {
    let sql = "SELECT kind, \"timestamp\", amount FROM clicks WHERE \"offset\" <> 2 ORDER BY \"offset\"";
    assert_eq!(
        Shop::ran().asked(&["query", sql, "--format", "csv"]),
        "kind,timestamp,amount\nview,2026-11-29T12:00:00.500Z,1\nview,2026-11-29T12:01:02Z,3\n\
         \"buy, again\",2026-11-30T00:00:00Z,\n"
    );
    assert_eq!(
        Shop::ran().asked(&["query", sql, "--format", "json"]),
        "{\"kind\":\"view\",\"timestamp\":\"2026-11-29T12:00:00.500Z\",\"amount\":1}\n\
         {\"kind\":\"view\",\"timestamp\":\"2026-11-29T12:01:02Z\",\"amount\":3}\n\
         {\"kind\":\"buy, again\",\"timestamp\":\"2026-11-30T00:00:00Z\",\"amount\":null}\n"
    );
}

#[test]
fn results_and_sources_are_asked_together() {
    let sql = "SELECT t.kind, t.total, count(c.kind) AS clicks FROM totals t JOIN clicks c ON c.kind = t.kind AND \
               date_trunc('minute', c.\"timestamp\") = t.minute GROUP BY ALL ORDER BY t.total";
    let sql = sql.replace("GROUP BY ALL", "GROUP BY 1, 2");
    assert_eq!(
        Shop::ran().asked(&["query", &sql, "--format", "csv"]),
        "kind,total,clicks\nview,1,1\nview,3,1\nbuy,20,1\n\"buy, again\",,1\n"
    );
}

#[test]
fn an_answer_can_be_a_file_that_is_asked_again() {
    let shop = Shop::new();
    let answer = shop.path("answer.parquet");
    assert_eq!(
        shop.asked(&["query", "SELECT value AS n FROM generate_series(1, 1000)", "--output", text(&answer)]),
        ""
    );
    let sql = "SELECT count(*) AS rows, sum(n) AS n FROM 'answer.parquet'";
    assert_eq!(shop.asked(&["query", sql, "--format", "csv"]), "rows,n\n1000,500500\n");
    shop.asked(&["query", "SELECT 1 AS a", "-o", "a.csv"]);
    shop.asked(&["query", "SELECT 2 AS a", "-o", "b.csv"]);
    assert_eq!(shop.asked(&["query", "SELECT sum(a) AS a FROM '*.csv'", "--format", "json"]), "{\"a\":3}\n");
}

#[test]
fn what_lies_in_folders_is_asked_by_its_path() {
    let shop = Shop::ran();
    let sql = "SELECT count(*) AS n, count(DISTINCT \"offset\") AS d FROM 'data/history/clicks_history' WHERE day >= '2026-11-29'";
    assert_eq!(shop.asked(&["query", sql, "--format", "csv"]), "n,d\n4,4\n");
    let sql = "SELECT count(*) AS n FROM 'data/history/clicks_history' VERSION AS OF 0";
    assert_eq!(shop.asked(&["query", sql, "--format", "csv"]), "n\n0\n");
    let sql = "SELECT sum(amount) AS s FROM 'clicks.jsonl'";
    assert_eq!(shop.asked(&["query", sql, "--format", "csv"]), "s\n24\n");
    let other = Shop::new();
    for (folder, file) in [("g", "1"), ("g/a", "2"), ("g/b/c", "3")] {
        std::fs::create_dir_all(other.path(folder)).unwrap();
        other.asked(&["query", &format!("SELECT {file} AS a"), "-o", &format!("{folder}/{file}.parquet")]);
    }
    for (pattern, sum) in [("g/**/*.parquet", 6), ("g/*/*.parquet", 2), ("g/*.parquet", 1), ("g", 6)] {
        let sql = format!("SELECT sum(a) AS a FROM '{pattern}'");
        assert_eq!(other.asked(&["query", &sql, "--format", "json"]), format!("{{\"a\":{sum}}}\n"), "{pattern}");
    }
}

#[test]
fn several_statements_come_from_a_file_or_from_stdin() {
    let shop = Shop::ran();
    let script = "-- two\nSELECT 1 AS a;\nSELECT count(*) AS n FROM clicks;\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let expected = "a\n1\nn\n4\n";
    assert_eq!(shop.asked(&["query", "-f", text(file.path()), "--format", "csv"]), expected);
    assert_eq!(stdout(&shop.fed(&["query", "--format", "csv"], script)), expected);
}

#[test]
fn a_folder_that_never_ran_has_empty_tables() {
    let shop = Shop::new();
    let sql = "SELECT count(*) AS n, max(total) AS total FROM totals";
    assert_eq!(shop.asked(&["query", sql, "--format", "csv"]), "n,total\n0,\n");
    assert_eq!(shop.asked(&["query", "SELECT kind FROM clicks"]), "+------+\n| kind |\n+------+\n+------+\n(0 rows)\n");
    assert!(!shop.path("data").exists(), "asking has made something");
}

#[test]
fn without_a_folder_files_can_be_asked() {
    let shop = Shop::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = shop.command(&["query", "SELECT count(*) AS n FROM 'x.json'", "--format", "csv"]);
    std::fs::write(elsewhere.path().join("x.json"), "{\"a\": 1}\n{\"a\": 2}\n").unwrap();
    let output = command.current_dir(elsewhere.path()).output().unwrap();
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("n\n2\n", Some(0)), "{}", stderr(&output));
}

#[test]
fn the_history_is_listed() {
    let shop = Shop::ran();
    let listed = shop.asked(&["history"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["table", "version", "rows", "files", "size", "from", "to", "partitions"]);
    assert_eq!((lines[1][0], lines[1][2], lines[1][3]), ("clicks_history", "4", "2"), "{listed}");
    assert!(listed.contains("2026-11-29 12:00:00  2026-11-30 00:00:00  2 by day"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&shop.asked(&["history", "--format", "json"])).unwrap();
    assert_eq!(json[0]["table"], "clicks_history");
    assert_eq!((&json[0]["rows"], &json[1]["rows"]), (&4.into(), &4.into()));
    assert_eq!(json[0]["from"], "2026-11-29T12:00:00.500Z");
    assert_eq!(json[0]["partition_by"], serde_json::json!(["day"]));
}

#[test]
fn the_versions_of_a_table_are_listed_newest_first_and_can_be_asked() {
    let shop = Shop::ran();
    let listed = shop.asked(&["history", "clicks_history"]);
    assert!(listed.starts_with("version  written (UTC)"), "{listed}");
    let json = shop.asked(&["history", "clicks_history", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let versions = json.as_array().unwrap();
    let numbers: Vec<u64> = versions.iter().map(|version| version["version"].as_u64().unwrap()).collect();
    let newest = *numbers.first().unwrap();
    assert_eq!(numbers, (0..=newest).rev().collect::<Vec<_>>());
    assert_eq!(versions.iter().filter_map(|version| version["rows"].as_u64()).sum::<u64>(), 4, "{json:?}");
    assert!(versions.iter().any(|version| version["epoch"].as_u64() > Some(0)), "{json:?}");
    let count = |clause: String| {
        let sql = format!("SELECT count(*) AS n FROM clicks_history {clause}");
        shop.asked(&["query", &sql, "--format", "csv"])
    };
    assert_eq!(count(format!("VERSION AS OF {newest}")), "n\n4\n");
    assert_eq!(count("TIMESTAMP AS OF now()".into()), "n\n4\n");
}

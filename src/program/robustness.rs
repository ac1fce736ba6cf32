//! Whatever stands in a file: no panic, and every mistake has a place that can be shown.

use proptest::prelude::*;

use super::tests::{connectors, variables};
use super::*;

const SAMPLE: &str = "-- a shop's líne\r
CREATE TABLE IF NOT EXISTS t (
    a BIGINT NOT NULL, s STRUCT(x INT, y ARRAY<ROW<z TEXT>>)[], o BIGINT METADATA FROM 'offset',
    ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(a)) STORED, PRIMARY KEY (a) NOT ENFORCED,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH ('connector' = 'both', topic = 'ñ''${TOPIC:-é}$${x}', 'password' = '${TOKEN}', late_rows = 'l', 'emit_early' = '1s');
CREATE VIEW v (x, y) AS WITH c AS (SELECT * FROM t) SELECT a, \"s\"[1]['x'] FROM c;\t/* note */
INSERT INTO t (a, s) SELECT x, y FROM v GROUP BY tumble(INTERVAL '1 minute') HAVING count(*) > 3;
SELECT 'text — with ''quotes''' FROM v JOIN t ON v.x = t.a;
";

/// Pieces that mean something to the grammar.
const PIECES: [&str; 22] = [
    ";",
    "'",
    "\"",
    "(",
    ")",
    "<",
    ">",
    ">>",
    ",",
    ".",
    "=",
    "${",
    "}",
    "/*",
    "--",
    "\n",
    "é",
    "CREATE TABLE ",
    "ROW",
    " STRUCT(",
    " WITH ",
    "\u{0}",
];

/// An edit of the sample: at which character, how many go, and which piece comes.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    proptest::collection::vec((0..SAMPLE.chars().count(), 0..40usize, 0..=PIECES.len()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_edited_program_never_panics(edits in edits()) {
        let mut characters: Vec<char> = SAMPLE.chars().collect();
        for (at, gone, piece) in edits {
            let at = at.min(characters.len());
            let end = (at + gone).min(characters.len());
            characters.splice(at..end, PIECES.get(piece).copied().unwrap_or_default().chars());
        }
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), characters.into_iter().collect());
        if let Err(errors) = Program::parse(files, &variables(), &connectors()) {
            for error in &errors.errors {
                let places = error.location.iter().chain(error.related.iter().map(|(place, _)| place));
                for place in places {
                    prop_assert!(errors.files.text(0).get(place.start as usize..place.end as usize).is_some());
                }
            }
            prop_assert!(errors.render(true).contains("q.sql:"));
        }
    }
}

#[test]
fn the_sample_itself_has_one_mistake() {
    let mut files = SourceFiles::default();
    files.add("q.sql".into(), SAMPLE.into());
    let Err(errors) = Program::parse(files, &variables(), &connectors()) else { panic!("no mistake") };
    let messages: Vec<&str> = errors.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["there is no table or view 'l'"]);
}

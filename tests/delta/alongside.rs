//! Reading while the pipeline writes, puts small files together and keeps its log short.

use std::time::{Duration, Instant};

use crate::numbers::Numbered;
use crate::others::{Others, READERS};
use crate::pipeline::Pipeline;

#[test]
fn readers_see_a_whole_table_while_it_is_written_and_put_together() {
    let (others, place) = (Others::start(), Numbered::new(1_000_000, 1000, "7 days"));
    let table = place.table();
    let mut pipeline = Pipeline::start(place.command());
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut reached = 0;
    let mut reads = 0;
    // Until what is to be read alongside has happened.
    while reads < 12 || others.operations(&table).iter().filter(|done| *done == "OPTIMIZE").count() < 3 {
        assert!(Instant::now() < deadline && !pipeline.has_ended(), "{reads} reads\n{}", pipeline.said());
        let rows = place.verdict(&others, READERS[reads % READERS.len()]).unwrap_or_else(|wrong| {
            panic!("read {reads}: {wrong}\n{}", pipeline.said());
        });
        assert!(rows >= reached, "read {reads}: there were {reached} rows, and now there are {rows}");
        reached = rows;
        if rows == 0 {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        reads += 1;
    }
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());

    // Many commits, few files; and every version is still there, as it was.
    let operations = others.operations(&table);
    let files = others.files(&table).unwrap().len();
    assert!(operations.len() > 30, "{operations:?}");
    assert!(files < operations.len(), "{files} files after {} commits", operations.len());
    assert!(table.join("_delta_log/_last_checkpoint").exists());
    assert!(!place.files(".checkpoint.parquet").is_empty());
    let newest = operations.len() as u64 - 1;
    let mut before = 0;
    for version in [newest / 3, newest / 2, newest] {
        let counted = READERS.map(|reader| others.rows(reader, &table, Some(version)).unwrap().len());
        assert!(counted.iter().all(|rows| *rows == counted[0] && *rows >= before), "{version}: {counted:?}");
        before = counted[0];
    }

    // A run with a short retention takes away what older versions alone need.
    let mut short = place.command();
    short.env("RETENTION", "1 ms");
    assert!(place.files(".parquet").len() > files);
    let mut pipeline = Pipeline::start(short);
    let deadline = Instant::now() + Duration::from_secs(60);
    while others.rows("deltalake", &table, Some(newest / 3)).is_ok() {
        assert!(Instant::now() < deadline && !pipeline.has_ended(), "{}", pipeline.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
    for reader in READERS {
        assert!(place.verdict(&others, reader).unwrap() >= reached, "{reader}");
    }
}

#[test]
fn a_table_that_has_lost_a_file_ends_the_run_and_says_which() {
    let (others, place) = (Others::start(), Numbered::new(1_000_000, 1000, "7 days"));
    let mut pipeline = Pipeline::start(place.command());
    let deadline = Instant::now() + Duration::from_secs(60);
    while place.commits() < 5 {
        assert!(Instant::now() < deadline && !pipeline.has_ended(), "{}", pipeline.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    pipeline.kill();
    let files = others.files(&place.table()).unwrap();
    let lost = files.iter().max_by_key(|file| file.metadata().unwrap().modified().unwrap()).unwrap();
    std::fs::remove_file(lost).unwrap();
    // It is found when it is to be put together with others.
    let mut pipeline = Pipeline::start(place.command());
    let said = pipeline.until(", which is not there: put the file back from a copy, or take it out of the log");
    assert!(said.contains(lost.file_name().unwrap().to_str().unwrap()), "{said}");
    assert!(pipeline.exit_code().is_some_and(|code| code != 0), "{}", pipeline.said());
}

//! A file whose name another one takes: while it is followed, and between two runs.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::tests::{open_table, source_context, two_columns};
use crate::connectors::{ConnectorError, Source, SourceContext, SourceEvent};

/// A log, and what a run keeps of it.
struct Log {
    folder: tempfile::TempDir,
    context: SourceContext,
    follow: &'static str,
    source: Option<Box<dyn Source>>,
    came: Vec<String>,
}

impl Log {
    /// With the lines 1 to 3, which a run has read.
    async fn read_to_line_3(follow: &'static str) -> Log {
        let context = source_context(two_columns().physical_schema());
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log { folder, context, follow, source: None, came: vec![] };
        log.add("in.jsonl", 1..=3);
        log.start().await;
        log.comes(1..=3).await;
        // Until the trace is told, too.
        while !log.origin().contains("next 4") {
            log.event().await.unwrap();
        }
        log
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add(&self, name: &str, numbers: std::ops::RangeInclusive<u32>) {
        let text: String = numbers.map(|number| format!("{{\"n\":{number}}}\n")).collect();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn copy_and_truncate(&self) {
        fs::copy(self.path("in.jsonl"), self.path("in.jsonl.1")).unwrap();
        fs::File::options().write(true).open(self.path("in.jsonl")).unwrap().set_len(0).unwrap();
    }

    async fn try_start(&mut self) -> Result<(), ConnectorError> {
        let path = self.path("in.jsonl");
        let table = open_table(&two_columns(), &[("path", path.to_str().unwrap()), ("follow", self.follow)]);
        let factory = table.source().unwrap();
        factory.instances(&self.context, 4).await?;
        self.source = Some(factory.open(self.context.clone()).await?);
        self.came.clear();
        Ok(())
    }

    async fn start(&mut self) {
        self.try_start().await.unwrap();
    }

    fn stop(&mut self) {
        self.source = None;
    }

    fn origin(&self) -> String {
        self.context.split_origins.values().next().cloned().unwrap_or_default()
    }

    /// The next event, kept as a run keeps it.
    async fn event(&mut self) -> Result<(), ConnectorError> {
        let source = self.source.as_mut().unwrap();
        let event = timeout(Duration::from_secs(20), source.next()).await.expect("more comes")?;
        let name = self.path("in.jsonl").display().to_string();
        match event {
            SourceEvent::Records(records) => {
                let next = self.context.positions.get(&name).copied().unwrap_or(1);
                assert_eq!(records.offsets[0], next, "each once, in order");
                self.context.positions.insert(name, records.offsets.last().unwrap() + 1);
                self.came.extend(
                    (0..records.len()).map(|row| String::from_utf8_lossy(records.value(row)).trim().to_owned()),
                );
            }
            SourceEvent::Origin(_, origin) => drop(self.context.split_origins.insert(name, origin)),
            SourceEvent::Replaced(_, next, origin) => {
                self.context.positions.insert(name.clone(), next);
                self.context.split_origins.insert(name, origin);
            }
            SourceEvent::End => self.came.push("end".into()),
            SourceEvent::Split(..) | SourceEvent::CaughtUp(_) | SourceEvent::SplitEnd(_) => {}
            SourceEvent::Rows(..) => panic!("lines"),
        }
        Ok(())
    }

    /// These numbers come, and no others.
    async fn comes(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let wanted: Vec<String> = numbers.into_iter().map(|number| format!("{{\"n\":{number}}}")).collect();
        while self.came.len() < wanted.len() {
            self.event().await.unwrap();
        }
        assert_eq!(std::mem::take(&mut self.came), wanted);
    }

    async fn nothing_comes_for(&mut self, seconds: u64) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while let Ok(event) = timeout_at(until, self.source.as_mut().unwrap().next()).await {
            let event = event.unwrap();
            assert!(!matches!(event, SourceEvent::Records(_) | SourceEvent::Replaced(..)), "{event:?}");
        }
    }

    async fn refusal(&mut self) -> String {
        loop {
            match self.event().await {
                Ok(()) => {}
                Err(error) => {
                    assert!(matches!(error, ConnectorError::Mismatch { .. }), "{error}");
                    return error.to_string().replace(&self.path("in.jsonl").display().to_string(), "PATH");
                }
            }
        }
    }
}

const WAY_OUT: &str = "To read what is there now from its first record, and go without what is gone, run with \
                       --accept-lost-input";

#[tokio::test]
async fn a_rotated_file_is_read_to_its_end_and_then_the_new_one() {
    let mut log = Log::read_to_line_3("true").await;
    log.rename("in.jsonl", "in.jsonl.1");
    log.add("in.jsonl.1", 4..=4);
    log.add("in.jsonl", 101..=108);
    log.add("in.jsonl.1", 5..=5);
    log.comes([4, 5].into_iter().chain(101..=108)).await;
    // Its writer stays a moment with the old one, and the new one comes later.
    log.rename("in.jsonl", "in.jsonl.1");
    log.nothing_comes_for(2).await;
    log.add("in.jsonl.1", 109..=109);
    log.comes(109..=109).await;
    log.add("in.jsonl", 201..=210);
    log.comes(201..=210).await;
    // A line that was never ended ends with its file.
    fs::OpenOptions::new().append(true).open(log.path("in.jsonl")).unwrap().write_all(b"{\"n\":211}").unwrap();
    log.rename("in.jsonl", "in.jsonl.1");
    log.add("in.jsonl", 301..=301);
    log.comes([211, 301]).await;
}

#[tokio::test]
async fn what_is_rotated_twice_before_it_is_looked_at_is_read_in_turn() {
    let mut log = Log::read_to_line_3("true").await;
    log.rename("in.jsonl", "in.jsonl.1");
    log.add("in.jsonl", 101..=103);
    log.rename("in.jsonl.1", "in.jsonl.2");
    log.rename("in.jsonl", "in.jsonl.1");
    log.add("in.jsonl", 201..=202);
    log.comes([101, 102, 103, 201, 202]).await;
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_read_anew_however_long_it_is() {
    let mut log = Log::read_to_line_3("true").await;
    log.copy_and_truncate();
    log.add("in.jsonl", 101..=120);
    log.comes(101..=120).await;
    // Nobody has kept a copy, and the new one is shorter, or as long.
    for numbers in [201..=202, 301..=302] {
        fs::write(log.path("in.jsonl"), "").unwrap();
        log.add("in.jsonl", numbers.clone());
        log.comes(numbers).await;
    }
    log.add("in.jsonl", 303..=303);
    log.comes(303..=303).await;
}

#[tokio::test]
async fn a_file_that_is_written_again_as_it_was_is_read_on() {
    let mut log = Log::read_to_line_3("true").await;
    fs::write(log.path("in.jsonl"), "{\"n\":1}\n").unwrap();
    log.nothing_comes_for(1).await;
    log.add("in.jsonl", 2..=5);
    log.comes(4..=5).await;
    // As an editor does, by another file.
    log.add("new", 1..=6);
    log.rename("new", "in.jsonl");
    log.comes(6..=6).await;
}

#[tokio::test]
async fn after_a_restart_it_goes_on_in_what_was_rotated() {
    for follow in ["true", "false"] {
        // Renamed, more than once.
        let mut log = Log::read_to_line_3(follow).await;
        log.stop();
        log.add("in.jsonl", 4..=5);
        log.rename("in.jsonl", "in.jsonl.2");
        log.add("in.jsonl.1", 101..=102);
        log.add("in.jsonl", 201..=208);
        log.start().await;
        log.comes([4, 5, 101, 102].into_iter().chain(201..=208)).await;
        // Copied and cut off.
        let mut log = Log::read_to_line_3(follow).await;
        log.stop();
        log.add("in.jsonl", 4..=4);
        log.copy_and_truncate();
        log.add("in.jsonl", 101..=101);
        log.start().await;
        log.comes([4, 101]).await;
        // And once more, from within the new one.
        log.stop();
        log.add("in.jsonl", 102..=102);
        log.start().await;
        log.comes(102..=102).await;
    }
}

#[tokio::test]
async fn a_file_that_another_one_has_replaced_stops_the_start_until_that_is_accepted() {
    for follow in ["true", "false"] {
        for numbers in [101..=108, 101..=101] {
            let mut log = Log::read_to_line_3(follow).await;
            log.stop();
            fs::remove_file(log.path("in.jsonl")).unwrap();
            log.add("in.jsonl", numbers.clone());
            log.start().await;
            assert_eq!(
                log.refusal().await,
                format!(
                    "PATH: another file is in the place of the one that was read up to line 3, and that one is not \
                     beside it: what came in it after that line is gone. {WAY_OUT}"
                )
            );
            log.context.accept_lost_input = true;
            log.start().await;
            log.comes(numbers).await;
            log.context.accept_lost_input = false;
            log.stop();
            log.add("in.jsonl", 109..=109);
            log.start().await;
            log.comes(109..=109).await;
        }
    }
}

#[tokio::test]
async fn checkpoints_that_do_not_say_what_was_read_go_on_by_lines() {
    let mut log = Log::read_to_line_3("true").await;
    log.stop();
    log.context.split_origins.clear();
    log.add("in.jsonl", 4..=4);
    log.start().await;
    log.comes(4..=4).await;
    log.stop();
    log.context.split_origins.clear();
    fs::write(log.path("in.jsonl"), "{\"n\":1}\n").unwrap();
    log.start().await;
    let message = "PATH: it has 1 lines, but 4 were read before: it was replaced, or cut off.";
    assert_eq!(log.refusal().await, format!("{message} {WAY_OUT}"));
    log.context.accept_lost_input = true;
    log.start().await;
    log.comes(1..=1).await;
}

#[tokio::test]
async fn a_copy_is_as_good_as_the_file() {
    let mut log = Log::read_to_line_3("true").await;
    log.stop();
    fs::copy(log.path("in.jsonl"), log.path("copy")).unwrap();
    log.rename("copy", "in.jsonl");
    log.add("in.jsonl", 4..=4);
    log.start().await;
    log.comes(4..=4).await;
}

#[tokio::test]
async fn a_followed_file_that_was_there_is_waited_for() {
    let mut log = Log::read_to_line_3("true").await;
    log.rename("in.jsonl", "away");
    log.nothing_comes_for(1).await;
    log.stop();
    log.start().await;
    log.nothing_comes_for(1).await;
    log.rename("away", "in.jsonl");
    log.add("in.jsonl", 4..=4);
    log.comes(4..=4).await;
    // One that never was there is a mistake.
    log.stop();
    log.context.positions.clear();
    log.rename("in.jsonl", "away");
    sleep(Duration::from_millis(10)).await;
    let error = log.try_start().await.unwrap_err().to_string();
    assert!(error.contains(": no such file"), "{error}");
}

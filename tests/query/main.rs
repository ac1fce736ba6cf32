//! `acequia query` and `acequia history` as a person meets them, on tables that a run has written.

mod answers;
mod messages;
#[path = "../servers/pipeline.rs"]
mod pipeline;
mod prompt;
mod running;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use pipeline::acequia;
use tempfile::TempDir;

/// Clicks from a file, recorded by day, and the sums of two days' windows.
const FOLDER: &str = "\
CREATE TABLE clicks (
    kind TEXT NOT NULL, \"timestamp\" TIMESTAMP NOT NULL, amount BIGINT, \"offset\" BIGINT METADATA FROM 'offset',
    WATERMARK FOR \"timestamp\" AS \"timestamp\" - INTERVAL '1 second'
) WITH (connector = 'file', path = '@/clicks.jsonl', format = 'json');
CREATE TABLE clicks_history (kind TEXT NOT NULL, \"timestamp\" TIMESTAMP NOT NULL, amount BIGINT, \"offset\" BIGINT, day DATE)
WITH (connector = 'delta', partition_by = 'day', history_of = 'clicks');
CREATE TABLE totals (kind TEXT, total BIGINT, minute TIMESTAMP) WITH (connector = 'delta');

INSERT INTO clicks_history SELECT kind, \"timestamp\", amount, \"offset\", CAST(\"timestamp\" AS DATE) AS day FROM clicks;
INSERT INTO totals
SELECT kind, total, w.start FROM (
    SELECT kind, sum(amount) AS total, tumble(INTERVAL '1 minute') AS w FROM clicks GROUP BY kind, w
);
";

const CLICKS: &str = "\
{\"kind\": \"view\", \"timestamp\": \"2026-11-29T12:00:00.5Z\", \"amount\": 1}
{\"kind\": \"buy\", \"timestamp\": \"2026-11-29T12:00:01Z\", \"amount\": 20}
{\"kind\": \"view\", \"timestamp\": \"2026-11-29T12:01:02Z\", \"amount\": 3}
{\"kind\": \"buy, again\", \"timestamp\": \"2026-11-30T00:00:00Z\", \"amount\": null}
";

/// A folder, and where its run keeps its files.
struct Shop {
    place: TempDir,
}

impl Shop {
    /// Nothing has run yet.
    fn new() -> Shop {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().display().to_string();
        std::fs::create_dir(place.path().join("queries")).unwrap();
        std::fs::write(place.path().join("queries/clicks.sql"), FOLDER.replace('@', &root)).unwrap();
        std::fs::write(place.path().join("clicks.jsonl"), CLICKS).unwrap();
        Shop { place }
    }

    /// One that has run to the end of its input; shared by the tests that only ask.
    fn ran() -> &'static Shop {
        static RAN: OnceLock<Shop> = OnceLock::new();
        RAN.get_or_init(|| {
            let shop = Shop::new();
            let output = shop.command(&["run", "queries", "--bounded", "--no-http"]).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            shop
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The binary in the shop's folder, with its data.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = acequia();
        command.current_dir(self.place.path()).env("ACEQUIA__RUN__DATA_DIR", self.path("data")).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a query that goes well prints.
    fn asked(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{arguments:?}");
        stdout(&output)
    }

    /// The same with something on stdin.
    fn fed(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

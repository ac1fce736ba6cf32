//! Those who read Delta tables without knowing Acequia: deltalake's Python, DuckDB, Polars, and pyarrow's datasets.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use parking_lot::Mutex;
use serde_json::{Value, json};

/// Each reads a table by its own code, or puts rows together by its own.
pub const READERS: [&str; 4] = ["deltalake", "pyarrow", "duckdb", "polars"];

/// A Python that has them all loaded.
pub struct Others(Mutex<Python>);

struct Python {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The numbers that a table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers {
    pub rows: i64,
    pub different: i64,
    pub smallest: i64,
    pub largest: i64,
}

impl Numbers {
    /// Whether it is 0 and what follows, each once.
    pub fn are_whole(self) -> bool {
        self.rows == self.different && self.smallest == 0 && self.largest == self.rows - 1
    }
}

impl Others {
    pub fn start() -> Others {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = Command::new(root.join("scripts/python.sh")).arg("install").output().unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let python = String::from_utf8(installed.stdout).unwrap();
        let mut command = Command::new(python.trim());
        command.arg(root.join("tests/delta/readers.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (requests, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Others(Mutex::new(Python { child, requests, answers }))
    }

    /// The answer to a request, or what Python has to say of it.
    pub fn ask(&self, request: &Value) -> Result<Value, String> {
        let mut python = self.0.lock();
        writeln!(python.requests, "{request}").unwrap();
        let mut line = String::new();
        python.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        match answer.get_mut("answer") {
            Some(answer) => Ok(answer.take()),
            None => Err(answer["error"].as_str().unwrap().to_owned()),
        }
    }

    /// All rows of a table as one of [`READERS`] sees them.
    pub fn rows(&self, reader: &str, table: &Path, version: Option<u64>) -> Result<Vec<Value>, String> {
        let answer = self.ask(&json!({"do": "read", "reader": reader, "table": table, "version": version}))?;
        Ok(answer.as_array().unwrap().clone())
    }

    /// What DuckDB says.
    pub fn sql(&self, sql: &str) -> Value {
        self.ask(&json!({"do": "sql", "sql": sql})).unwrap()
    }

    /// The numbers in column `n`.
    pub fn numbers(&self, reader: &str, table: &Path) -> Result<Numbers, String> {
        let answer = self.ask(&json!({"do": "numbers", "reader": reader, "table": table}))?;
        let number = |index: usize| answer[index].as_i64().unwrap_or(-1);
        Ok(Numbers { rows: number(0), different: number(1), smallest: number(2), largest: number(3) })
    }

    /// The files of the newest version, if every one of them is there.
    pub fn files(&self, table: &Path) -> Result<Vec<PathBuf>, String> {
        let mut look = self.ask(&json!({"do": "look", "table": table}))?;
        match look["missing"].as_array().unwrap().as_slice() {
            [] => Ok(serde_json::from_value(look["files"].take()).unwrap()),
            missing => Err(format!("the log names files that are not there: {missing:?}")),
        }
    }

    /// What was done in each version that the log still tells of, the newest first.
    pub fn operations(&self, table: &Path) -> Vec<String> {
        let answer = self.ask(&json!({"do": "operations", "table": table})).unwrap();
        serde_json::from_value(answer).unwrap()
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let python = self.0.get_mut();
        let _ = python.child.kill();
        let _ = python.child.wait();
    }
}

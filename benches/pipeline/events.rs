//! The events that are measured with: 174 bytes of JSON, 7 fields, from a seed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Result;

const CATEGORIES: [&str; 6] = ["electronics", "books", "clothing", "home", "sports", "toys"];
const BYTES: usize = 174;
/// How far events are out of order.
const DISORDER_MICROS: u64 = 1_000_000;

/// A stretch of events.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Events {
    /// How many.
    pub count: usize,
    /// How many categories: 6 have names, more have numbers.
    pub keys: usize,
    /// Event time between two of them.
    pub micros_between: u64,
}

impl Events {
    /// Calls `each` with every event in turn, without a newline.
    pub fn each(&self, mut each: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let keys: Vec<Arc<str>> = match self.keys {
            6 => CATEGORIES.iter().map(|name| Arc::from(*name)).collect(),
            keys => (0..keys).map(|key| format!("category-{key:05}").into()).collect(),
        };
        let mut random = ChaCha8Rng::seed_from_u64(17);
        let mut text = Vec::with_capacity(256);
        for event in 0..self.count {
            let micros = event as u64 * self.micros_between + random.random_range(0..DISORDER_MICROS);
            let millis = micros / 1000;
            text.clear();
            write!(
                text,
                r#"{{"event_type":"transaction","timestamp":"2026-11-{:02}T{:02}:{:02}:{:02}.{:03}Z","customer_id":{},"category":"{}","quantity":{},"amount":{}.{:02},"session_id":""#,
                1 + millis / 86_400_000,
                millis / 3_600_000 % 24,
                millis / 60_000 % 60,
                millis / 1000 % 60,
                millis % 1000,
                random.random_range(1..10_000),
                keys[random.random_range(0..keys.len())],
                random.random_range(1..10),
                random.random_range(1..500),
                random.random_range(0..100),
            )?;
            while text.len() < BYTES - 2 {
                text.push(b"0123456789abcdef"[random.random_range(0..16)]);
            }
            text.extend_from_slice(b"\"}");
            each(event, &text)?;
        }
        Ok(())
    }

    /// A file of all events; made if it is not there.
    pub fn file(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(format!("{}.jsonl", self.name()));
        if !path.exists() {
            self.write(std::slice::from_ref(&path))?;
        }
        Ok(path)
    }

    /// A folder with two files, every other event in each; made if it is not there.
    pub fn halves(&self, dir: &Path) -> Result<PathBuf> {
        let folder = dir.join(self.name());
        if !folder.exists() {
            std::fs::create_dir(&folder)?;
            self.write(&[folder.join("0.jsonl"), folder.join("1.jsonl")])?;
        }
        Ok(folder)
    }

    fn name(&self) -> String {
        format!("events-{}-{}-{}", self.count, self.keys, self.micros_between)
    }

    /// Deals the events out to files.
    fn write(&self, paths: &[PathBuf]) -> Result<()> {
        eprintln!("writing {} events to {}", self.count, paths[0].display());
        let partial: Vec<PathBuf> = paths.iter().map(|path| path.with_extension("partial")).collect();
        let files = partial.iter().map(|path| Ok(BufWriter::with_capacity(1 << 20, File::create(path)?)));
        let mut files = files.collect::<Result<Vec<_>>>()?;
        self.each(|event, text| {
            let to = event % files.len();
            files[to].write_all(text)?;
            Ok(files[to].write_all(b"\n")?)
        })?;
        for (mut file, (partial, path)) in files.into_iter().zip(partial.iter().zip(paths)) {
            file.flush()?;
            std::fs::rename(partial, path)?;
        }
        Ok(())
    }
}

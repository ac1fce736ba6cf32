//! Small files that a person can read: JSON, and below it a line with its length and checksum.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::faults::{Bug, planted};

/// The newest layout that is written, and that is read.
pub const FORMAT: u64 = 1;

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It is not what was written.
    Torn(String),
    /// A newer Acequia has written it.
    Newer(u64),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Flaw::Torn(what) => f.write_str(what),
            Flaw::Newer(format) => write!(
                f,
                "it was written by a newer acequia (format {format}, this one reads up to {FORMAT}): go on with that one"
            ),
        }
    }
}

/// Writes a value with its checksum.
pub fn seal(value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let last = last_line(&text);
    text.extend_from_slice(last.as_bytes());
    Ok(text.into())
}

/// Reads what [`seal`] wrote.
///
/// # Errors
/// When a bit of it is not as it was, or a newer version wrote it.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Flaw> {
    let torn = |what: String| Flaw::Torn(what);
    let end = bytes.strip_suffix(b"\n").and_then(|text| memchr::memrchr(b'\n', text));
    let Some(end) = end else { return Err(torn(format!("cut off: {} bytes without a checksum", bytes.len()))) };
    let (text, last) = bytes.split_at(end + 1);
    if last != last_line(text).as_bytes() && !planted(Bug::ChecksumIgnored) {
        return Err(torn("its checksum does not match what it holds".into()));
    }
    #[derive(serde::Deserialize)]
    struct Format {
        format: u64,
    }
    let format: Format = serde_json::from_slice(text).map_err(|error| torn(error.to_string()))?;
    if format.format > FORMAT {
        return Err(Flaw::Newer(format.format));
    }
    serde_json::from_slice(text).map_err(|error| torn(error.to_string()))
}

fn last_line(text: &[u8]) -> String {
    format!("{{\"crc32\": \"{:08x}\", \"bytes\": {}}}\n", crc32fast::hash(text), text.len())
}

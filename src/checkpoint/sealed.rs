//! Small files that a person can read: JSON, and below it a line with its length and checksum.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::Check;
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
    let text = checked(bytes).map_err(torn)?;
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

/// Finds what is wrong with what [`seal`] wrote.
pub fn check() -> Check {
    Arc::new(|bytes| checked(bytes).map(drop))
}

/// What the checksum is of.
fn checked(bytes: &[u8]) -> Result<&[u8], String> {
    let end = bytes.strip_suffix(b"\n").and_then(|text| memchr::memrchr(b'\n', text));
    let Some(end) = end else { return Err(format!("cut off: {} bytes without a checksum", bytes.len())) };
    let (text, last) = bytes.split_at(end + 1);
    match last == last_line(text).as_bytes() || planted(Bug::ChecksumIgnored) {
        true => Ok(text),
        false => Err("its checksum does not match what it holds".into()),
    }
}

fn last_line(text: &[u8]) -> String {
    format!("{{\"crc32\": \"{:08x}\", \"bytes\": {}}}\n", crc32fast::hash(text), text.len())
}

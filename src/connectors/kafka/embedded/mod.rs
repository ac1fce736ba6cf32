//! A Kafka in the data folder, so that everything runs with nothing installed and loses nothing when it ends.
//!
//! Topics are logs of our own, without a server: `DATA_DIR/kafka/TOPIC/` holds [`segment`]s, files to which [`frame`]s
//! are appended. A frame holds records of every partition, in [`block`]s, and becomes visible as a whole: an epoch, with
//! the marker of the sink that wrote it, or some records of a sink that writes at once. It is synced before anybody
//! reads it; what a crash leaves half-written is cut off at the next opening ([`appender`]).
//!
//! One process at a time writes a data folder's topics ([`broker`]); its sources ([`source`], each split a [`cursor`])
//! are woken by its sinks ([`sink`]). Others may look at what is there now, as an audit does ([`look`] is for people).

mod appender;
mod batch;
mod block;
mod broker;
mod cursor;
mod feeder;
mod frame;
pub mod look;
mod segment;
pub(super) mod sink;
pub(super) mod source;
mod start;
#[cfg(test)]
mod tests;
mod topic;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

pub use feeder::Feeder;

/// How many partitions an embedded topic has.
pub const PARTITIONS: usize = 3;

/// An offset for each partition.
type Offsets = [i64; PARTITIONS];

/// The folder of a data folder's topics.
fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("kafka")
}

/// For messages: `embedded Kafka in acequia-data/kafka`.
fn what(folder: &Path) -> String {
    format!("embedded Kafka in {}", folder.display())
}

/// A name unlike any other.
fn new_id() -> String {
    // The standard library's hash keys come from the system's randomness.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

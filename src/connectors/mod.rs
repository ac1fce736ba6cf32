//! The outside world behind two traits: sources bring records in, sinks take rows out.
//!
//! One folder a connector. A connector parses its table's options once, into a typed struct, when the SQL is read
//! ([`Connector::table`]); the runtime later opens [`Source`]s and [`Sink`]s from what came of it. Connectors know
//! tables, formats and their own protocol; they know neither the planner nor the dataflow. Adding one is a folder
//! and a line in [`registry`].

pub mod blackhole;
mod cryptography;
pub mod datagen;
pub mod delivery;
pub mod delta;
mod disk;
pub(crate) mod durable;
pub mod file;
pub mod json_column;
pub mod kafka;
mod lines;
pub mod looking;
mod made_up;
#[cfg(test)]
pub(crate) mod moto;
pub mod nexmark;
pub mod postgres;
mod read_ahead;
pub mod redis;
pub mod refused_rows;
pub mod registry;
pub mod retry;
pub mod sql_table;
pub mod sqlite;
pub mod stdout;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::catalog::options::Options;
use crate::catalog::{TableDefinition, TableName};
use crate::formats::{DecodeOptions, FormatError, RawRecords, SplitIndex, SplitRun};
use crate::time::Epoch;
pub use cryptography::choose_cryptography;
use delivery::{Delivery, OpenSink, Writer};
use delta::DeltaHistory;
use looking::{CurrentRows, Reach, TableDatabase};

/// A kind of table, named by `connector = '...'`.
pub trait Connector: Send + Sync {
    /// The name in SQL.
    fn name(&self) -> &'static str;

    /// Parses the options of one table. Takes every option that it knows out of `options` and reports what is wrong
    /// with [`Options::error`]; the caller reports what is left over as unknown. What is returned is used only when
    /// no error was reported.
    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable>;
}

/// The split in which refused rows are read back.
pub const DEAD_LETTERS: &str = "dead letters";

/// A table with its options understood: what it can do.
pub trait ConnectorTable: Send + Sync {
    /// How to read it, or `None` if it can only be written.
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        None
    }

    /// How to read back all that its sink has written, from the first row on, for an audit; `None` if it cannot be.
    /// Rows that the destination has refused and keeps apart come in a split named [`DEAD_LETTERS`].
    fn read_back(&self) -> Option<Arc<dyn SourceFactory>> {
        self.source()
    }

    /// How to write it, or `None` if it can only be read.
    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        None
    }

    /// How to see the newest rows that its destination holds, if it holds one for each key.
    fn current(&self) -> Option<Box<dyn CurrentRows>> {
        None
    }

    /// The database in which it lies, if it lies in one; embedded ones are in `data_dir`.
    fn database(&self, _data_dir: &Path) -> Option<TableDatabase> {
        None
    }

    /// What of its rows is kept for batch SQL and for a run over the past; embedded parts are in `data_dir`.
    fn history(&self, _data_dir: &Path) -> Option<DeltaHistory> {
        None
    }

    /// The table of the folder whose every row it records, as its option `history_of` says.
    fn history_of(&self) -> Option<&TableName> {
        None
    }

    /// How to see whether its server answers; `None` for one that is embedded, and where nobody has asked yet.
    fn reach(&self) -> Option<Box<dyn Reach>> {
        None
    }

    /// The file of JSON lines that its sink appends to, if it is one.
    fn json_lines(&self) -> Option<&Path> {
        None
    }

    /// The file that its sink appends lines to, if it is one.
    fn written_file(&self) -> Option<&Path> {
        None
    }

    /// Whether its source reads `file`, as far as its options say.
    fn reads_file(&self, _file: &Path) -> bool {
        false
    }

    /// What the user could do to have it read, if it can only be written.
    fn to_be_read(&self) -> Option<String> {
        None
    }

    /// What the user could do to have it written, if it can only be read.
    fn to_be_written(&self) -> Option<String> {
        None
    }

    /// Set when an in-process stand-in serves this table: what it stands in for, such as `"Kafka"`.
    fn embedded(&self) -> Option<&'static str> {
        None
    }

    /// The name of the embedded database that holds the table, such as `shop`, if one does.
    fn embedded_database(&self) -> Option<&str> {
        None
    }
}

/// Whether a source ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boundedness {
    /// Ends: a file that is not followed.
    Bounded,
    /// Goes on until stopped, unless the run is `--bounded`.
    Unbounded,
}

/// How a source's events become rows.
#[derive(Clone, Debug)]
pub enum Decoding {
    /// It sends [`SourceEvent::Records`], which a decoder of this format reads.
    Format(DecodeOptions),
    /// It sends [`SourceEvent::Rows`], already in the columns asked for.
    Rows,
}

/// Opens the instances of a source.
#[async_trait]
pub trait SourceFactory: Send + Sync {
    /// Whether it ends by itself.
    fn boundedness(&self) -> Boundedness;

    /// How its events become rows.
    fn decoding(&self) -> Decoding;

    /// One line for `explain` and logs, such as `kafka topic transactions at localhost:9092`. Holds no secret.
    fn describe(&self) -> String;

    /// The consumer group in which `table` of `pipeline` reads, for those who watch its lag; `None` where there are no
    /// such groups.
    fn consumer_group(&self, _pipeline: &str, _table: &str) -> Option<String> {
        None
    }

    /// The topics whose partitions are its splits, named such as `transactions[3]`; none where splits are something else.
    fn topics(&self) -> &[String] {
        &[]
    }

    /// Set when its rows are made up: their times may run ahead of the clock.
    fn is_made_up(&self) -> bool {
        false
    }

    /// How many instances are worth opening when `parallelism` tasks are to be had: at most the number of splits.
    /// May ask the server; waits for it as [`Source::next`] does.
    ///
    /// # Errors
    /// As for [`Source::next`].
    async fn instances(&self, context: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError>;

    /// Opens one instance. The splits are dealt out by a rule that depends only on their names and the number of
    /// instances.
    ///
    /// # Errors
    /// When the source cannot be had even by waiting, such as a missing file.
    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError>;
}

/// What an instance of a source is told when it opens.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// The table's name in SQL.
    pub table: String,
    /// The name of the running pipeline: client ids and default group names begin with it.
    pub pipeline: String,
    /// Which instance this is, from 0.
    pub instance: usize,
    /// How many there are.
    pub instances: usize,
    /// Stop at the end of what is there now, and send [`SourceEvent::End`].
    pub bounded: bool,
    /// The physical columns that the plan needs, in the table's order: what [`SourceEvent::Rows`] must hold.
    pub schema: SchemaRef,
    /// Whether [`RawRecords::keys`] are wanted.
    pub wants_keys: bool,
    /// Whether [`RawRecords::timestamps`] are wanted.
    pub wants_timestamps: bool,
    /// Whether [`RawRecords::headers`] are wanted.
    pub wants_headers: bool,
    /// At most this many records an event.
    pub batch_size: usize,
    /// Where to go on, by split name: the offset of the next record. A split that is not in it starts where the
    /// options say.
    pub positions: BTreeMap<String, i64>,
    /// What [`Source::origin`] said when those positions were noted.
    pub origin: Option<String>,
    /// What [`SourceEvent::Origin`] said last before those positions, by split name.
    pub split_origins: BTreeMap<String, String>,
    /// Records that `positions` ask for and that are not there any more are left out with a warning
    /// (`--accept-lost-input`); otherwise that is an error.
    pub accept_lost_input: bool,
    /// Where embedded parts keep their files.
    pub data_dir: PathBuf,
    /// Cancelled when the pipeline stops; everything that waits must watch it.
    pub stop: CancellationToken,
}

#[cfg(test)]
impl SourceContext {
    /// What the only instance of a source `t` is told, at a start from nothing.
    pub(crate) fn alone(schema: SchemaRef, batch_size: usize) -> SourceContext {
        SourceContext {
            table: "t".into(),
            pipeline: "p".into(),
            instance: 0,
            instances: 1,
            bounded: false,
            schema,
            wants_keys: false,
            wants_timestamps: false,
            wants_headers: false,
            batch_size,
            positions: BTreeMap::new(),
            origin: None,
            split_origins: BTreeMap::new(),
            accept_lost_input: false,
            data_dir: PathBuf::new(),
            stop: CancellationToken::new(),
        }
    }
}

/// Where a source reads on after a checkpoint: the offset of the next record for each split it has, or [`BEGINNING`].
pub type Positions = BTreeMap<String, i64>;

/// The position of a split of which nothing was read and that begins with the first record it has, whichever that is when
/// it is read. It has no number: what retention takes before the first record was read is no gap in what was read.
pub const BEGINNING: i64 = i64::MIN;

/// One open instance of a source.
#[async_trait]
pub trait Source: Send {
    /// The next thing that happened. Cancel-safe: dropping the future loses nothing.
    ///
    /// A server that is away is waited for, with a log line and backoff, inside this call.
    ///
    /// # Errors
    /// When waiting cannot help: rights, a deleted topic, offsets that are gone.
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError>;

    /// Epoch `epoch` is complete: every record before `positions` is accounted for. Kafka commits the group's
    /// offsets here, for lag monitors.
    ///
    /// # Errors
    /// As for [`Source::next`]; the caller logs and goes on.
    async fn committed(&mut self, _epoch: Epoch, _positions: &Positions) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// What tells the place that is read from another one with the same names, such as the id of a Kafka cluster.
    /// Positions are good only there.
    fn origin(&self) -> Option<String> {
        None
    }

    /// Records that are there but not yet sent, by split name, as far as known without asking the server.
    fn lag(&self) -> Vec<(String, i64)> {
        vec![]
    }
}

/// What a source has to say.
#[derive(Debug)]
pub enum SourceEvent {
    /// There is a split, named as in [`Positions`] (`transactions[3]`, `clicks.jsonl`). Sent before its first
    /// record. All splits that an instance starts with are announced before any record, so that none of them is
    /// overtaken by another's watermark.
    ///
    /// With it comes the offset that is read next, or [`BEGINNING`]: it is in the next checkpoint, so that a start that
    /// the options decide is decided once and not anew by a run that goes on. `None` where there is nothing to decide
    /// (such a split begins at its position, or with its first record, always) or where it is not decided yet. The same
    /// split is sent again when that is known, and when reading goes on elsewhere without records that are lost.
    Split(SplitIndex, String, Option<i64>),
    /// Records to decode.
    Records(RawRecords),
    /// Rows in the columns of [`SourceContext::schema`], with the splits they come from and, for each row, its offset.
    Rows(RecordBatch, Vec<SplitRun>, Vec<i64>),
    /// What tells the split from another one that takes its name, as far as its records have been sent: the next run is told
    /// it together with the position.
    Origin(SplitIndex, String),
    /// Another one has taken the split's name, as a new log file does. It goes on with what is there now: the offset of its
    /// first record, and its origin.
    Replaced(SplitIndex, i64, String),
    /// All that the split holds has been sent: from now on it may count as idle until it sends again.
    CaughtUp(SplitIndex),
    /// The split will never send again; its watermark is [`crate::time::EventTime::MAX`].
    SplitEnd(SplitIndex),
    /// The instance will never send again.
    End,
}

/// What a sink does with rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SinkMode {
    /// Every row is added.
    Append,
    /// A row replaces the one with the same values in these columns. An empty list means a single row.
    Upsert(Vec<String>),
}

/// Opens a sink.
#[async_trait]
pub trait SinkFactory: Send + Sync {
    /// What happens to rows.
    fn mode(&self) -> SinkMode;

    /// One line for `explain` and logs. Holds no secret.
    fn describe(&self) -> String;

    /// When it wants its rows, if the run has checkpoints. Without, every sink takes them at once.
    fn delivery(&self) -> Delivery {
        Delivery::AtOnce
    }

    /// Set when it leaves out what the destination refuses and keeps it nowhere, so that nobody can count it later.
    fn leaves_rows_out(&self) -> bool {
        false
    }

    /// Opens it. With [`SinkContext::writer`], fences earlier runs first and reads the marker after that; what is
    /// opened is of the kind that [`SinkFactory::delivery`] says. Without, it takes rows at once.
    ///
    /// # Errors
    /// When the sink cannot be had even by waiting, such as a table without a column that is written.
    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError>;
}

/// What a sink is told when it opens.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The table's name in SQL.
    pub table: String,
    /// The name of the running pipeline.
    pub pipeline: String,
    /// Who writes; `None` when the run keeps no checkpoints.
    pub writer: Option<Writer>,
    /// The columns of every batch that will be written: those of the table that can be, in its order.
    pub schema: SchemaRef,
    /// Where embedded parts keep their files.
    pub data_dir: PathBuf,
    /// Cancelled when the pipeline is told to stop at once; everything that waits must watch it.
    pub stop: CancellationToken,
}

impl SinkContext {
    /// How a sink that wants its rows by `wanted` gets them in this run.
    pub fn delivery(&self, wanted: Delivery) -> Delivery {
        if self.writer.is_some() { wanted } else { Delivery::AtOnce }
    }
}

/// An open sink that takes rows as they come. Calls come one at a time.
#[async_trait]
pub trait Sink: Send {
    /// Takes rows in. They may be buffered until [`Sink::flush`].
    ///
    /// A server that is away is waited for, with a log line and backoff, inside this call.
    ///
    /// # Errors
    /// When waiting cannot help: rights, a value that the destination refuses.
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError>;

    /// Returns when all that was written before is in the destination, but for what it [holds back](Sink::holds_back). Called at barriers, at the end, and when
    /// rows have waited for the linger time.
    ///
    /// # Errors
    /// As for [`Sink::write`].
    async fn flush(&mut self) -> Result<(), ConnectorError>;

    /// Whether rows have stayed back in a flush because their own time or size is not reached: it comes again meanwhile,
    /// also when no more rows do.
    fn holds_back(&self) -> bool {
        false
    }

    /// The last call, after a last flush: closes files and connections.
    ///
    /// # Errors
    /// As for [`Sink::write`].
    async fn close(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// How many rows the destination has refused so far, and the sink has left out or put apart.
    fn refused(&self) -> u64 {
        0
    }
}

/// What a connector could not do, with what the user can do about it in the message.
#[derive(Debug, Error)]
pub enum ConnectorError {
    /// The server does not answer; trying again may help.
    #[error("{what}: {message}")]
    Unavailable {
        /// The part and its address, such as `Kafka at localhost:9092`.
        what: String,
        /// What happened.
        message: String,
    },
    /// Trying again will not help.
    #[error("{what}: {message}")]
    Refused {
        /// The part and its address.
        what: String,
        /// What happened and what would be right.
        message: String,
    },
    /// The pipeline is stopping, so the wait was given up.
    #[error("stopped while waiting for {what}")]
    Stopped {
        /// What was waited for.
        what: String,
    },
    /// A later run of the pipeline has taken over; this one must end.
    #[error("{what}: {message}")]
    Fenced {
        /// The destination.
        what: String,
        /// Who fenced whom.
        message: String,
    },
    /// What the checkpoints say does not fit what is there: another cluster, rows of other checkpoints.
    #[error("{what}: {message}")]
    Mismatch {
        /// The part and its address.
        what: String,
        /// What does not fit, and the ways out.
        message: String,
    },
    /// A format could not hold the rows.
    #[error(transparent)]
    Format(#[from] FormatError),
}

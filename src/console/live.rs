//! `/api/v1/live`: what the pipeline's tables would hold if its input ended now.
//!
//! [`LiveView`] answers in this process; the routes give the same to others. Rows travel as an Arrow IPC stream, whose
//! headers name the pipeline and the epoch; without `after`, they are those that the run does not know to be in the
//! destination, with `after=E&log=L` all after that marker. A problem is told as JSON, `{"error": "...", ...}`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path as PathParameter, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Console, parameter};
use crate::dataflow::graph::Graph;
use crate::dataflow::live::board::Board;
use crate::dataflow::live::newest::newest;
use crate::dataflow::live::{LiveError, LiveKind, LiveRows, LiveTable, Marker, Since};
use crate::dataflow::read_back::ReadOptions;
use crate::program::{Program, Table};
use crate::time::{Epoch, Incarnation, LogId};

/// The header that names the pipeline.
pub const PIPELINE: HeaderName = HeaderName::from_static("acequia-pipeline");
/// The header with the epoch at whose end the rows are, where they are those that a destination does not have.
pub const EPOCH: HeaderName = HeaderName::from_static("acequia-epoch");
/// The media type of an Arrow IPC stream.
pub const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// How long a destination may take to say what it holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The live tables of the pipeline in this process.
pub struct LiveView {
    board: Arc<Board>,
    /// Those that are asked at their destination.
    keyed: BTreeMap<String, Table>,
    reading: ReadOptions,
}

impl std::fmt::Debug for LiveView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveView").field("reading", &self.reading).finish_non_exhaustive()
    }
}

impl LiveView {
    /// Of a program that runs as `graph`. Its run has to get [`LiveView::board`].
    pub fn new(pipeline: &str, program: &Program, graph: &Graph, data_dir: &Path) -> LiveView {
        let board = Arc::new(Board::new(graph));
        let keyed = board.tables().filter(|table| table.kind == LiveKind::Newest);
        let keyed = keyed.filter_map(|table| Some((table.name.clone(), program.table(&table.name)?.clone())));
        let reading = ReadOptions {
            pipeline: pipeline.to_owned(),
            data_dir: data_dir.to_path_buf(),
            stop: CancellationToken::new(),
        };
        LiveView { keyed: keyed.collect(), board, reading }
    }

    /// Where the run finds the questions.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// The tables that can be asked for.
    pub fn tables(&self) -> Vec<LiveTable> {
        self.board.tables().cloned().collect()
    }

    /// The rows of `table`.
    ///
    /// # Errors
    /// As for [`Board::rows`], and what a destination says that is asked itself.
    pub async fn rows(&self, table: &str, since: &Since) -> Result<LiveRows, LiveError> {
        let columns = match self.board.table(table)? {
            LiveTable { kind: LiveKind::Newest, columns, .. } => columns,
            _ => return self.board.rows(table, since).await,
        };
        let unreadable = |message: String| LiveError::Unreadable { table: table.to_owned(), message };
        let Some(known) = self.keyed.get(table) else {
            return Err(unreadable("its rows are printed, and kept nowhere".into()));
        };
        match tokio::time::timeout(PATIENCE, newest(known, columns, &self.reading)).await {
            Ok(Ok(batches)) => Ok(LiveRows { epoch: None, columns: Arc::clone(columns), batches }),
            Ok(Err(error)) => Err(unreadable(error.to_string())),
            Err(_) => Err(unreadable(format!("its destination has not answered for {} s", PATIENCE.as_secs()))),
        }
    }
}

/// The tables as JSON.
pub async fn tables(State(console): State<Arc<Console>>) -> Response {
    let Some(live) = &console.live else { return none(&console) };
    let tables: Vec<Value> = live.tables().iter().map(described).collect();
    (headers(&console, None), Json(json!({ "pipeline": console.pipeline, "tables": tables }))).into_response()
}

fn described(table: &LiveTable) -> Value {
    let columns = table.columns.fields().iter();
    let columns: Vec<Value> = columns
        .map(|field| {
            let data_type = field.data_type().to_string();
            json!({ "name": field.name(), "type": data_type, "nullable": field.is_nullable() })
        })
        .collect();
    let rows = match table.kind {
        LiveKind::Added => "added",
        LiveKind::Newest => "newest",
    };
    json!({ "name": table.name, "rows": rows, "columns": columns })
}

/// A table's rows as an Arrow IPC stream.
pub async fn rows(
    State(console): State<Arc<Console>>,
    PathParameter(table): PathParameter<String>,
    uri: Uri,
) -> Response {
    let Some(live) = &console.live else { return none(&console) };
    let since = match since(&uri) {
        Ok(since) => since,
        Err(message) => return refused(&console, StatusCode::BAD_REQUEST, json!({ "error": message })),
    };
    let rows = match live.rows(&table, &since).await {
        Ok(rows) => rows,
        Err(error) => return refusal(&console, &error),
    };
    match IpcStream::begin(&rows) {
        Ok(stream) => {
            let mut headers = headers(&console, rows.epoch);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ARROW_STREAM));
            (headers, Body::from_stream(futures::stream::iter(stream))).into_response()
        }
        Err(error) => refusal(&console, &LiveError::Unreadable { table, message: error.to_string() }),
    }
}

fn none(console: &Console) -> Response {
    refused(console, StatusCode::NOT_FOUND, json!({ "error": "this pipeline shows no live tables" }))
}

/// Who refuses is said, too: otherwise it could be anybody at this address.
fn refused(console: &Console, status: StatusCode, body: Value) -> Response {
    (status, headers(console, None), Json(body)).into_response()
}

fn headers(console: &Console, epoch: Option<Epoch>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(name) = HeaderValue::from_bytes(console.pipeline.as_bytes()) {
        headers.insert(PIPELINE, name);
    }
    if let Some(epoch) = epoch {
        headers.insert(EPOCH, HeaderValue::from(epoch.0));
    }
    headers
}

/// From where on rows are wanted.
fn since(uri: &Uri) -> Result<Since, String> {
    let Some(after) = parameter(uri, "after") else { return Ok(Since::Destination) };
    let Ok(epoch) = after.parse::<u64>() else {
        return Err(format!(
            "after={after} is no epoch: it is the number in the destination's marker, or 0 without one"
        ));
    };
    match (epoch, parameter(uri, "log")) {
        (0, _) => Ok(Since::Version(None)),
        (_, None) => Err(format!("after={epoch} needs log=...: the id in the marker, within which epochs are counted")),
        (_, Some(log)) => {
            let (log, incarnation) = (LogId(log), Incarnation::default());
            Ok(Since::Version(Some(Marker { log, incarnation, epoch: Epoch(epoch) })))
        }
    }
}

fn refusal(console: &Console, error: &LiveError) -> Response {
    let status = match error {
        LiveError::Unknown { .. } => StatusCode::NOT_FOUND,
        LiveError::Settled { .. } | LiveError::NoCheckpoints { .. } => StatusCode::CONFLICT,
        LiveError::Waits { .. } | LiveError::Ended { .. } => StatusCode::SERVICE_UNAVAILABLE,
        LiveError::TooMuch { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        LiveError::Failed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        LiveError::Unreadable { .. } | LiveError::NotRunning(_) | LiveError::Told(_) => StatusCode::BAD_GATEWAY,
    };
    let mut body = json!({ "error": error.to_string() });
    if let LiveError::Settled { settled, .. } = error {
        body["settled"] = settled.0.into();
    }
    refused(console, status, body)
}

/// Record batches as the bytes of an IPC stream, one after the other, so that they are not all held twice.
struct IpcStream {
    /// `None` when the end has been written.
    writer: Option<StreamWriter<Vec<u8>>>,
    batches: std::vec::IntoIter<RecordBatch>,
}

impl IpcStream {
    fn begin(rows: &LiveRows) -> Result<IpcStream, ArrowError> {
        let writer = StreamWriter::try_new(vec![], &rows.columns)?;
        Ok(IpcStream { writer: Some(writer), batches: rows.batches.clone().into_iter() })
    }

    fn written(&mut self) -> Result<Option<Bytes>, ArrowError> {
        let Some(writer) = &mut self.writer else { return Ok(None) };
        match self.batches.next() {
            Some(batch) => writer.write(&batch)?,
            None => {
                writer.finish()?;
                let bytes = std::mem::take(writer.get_mut());
                self.writer = None;
                return Ok(Some(bytes.into()));
            }
        }
        Ok(Some(std::mem::take(writer.get_mut()).into()))
    }
}

impl Iterator for IpcStream {
    type Item = Result<Bytes, ArrowError>;

    fn next(&mut self) -> Option<Result<Bytes, ArrowError>> {
        self.written().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Since, String> {
        since(&format!("http://localhost/api/v1/live/t?{query}").parse().unwrap())
    }

    #[test]
    fn a_version_is_said_by_its_marker() {
        assert_eq!(asked("").unwrap(), Since::Destination);
        assert_eq!(asked("after=0").unwrap(), Since::Version(None));
        let marker = Marker { log: LogId("a b".into()), incarnation: Incarnation(0), epoch: Epoch(7) };
        assert_eq!(asked("after=7&log=a%20b").unwrap(), Since::Version(Some(marker)));
        assert_eq!(
            asked("after=7").unwrap_err(),
            "after=7 needs log=...: the id in the marker, within which epochs are counted"
        );
        assert_eq!(
            asked("after=x").unwrap_err(),
            "after=x is no epoch: it is the number in the destination's marker, or 0 without one"
        );
    }
}

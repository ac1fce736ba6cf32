//! Asks a pipeline that runs in another process, by its console.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamDecoder;
use async_trait::async_trait;
use futures::StreamExt;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::{LiveError, LiveKind, LiveRows, LiveTable, LiveTables, RunFile, Since};
use crate::console::live::{EPOCH, PIPELINE};
use crate::time::Epoch;

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(2);
/// How long the pipeline may be silent: longer than it takes itself to say what it waits for.
const SILENCE: Duration = Duration::from_secs(20);

/// The live tables of the pipeline that `DATA_DIR/run.json` names.
pub struct RemoteLive {
    data_dir: PathBuf,
    pipeline: String,
}

/// The answer of `/api/v1/live`.
#[derive(Deserialize)]
struct Tables {
    tables: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    rows: String,
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
}

/// What is said instead of an answer.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    settled: Option<u64>,
}

impl RemoteLive {
    /// Asks the run of `pipeline` whose files are in `data_dir`. It is looked for at every question, so it may begin and
    /// end as it likes.
    pub fn new(pipeline: &str, data_dir: &Path) -> RemoteLive {
        RemoteLive { data_dir: data_dir.to_path_buf(), pipeline: pipeline.to_owned() }
    }

    /// The address of the console.
    fn address(&self) -> Result<SocketAddr, LiveError> {
        let (pipeline, file) = (&self.pipeline, RunFile::path(&self.data_dir));
        let file = file.display();
        let not_running = |message: String| LiveError::NotRunning(message);
        let run = RunFile::read(&self.data_dir).map_err(|error| {
            not_running(format!("{file}, by which a running pipeline is found, cannot be read: {error}"))
        })?;
        let run = run.ok_or_else(|| {
            not_running(format!(
                "no pipeline is running: there is no {file}. Live tables show what a running pipeline holds: start it \
                 with 'acequia run', or say with --data-dir where it keeps its files"
            ))
        })?;
        if run.pipeline != *pipeline {
            let other = run.pipeline;
            return Err(not_running(format!(
                "{file} is of pipeline {other}, and this is {pipeline}: --name says which"
            )));
        }
        let console = run.console.ok_or_else(|| {
            let pid = run.pid;
            not_running(format!(
                "pipeline {pipeline} (process {pid}) runs without a console, by which it would be asked: run it without \
                 --no-http"
            ))
        })?;
        Ok(SocketAddr::new(reachable(console.ip()), console.port()))
    }

    async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Response, LiveError> {
        let address = self.address()?;
        let failed = |error: &dyn std::fmt::Display| {
            LiveError::NotRunning(format!("pipeline {} at http://{address} does not answer: {error}", self.pipeline))
        };
        let mut url = Url::parse(&format!("http://{address}/api/v1/live")).map_err(|error| failed(&error))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        // No proxy of the environment stands between two processes of one machine.
        let client = Client::builder().no_proxy().connect_timeout(CONNECTING).read_timeout(SILENCE).build();
        let response = client.map_err(|error| failed(&error))?.get(url).send().await;
        let response = response.map_err(|error| {
            if error.is_connect() {
                return LiveError::NotRunning(format!(
                    "pipeline {} is not running: {} says that it listens at {address}, and nobody does; it was killed. \
                     Start it with 'acequia run'",
                    self.pipeline,
                    RunFile::path(&self.data_dir).display()
                ));
            }
            failed(&innermost(&error))
        })?;
        self.checked(address, response).await
    }

    /// The answer, if it is this pipeline's and no refusal.
    async fn checked(&self, address: SocketAddr, response: Response) -> Result<Response, LiveError> {
        let pipeline = response.headers().get(&PIPELINE).map(|name| String::from_utf8_lossy(name.as_bytes()));
        let another = |who: &str| {
            LiveError::NotRunning(format!(
                "pipeline {} is not running: at {address}, where it listened, {who} answers now. Start it with 'acequia \
                 run'",
                self.pipeline
            ))
        };
        match pipeline {
            None => return Err(another("another program")),
            Some(other) if other != self.pipeline => return Err(another(&format!("pipeline {other}"))),
            Some(_) => {}
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let told = |message: String| LiveError::Told(message);
        let body = response.bytes().await.map_err(|error| told(innermost(&error)))?;
        let refusal: Refusal = serde_json::from_slice(&body).map_err(|_| told(format!("it answers {status}")))?;
        Err(match (status, refusal.settled) {
            (StatusCode::CONFLICT, Some(settled)) => {
                LiveError::Settled { table: String::new(), settled: Epoch(settled) }
            }
            _ => told(refusal.error),
        })
    }
}

#[async_trait]
impl LiveTables for RemoteLive {
    async fn names(&self) -> Result<Vec<LiveTable>, LiveError> {
        let unclear =
            |error: &dyn std::fmt::Display| LiveError::Told(format!("the list of live tables is not: {error}"));
        let body = self.get(&[], &[]).await?.bytes().await.map_err(|error| unclear(&error))?;
        let Tables { tables } = serde_json::from_slice(&body).map_err(|error| unclear(&error))?;
        tables.into_iter().map(|table| table.read().map_err(|error| unclear(&error))).collect()
    }

    async fn rows(&self, table: &str, since: Since) -> Result<LiveRows, LiveError> {
        let query = match since {
            Since::Destination => vec![],
            Since::Version(None) => vec![("after", "0".to_owned())],
            Since::Version(Some(marker)) => vec![("after", marker.epoch.to_string()), ("log", marker.log.to_string())],
        };
        let response = self.get(&[table], &query).await.map_err(|error| match error {
            LiveError::Settled { settled, .. } => LiveError::Settled { table: table.to_owned(), settled },
            error => error,
        })?;
        let epoch = response.headers().get(&EPOCH).and_then(|epoch| epoch.to_str().ok()?.parse().ok()).map(Epoch);
        let cut =
            |error: &dyn std::fmt::Display| LiveError::Told(format!("live.{table}: the answer breaks off: {error}"));
        let mut bytes = response.bytes_stream();
        let mut decoder = StreamDecoder::new();
        let mut batches: Vec<RecordBatch> = vec![];
        while let Some(chunk) = bytes.next().await {
            let mut chunk = Buffer::from(chunk.map_err(|error| cut(&innermost(&error)))?);
            while let Some(batch) = decoder.decode(&mut chunk).map_err(|error| cut(&error))? {
                batches.push(batch);
            }
        }
        decoder.finish().map_err(|error| cut(&error))?;
        let columns = decoder.schema().ok_or_else(|| cut(&"it has no columns"))?;
        Ok(LiveRows { epoch, columns, batches })
    }
}

impl Described {
    fn read(self) -> Result<LiveTable, arrow::error::ArrowError> {
        let field = |column: Column| {
            Ok::<_, arrow::error::ArrowError>(Field::new(
                column.name,
                DataType::from_str(&column.data_type)?,
                column.nullable,
            ))
        };
        let fields = self.columns.into_iter().map(field).collect::<Result<Vec<_>, _>>()?;
        let kind = if self.rows == "newest" { LiveKind::Newest } else { LiveKind::Added };
        Ok(LiveTable { name: self.name, columns: Arc::new(Schema::new(fields)), kind })
    }
}

/// An address that this machine is reached by when a server listens at `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// The cause that says most: reqwest's own words name the address, which is said already.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

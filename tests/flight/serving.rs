//! A small shop's history, and a server of it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::FlightInfo;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

use crate::pipeline::{Pipeline, acequia};

pub type Client = FlightSqlServiceClient<Channel>;

/// Rows without end, for what is stopped before it.
pub const ENDLESS: &str = "SELECT a.transaction_id FROM transactions_history a \
    CROSS JOIN transactions_history b CROSS JOIN transactions_history c";

/// Makes `place` a folder whose run records a thousand transactions; `more` are options of the source and the history.
pub fn shop(place: &Path, more: (&str, &str)) {
    let rows = (0..1000).map(|id| {
        let status = if id % 2 == 1 { "paid" } else { "pending" };
        let (customer, second, minute) = (id % 10, id % 60, id / 60);
        format!(
            "{{\"transaction_id\":{id},\"customer_id\":{customer},\"amount\":{id}.5,\"status\":\"{status}\",\
             \"timestamp\":\"2026-11-29T12:{minute:02}:{second:02}Z\"}}\n"
        )
    });
    std::fs::write(place.join("transactions.jsonl"), rows.collect::<String>()).unwrap();
    let columns =
        "transaction_id BIGINT, customer_id BIGINT, amount DECIMAL(12, 2), status TEXT, \"timestamp\" TIMESTAMP";
    let names = "transaction_id, customer_id, amount, status, \"timestamp\"";
    let (source, history) = more;
    let program = format!(
        "CREATE TABLE transactions ({columns}, \"offset\" BIGINT METADATA FROM 'offset')
         WITH (connector = 'file', path = '{path}/transactions.jsonl'{source});
         CREATE TABLE transactions_history ({columns}, day DATE, \"offset\" BIGINT)
         WITH (connector = 'delta', partition_by = 'day', history_of = 'transactions'{history});
         INSERT INTO transactions_history SELECT {names}, CAST(\"timestamp\" AS DATE) AS day, \"offset\" FROM transactions;",
        path = place.display()
    );
    std::fs::write(place.join("shop.sql"), program).unwrap();
}

/// Such a folder that has run; all tests read it.
pub fn recorded() -> &'static Path {
    static SHOP: OnceLock<PathBuf> = OnceLock::new();
    SHOP.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flight");
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).unwrap();
        shop(&place, ("", ""));
        let output = acequia()
            .args(["run", "--bounded", "--no-http", "--no-page", "--name", "shop"])
            .args([place.join("shop.sql"), "--data-dir".into(), place.join("data")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        place
    })
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The arguments of a server of the recorded shop.
pub fn serve_arguments(more: &[&str]) -> Vec<PathBuf> {
    let shop = recorded();
    let mut arguments: Vec<PathBuf> = vec!["serve".into(), shop.join("shop.sql"), "--name".into(), "shop".into()];
    arguments.extend(["--data-dir".into(), shop.join("data")]);
    arguments.extend(more.iter().map(PathBuf::from));
    arguments
}

/// A server of the recorded shop.
pub struct Serving {
    pub process: Pipeline,
    pub address: String,
}

impl Serving {
    /// On a free port of loopback.
    pub fn start(more: &[&str]) -> Serving {
        Serving::with(&[&["--bind", "127.0.0.1:0"][..], more].concat(), &[])
    }

    pub fn with(more: &[&str], variables: &[(&str, &str)]) -> Serving {
        let mut command = acequia();
        command.args(serve_arguments(more)).envs(variables.iter().copied());
        Serving::of(Pipeline::start(command))
    }

    /// Once it has said where it listens.
    pub fn of(mut process: Pipeline) -> Serving {
        let line = process.until("Flight SQL on ");
        let address = line.split("://").nth(1).unwrap().split([',', ' ']).next().unwrap().to_owned();
        Serving { process, address }
    }

    /// A client that shows nothing.
    pub async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        Client::new(endpoint.connect().await.unwrap())
    }

    /// The arguments by which drivers reach it.
    pub fn grpc(&self) -> String {
        format!("grpc://{}", self.address)
    }
}

/// All rows of the only endpoint.
pub async fn fetch(client: &mut Client, info: FlightInfo) -> Result<Vec<RecordBatch>, String> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stream = client.do_get(ticket).await.map_err(|error| error.to_string())?;
    stream.try_collect().await.map_err(|error| error.to_string())
}

/// What a statement gives, as a table of text, or its error.
pub async fn ask(client: &mut Client, sql: &str) -> Result<String, String> {
    let info = client.execute(sql.into(), None).await.map_err(|error| error.to_string())?;
    Ok(table(&fetch(client, info).await?))
}

pub fn table(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

/// The values of a table of text, without its lines.
pub fn cells(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

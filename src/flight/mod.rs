//! The history over Arrow Flight SQL, for ADBC, JDBC and BI tools.
//!
//! [`FlightServer`] listens where [`bind`](mod@bind) allows; every call passes the [`gate`], which asks for what [`access`]
//! wants to see, and comes by [`front`] to [`service`], which is arrow-flight's `FlightSqlService`. [`statements`]
//! holds what is planned, prepared and at work, in [`handles`] that expire; [`parameters`] puts values in, [`results`]
//! sends rows as they are taken, in [`plain`] types. [`metadata`] and [`info`] answer what drivers ask first. All SQL is
//! planned by the history's session, which reads and never writes.

pub mod access;
pub mod bind;
mod front;
mod gate;
mod handles;
mod info;
mod metadata;
mod parameters;
mod plain;
mod results;
pub mod secrets;
mod service;
mod statements;
mod status;
pub mod tls;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Server, ServerTlsConfig, TcpIncoming};

use crate::console::FlightFigures;
use crate::history::History;
use crate::history::live::LiveTables;
use access::Access;
use front::Front;
use gate::Gate;
use service::Service;
pub use statements::QueryLimits;
use statements::Statements;

/// The largest message that a client may send: a statement, or values to bind.
const LARGEST_REQUEST: usize = 16 << 20;
/// The largest that is sent. Batches are cut at 2 MB; only a row that is larger makes a larger message.
const LARGEST_ANSWER: usize = 256 << 20;
/// Calls at a time of one connection.
const MOST_CALLS: u32 = 256;
/// A client that is silent is asked so often whether it is there, and has so long to answer.
const ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often forgotten handles are swept out.
const SWEEP: Duration = Duration::from_secs(30);
/// How long connections may take to close when the server stops at once.
const CLOSING: Duration = Duration::from_secs(1);

/// A server, ready to listen.
pub struct FlightServer {
    /// What can be asked.
    pub history: Arc<History>,
    /// The live tables that `history` knows, to list them.
    pub live: Option<Arc<dyn LiveTables>>,
    /// Who may ask.
    pub access: Arc<Access>,
    /// The certificate, if connections are encrypted.
    pub tls: Option<ServerTlsConfig>,
    /// What a query may use.
    pub limits: QueryLimits,
    /// Counts.
    pub figures: Arc<FlightFigures>,
}

/// Why the server has stopped.
#[derive(Debug, Error)]
#[error("Flight SQL cannot be served: {0}")]
pub struct ServeError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl FlightServer {
    /// Answers until `drain`, after which only queries at work go on, and these until `abort`.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn serve(
        self,
        listener: TcpListener,
        drain: CancellationToken,
        abort: CancellationToken,
    ) -> Result<(), ServeError> {
        let statements = Statements::new(self.history, self.limits, self.figures, abort.clone());
        let statements = Arc::new(statements);
        let service = FlightServiceServer::new(Front(Service::new(Arc::clone(&statements), self.live)))
            .max_decoding_message_size(LARGEST_REQUEST)
            .max_encoding_message_size(LARGEST_ANSWER);
        let mut server = Server::builder()
            .max_concurrent_streams(MOST_CALLS)
            .http2_keepalive_interval(Some(ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(ALIVE_TIMEOUT));
        if let Some(tls) = self.tls {
            server = server.tls_config(tls).map_err(|error| ServeError(error.into()))?;
        }
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = server
            .add_service(Gate::new(service, self.access))
            .serve_with_incoming_shutdown(incoming, drain.clone().cancelled_owned());
        tokio::select! {
            served = served => served.map_err(|error| ServeError(error.into())),
            () = sweep(&statements) => Ok(()),
            () = async { abort.cancelled().await; tokio::time::sleep(CLOSING).await } => Ok(()),
        }
    }
}

/// Sweeps until dropped.
async fn sweep(statements: &Statements) {
    loop {
        tokio::time::sleep(SWEEP).await;
        statements.sweep(Instant::now());
    }
}

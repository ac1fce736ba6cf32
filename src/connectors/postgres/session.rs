//! Connections to a server: how they are named, and what ends them when nobody speaks for them any more.
//!
//! A connection that the network has cut without telling the server keeps its locks there, and with them the sink's
//! marker. So the server is told to look after them, and who waits for a lock ends earlier sessions of its own sink.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Error, PgConnection};

use super::errors::connector_error;
use crate::connectors::{ConnectorError, SinkContext, SourceContext};

/// A server that takes longer to answer a new connection counts as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a session, where the server knows them: a lock that is held for longer is not worth waiting for, and a
/// client that says nothing in a transaction, or whose machine is gone, has left.
const SETTINGS: &str = "SELECT set_config(name, value, false) FROM (VALUES \
    ('lock_timeout', '5s'), ('idle_in_transaction_session_timeout', '60s'), ('tcp_keepalives_idle', '10'), \
    ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '30s')) AS ours (name, value) \
    JOIN pg_settings USING (name)";

/// Whose sessions they are, told apart by their application names.
pub(crate) struct Session {
    /// `acequia shop run 7 1a2b3c4d`: the pipeline, the run, and a hash of pipeline and table. Only `acequia shop` in a
    /// run without checkpoints, which knows no earlier runs.
    name: String,
    hash: Option<String>,
}

impl Session {
    /// Of nobody who would ever have to end it.
    pub(crate) fn named(name: &str) -> Session {
        Session { name: name.into(), hash: None }
    }

    /// For one who only reads.
    pub(super) fn reading(context: &SourceContext) -> Session {
        Session::named(&application_name(&context.pipeline))
    }

    pub(super) fn new(context: &SinkContext) -> Session {
        let name = application_name(&context.pipeline);
        match &context.writer {
            None => Session { name, hash: None },
            Some(writer) => {
                let hash = crc32fast::hash(format!("{}\0{}", context.pipeline, context.table).as_bytes());
                let name = format!("{name} run {} {hash:08x}", writer.incarnation);
                Session { name, hash: Some(format!("{hash:08x}")) }
            }
        }
    }
}

fn application_name(pipeline: &str) -> String {
    // PostgreSQL cuts names at 63 bytes.
    let pipeline: String = pipeline.chars().filter(char::is_ascii).take(24).collect();
    format!("acequia {pipeline}")
}

/// Connects to a server that may be away or deaf.
pub(crate) async fn connect(
    server: &PgConnectOptions,
    session: &Session,
    what: &str,
) -> Result<PgConnection, ConnectorError> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(&server.clone().application_name(&session.name)).await?;
        sqlx::query(SETTINGS).execute(&mut connection).await?;
        Ok(connection)
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(outcome) => outcome.map_err(|error: Error| connector_error(what, &error)),
        Err(_) => Err(ConnectorError::Unavailable {
            what: what.into(),
            message: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        }),
    }
}

/// Ends other sessions of this sink: those of this run or, for one who is `opening`, of every run.
pub(super) async fn end_sessions(
    connection: &mut PgConnection,
    session: &Session,
    opening: bool,
) -> Result<usize, Error> {
    let Some(hash) = &session.hash else { return Ok(0) };
    let ended = sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user \
         AND datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'acequia %' \
         AND (application_name = $1 OR ($2 AND right(application_name, 8) = $3))",
    )
    .bind(&session.name)
    .bind(opening)
    .bind(hash)
    .fetch_all(connection)
    .await?;
    Ok(ended.len())
}

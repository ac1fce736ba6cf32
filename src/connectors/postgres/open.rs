//! From a table's options to its open transactions: connect, migrate, create, check the columns, fence.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgConnection;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;

use super::copy::Encoder;
use super::errors::{Remedy, connector_error, remedy};
use super::session::{Session, connect};
use super::sink::{PostgresTable, Statements, run};
use super::target::{self, Target};
use crate::connectors::retry::until_available;
use crate::connectors::sql_table::create::{Dialect, create_table};
use crate::connectors::sql_table::transactions::Transactions;
use crate::connectors::sql_table::{Migrations, SqlTableOptions};
use crate::connectors::{ConnectorError, SinkContext};
use crate::time::Epoch;

/// Migrations build indexes over what is there already.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(600);

/// Opens the table, waiting for a server that is away; also gives the last epoch that it has.
///
/// # Errors
/// When the database refuses us, the table is missing or does not fit, or another run has taken over.
pub(super) async fn open(
    what: String,
    server: &PgConnectOptions,
    timeout: Duration,
    table: &SqlTableOptions,
    context: SinkContext,
) -> Result<(Transactions<PostgresTable>, Option<Epoch>), ConnectorError> {
    let schema = context.schema.clone();
    let create = create_table(Dialect::Postgres, table, &schema);
    let session = Session::new(&context);
    let attempt = || async {
        let mut connection = connect(server, &session, &what).await?;
        let opening = async {
            if let Some(set) = table.migrate {
                migrate(&mut connection, set, &what).await?;
            }
            find_or_create(&mut connection, table, &create, &what).await
        };
        let target = tokio::time::timeout(OPEN_TIMEOUT, opening).await.map_err(|_| ConnectorError::Unavailable {
            what: what.clone(),
            message: format!("no answer within {} s", OPEN_TIMEOUT.as_secs()),
        })??;
        Ok((connection, target))
    };
    let (connection, target) = until_available(&what, &context.stop, attempt).await?;
    let wires = target::fit(&target, table, &schema).map_err(|wrong| ConnectorError::Refused {
        what: what.clone(),
        message: format!("the table does not fit:\n  {}", wrong.join("\n  ")),
    })?;
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let database = PostgresTable {
        what: what.clone(),
        server: server.clone(),
        session,
        timeout,
        statements: Statements::new(table, &columns),
        encoder: Mutex::new(Encoder::new(schema, wires)?),
        sent: AtomicU64::new(0),
    };
    let connection = database.prepare(connection).await?;
    Transactions::open(what, database, connection, table, context).await
}

/// Brings a set of tables up to date. `what` names the database in errors.
///
/// # Errors
/// When the database does not let us, or another version of Acequia has migrated it.
pub(crate) async fn migrate(connection: &mut PgConnection, set: Migrations, what: &str) -> Result<(), ConnectorError> {
    set.migrate_postgres(connection).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => connector_error(what, &error),
        error => ConnectorError::Refused { what: what.into(), message: set.refusal(&error) },
    })
}

async fn find_or_create(
    connection: &mut PgConnection,
    table: &SqlTableOptions,
    create: &str,
    what: &str,
) -> Result<Target, ConnectorError> {
    let failed = |error: sqlx::Error| connector_error(what, &error);
    if let Some(target) = target::read(connection, table).await.map_err(failed)? {
        return Ok(target);
    }
    if table.create == Some(true) {
        match run(connection, create).await {
            Ok(()) => tracing::info!("{what}: created the table"),
            // Another process may have been faster; then the catalog's own unique index refuses.
            Err(error) if remedy(&error) == Remedy::FindRow => {}
            Err(error) => return Err(failed(error)),
        }
        if let Some(target) = target::read(connection, table).await.map_err(failed)? {
            return Ok(target);
        }
    }
    Err(ConnectorError::Refused {
        what: what.into(),
        message: format!("there is no such table; add 'create' = 'true', or run\n{create};"),
    })
}

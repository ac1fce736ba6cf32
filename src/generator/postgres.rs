//! Rows into PostgreSQL: a group is one short transaction.
//!
//! A reader by cursor (`connector = 'postgres'` as a source) relies on ids being given out only under a lock that their
//! transaction holds to its end. So ids are taken in the transaction that writes them, behind an INSERT of no rows that
//! takes this lock, and everything a transaction writes is ready before it begins: no gap stays open for longer than a
//! few round trips.

use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use super::base_data::{self, Tables};
use super::rows::{Part, Rows};
use crate::connectors::ConnectorError;
use crate::connectors::postgres::errors::connector_error;
use crate::connectors::postgres::session::{Session, connect};
use crate::connectors::postgres::{self, migrate};
use crate::connectors::retry::until_available;
use crate::connectors::sql_table::Migrations;
use crate::shop::{Catalogue, Customer};

/// A group is a few thousand rows; who takes longer is not there any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Who is alive says the next word at once.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '10s'";
/// Only one generator at a time makes base data.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8241608)";

const TIME: &str = "TIMESTAMP '1970-01-01' + at * INTERVAL '1 millisecond'";

/// A database with the shop's or the CRM's tables, or both.
pub(super) struct Postgres {
    what: String,
    server: PgConnectOptions,
    connection: Mutex<Option<PgConnection>>,
    stop: CancellationToken,
}

/// What tells whether a group has been committed, when the answer to that was lost.
#[derive(Clone, Copy)]
enum Trace {
    Transaction(i64),
    Behaviour(i64),
    Interaction(i64),
}

impl Postgres {
    pub(super) fn new(server: PgConnectOptions, stop: CancellationToken) -> Postgres {
        let what = format!("PostgreSQL at {}", postgres::address(&server));
        Postgres { what, server, connection: Mutex::new(None), stop }
    }

    /// Brings the shop's tables up to date and makes what base data is missing.
    pub(super) async fn open_shop(&self, seed: u64) -> Result<Catalogue, ConnectorError> {
        until_available(&self.what, &self.stop, || async {
            let mut connection = self.take().await?;
            migrate(&mut connection, Migrations::Shop, &self.what).await?;
            let catalogue = self.answer(prepare_shop(&mut connection, seed)).await?;
            self.keep(connection);
            Ok(catalogue)
        })
        .await
    }

    /// Brings the CRM's tables up to date and makes what base data is missing.
    pub(super) async fn open_crm(&self, customers: &[Customer]) -> Result<(), ConnectorError> {
        until_available(&self.what, &self.stop, || async {
            let mut connection = self.take().await?;
            migrate(&mut connection, Migrations::Crm, &self.what).await?;
            self.answer(prepare_crm(&mut connection, customers)).await?;
            self.keep(connection);
            Ok(())
        })
        .await
    }

    /// Writes the rows of the part's tables, all or none, once.
    pub(super) async fn write(&self, part: Part, rows: &Rows) -> Result<(), ConnectorError> {
        let trace = Mutex::new(None);
        until_available(&self.what, &self.stop, || async {
            let mut connection = self.take().await?;
            self.answer(write_once(&mut connection, part, rows, &trace)).await?;
            self.keep(connection);
            Ok(())
        })
        .await
    }

    /// The connection that was kept, or a new one. One on which something goes wrong is not kept again.
    async fn take(&self) -> Result<PgConnection, ConnectorError> {
        let kept = self.connection.lock().take();
        match kept {
            Some(connection) => Ok(connection),
            None => self.connect().await,
        }
    }

    fn keep(&self, connection: PgConnection) {
        *self.connection.lock() = Some(connection);
    }

    async fn answer<T>(&self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, ConnectorError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| connector_error(&self.what, &error)),
            Err(_) => Err(ConnectorError::Unavailable {
                what: self.what.clone(),
                message: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            }),
        }
    }

    async fn connect(&self) -> Result<PgConnection, ConnectorError> {
        let mut connection = connect(&self.server, &Session::named("acequia generate"), &self.what).await?;
        connection.execute(SETTINGS).await.map_err(|error| connector_error(&self.what, &error))?;
        Ok(connection)
    }
}

async fn prepare_shop(connection: &mut PgConnection, seed: u64) -> Result<Catalogue, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    transaction.execute(LOCK).await?;
    let catalogue = base_data::of_shop(&mut *transaction, seed).await?;
    for (table, id) in [
        ("transaction", "transaction_id"),
        ("transactiondetail", "transaction_detail_id"),
        ("userbehavior", "behavior_id"),
    ] {
        go_on_behind(&mut transaction, table, id).await?;
    }
    transaction.commit().await?;
    Ok(catalogue)
}

async fn prepare_crm(connection: &mut PgConnection, customers: &[Customer]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    transaction.execute(LOCK).await?;
    base_data::of_crm(&mut *transaction, customers).await?;
    go_on_behind(&mut transaction, "interaction", "interaction_id").await?;
    transaction.commit().await
}

/// Writes the rows unless an earlier attempt has, whose answer was lost; `trace` is what it would have left.
async fn write_once(
    connection: &mut PgConnection,
    part: Part,
    rows: &Rows,
    trace: &Mutex<Option<Trace>>,
) -> Result<(), sqlx::Error> {
    let tried = *trace.lock();
    if let Some(tried) = tried
        && is_there(connection, tried).await?
    {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    let written = match part {
        Part::Shop => {
            let first = write_transactions(&mut transaction, rows).await?.map(Trace::Transaction);
            let second = write_behaviours(&mut transaction, rows).await?.map(Trace::Behaviour);
            first.or(second)
        }
        Part::Crm => write_interactions(&mut transaction, rows).await?.map(Trace::Interaction),
    };
    *trace.lock() = written;
    transaction.commit().await
}

impl Tables for PgConnection {
    async fn read(&mut self, query: &'static str) -> Result<Vec<Vec<String>>, sqlx::Error> {
        let rows = sqlx::query(query).fetch_all(self).await?;
        rows.iter().map(|row| (0..row.len()).map(|column| row.try_get(column)).collect()).collect()
    }

    async fn run(&mut self, statement: &str) -> Result<(), sqlx::Error> {
        self.execute(AssertSqlSafe(statement.to_owned())).await.map(|_| ())
    }
}

/// Lets a table's ids go on behind those that are there: whoever filled it may have brought ids of his own.
async fn go_on_behind(connection: &mut PgConnection, table: &str, id: &str) -> Result<(), sqlx::Error> {
    let behind = format!(
        "SELECT coalesce(max({id}), 0) > (SELECT last_value FROM {}) FROM {table}",
        sequence(connection, table, id).await?
    );
    let (is_behind,): (bool,) = sqlx::query_as(AssertSqlSafe(behind)).fetch_one(&mut *connection).await?;
    if is_behind {
        // No row may come in between, or its id would be given out again.
        let catch_up = format!(
            "LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE; \
             SELECT setval(pg_get_serial_sequence('{table}', '{id}'), max({id})) FROM {table}"
        );
        connection.execute(sqlx::raw_sql(AssertSqlSafe(catch_up))).await?;
    }
    Ok(())
}

/// The name of what gives out a table's ids.
async fn sequence(connection: &mut PgConnection, table: &str, id: &str) -> Result<String, sqlx::Error> {
    let (name,): (Option<String>,) =
        sqlx::query_as("SELECT pg_get_serial_sequence($1, $2)").bind(table).bind(id).fetch_one(connection).await?;
    name.ok_or_else(|| {
        sqlx::Error::Configuration(
            format!(
                "column {id} of table {table} gives no ids by itself; run CREATE SEQUENCE {table}_{id}_seq OWNED BY \
                 {table}.{id}; ALTER TABLE {table} ALTER {id} SET DEFAULT nextval('{table}_{id}_seq')"
            )
            .into(),
        )
    })
}

/// So many new ids, ascending. The INSERT locks the table until the end of the transaction, before any id is taken.
async fn new_ids(
    connection: &mut PgConnection,
    table: &'static str,
    id: &'static str,
    count: usize,
) -> Result<Vec<i64>, sqlx::Error> {
    let query = format!(
        "WITH locked AS (INSERT INTO {table} ({id}) SELECT NULL WHERE false) \
         SELECT nextval(pg_get_serial_sequence('{table}', '{id}')) FROM generate_series(1, $1)"
    );
    let ids: Vec<(i64,)> = sqlx::query_as(AssertSqlSafe(query)).bind(count as i64).fetch_all(connection).await?;
    let mut ids: Vec<i64> = ids.into_iter().map(|(id,)| id).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Gives the first id.
async fn write_transactions(connection: &mut PgConnection, rows: &Rows) -> Result<Option<i64>, sqlx::Error> {
    let (transactions, details) = (&rows.transactions, &rows.details);
    if transactions.is_empty() {
        return Ok(None);
    }
    let ids = new_ids(connection, "transaction", "transaction_id", transactions.len()).await?;
    let insert = format!(
        "INSERT INTO transaction (transaction_id, buyer_id, customer_id, transaction_date, total_amount, \
         payment_method, status) SELECT id, buyer_id, customer_id, {TIME}, round(total / 100.0, 2), payment_method, \
         status FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], \
         $7::text[]) AS rows (id, buyer_id, customer_id, at, total, payment_method, status)"
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(&ids)
        .bind(transactions.iter().map(|row| row.buyer_id).collect::<Vec<_>>())
        .bind(transactions.iter().map(|row| row.customer_id).collect::<Vec<_>>())
        .bind(transactions.iter().map(|row| row.at).collect::<Vec<_>>())
        .bind(transactions.iter().map(|row| row.total).collect::<Vec<_>>())
        .bind(transactions.iter().map(|row| row.payment_method).collect::<Vec<_>>())
        .bind(transactions.iter().map(|row| row.status).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO transactiondetail (transaction_id, product_id, quantity, unit_price) \
         SELECT transaction_id, product_id, quantity, round(unit_price / 100.0, 2) FROM unnest($1::bigint[], \
         $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY \
         AS rows (transaction_id, product_id, quantity, unit_price, place) ORDER BY place",
    )
    .bind(details.iter().map(|row| ids[row.transaction]).collect::<Vec<_>>())
    .bind(details.iter().map(|row| row.product_id).collect::<Vec<_>>())
    .bind(details.iter().map(|row| row.quantity).collect::<Vec<_>>())
    .bind(details.iter().map(|row| row.unit_price).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(ids.first().copied())
}

/// Gives the first id.
async fn write_behaviours(connection: &mut PgConnection, rows: &Rows) -> Result<Option<i64>, sqlx::Error> {
    let rows = &rows.behaviours;
    if rows.is_empty() {
        return Ok(None);
    }
    let ids = new_ids(connection, "userbehavior", "behavior_id", rows.len()).await?;
    let insert = format!(
        "INSERT INTO userbehavior (behavior_id, customer_id, event_type, product_id, session_id, timestamp, metadata) \
         SELECT id, customer_id, event_type, product_id, session_id, {TIME}, metadata::jsonb FROM unnest($1::bigint[], \
         $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[]) \
         AS rows (id, customer_id, event_type, product_id, session_id, at, metadata)"
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(&ids)
        .bind(rows.iter().map(|row| row.customer_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.event_type).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.product_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.session_id.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.metadata.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(ids.first().copied())
}

/// Gives the first id.
async fn write_interactions(connection: &mut PgConnection, rows: &Rows) -> Result<Option<i64>, sqlx::Error> {
    let rows = &rows.interactions;
    let ids = new_ids(connection, "interaction", "interaction_id", rows.len()).await?;
    let insert = format!(
        "INSERT INTO interaction (interaction_id, customer_id, interaction_type, channel, interaction_date, status) \
         SELECT id, customer_id, interaction_type, channel, {TIME}, status FROM unnest($1::bigint[], $2::bigint[], \
         $3::text[], $4::text[], $5::bigint[], $6::text[]) \
         AS rows (id, customer_id, interaction_type, channel, at, status)"
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(&ids)
        .bind(rows.iter().map(|row| row.customer_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.interaction_type).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.channel).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.status).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(ids.first().copied())
}

/// Whether the group that left this trace has been committed.
async fn is_there(connection: &mut PgConnection, trace: Trace) -> Result<bool, sqlx::Error> {
    let (query, id) = match trace {
        Trace::Transaction(id) => ("SELECT EXISTS (SELECT FROM transaction WHERE transaction_id = $1)", id),
        Trace::Behaviour(id) => ("SELECT EXISTS (SELECT FROM userbehavior WHERE behavior_id = $1)", id),
        Trace::Interaction(id) => ("SELECT EXISTS (SELECT FROM interaction WHERE interaction_id = $1)", id),
    };
    let (is_there,): (bool,) = sqlx::query_as(query).bind(id).fetch_one(connection).await?;
    Ok(is_there)
}

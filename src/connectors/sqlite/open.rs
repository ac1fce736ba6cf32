//! From a table's options to its open transactions: the file, its tables, its columns, the fence.

use std::path::Path;
use std::time::Duration;

use arrow::datatypes::Schema;
use parking_lot::Mutex;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Error, SqliteConnection};

use super::errors::connector_error;
use super::sink::{Insert, SqliteTable, connect, run};
use super::values::Values;
use crate::connectors::retry::until_available;
use crate::connectors::sql_table::create::{Dialect, create_table};
use crate::connectors::sql_table::transactions::Transactions;
use crate::connectors::sql_table::{Migrations, SqlTableOptions, missing_column, quoted_list};
use crate::connectors::{ConnectorError, SinkContext};
use crate::time::Epoch;

/// How long a statement waits for another process's transaction before it is tried again.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the file, makes it, its folder and its tables as asked, and checks the columns; also gives the last epoch that
/// the table has.
///
/// # Errors
/// When the file cannot be had, the table is missing or does not fit, or another run has taken over.
pub(super) async fn open(
    what: String,
    path: &Path,
    table: &SqlTableOptions,
    context: SinkContext,
) -> Result<(Transactions<SqliteTable>, Option<Epoch>), ConnectorError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| ConnectorError::Refused {
            what: what.clone(),
            message: format!("its folder cannot be made: {error}"),
        })?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    open_with(what, options, table, context).await
}

async fn open_with(
    what: String,
    options: SqliteConnectOptions,
    table: &SqlTableOptions,
    context: SinkContext,
) -> Result<(Transactions<SqliteTable>, Option<Epoch>), ConnectorError> {
    let refused = |message: String| ConnectorError::Refused { what: what.clone(), message };
    let create = create_table(Dialect::Sqlite, table, &context.schema);
    let attempt = || async {
        let mut connection = connect(&options, &what).await?;
        if let Some(set) = table.migrate {
            migrate(&mut connection, set, &what).await?;
        }
        if table.create == Some(true) {
            run(&mut connection, &create).await.map_err(|error| connector_error(&what, &error))?;
        }
        let target = Target::read(&mut connection, table).await.map_err(|error| connector_error(&what, &error))?;
        Ok((connection, target))
    };
    let (connection, target) = until_available(&what, &context.stop, attempt).await?;
    if target.columns.is_empty() {
        return Err(refused(format!("there is no such table; add 'create' = 'true', or run\n{create};")));
    }
    let wrong = target.misfits(table, &context.schema);
    if !wrong.is_empty() {
        return Err(refused(format!("the table does not fit:\n  {}", wrong.join("\n  "))));
    }
    let database = SqliteTable {
        what: what.clone(),
        options,
        insert: Insert::new(table, &context.schema),
        values: Mutex::new(Values::new(context.schema.clone())?),
    };
    Transactions::open(what, database, connection, table, context).await
}

/// Brings a set of tables up to date. `what` names the database in errors.
///
/// # Errors
/// When the database does not let us, or another version of Acequia has migrated it.
pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    set: Migrations,
    what: &str,
) -> Result<(), ConnectorError> {
    set.migrate_sqlite(connection).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => connector_error(what, &error),
        error => ConnectorError::Refused { what: what.into(), message: set.refusal(&error) },
    })
}

/// The table as the database has it. SQLite takes any value in any column, so that only names matter.
#[derive(Default, Debug)]
pub(super) struct Target {
    pub(super) columns: Vec<TargetColumn>,
    unique: Vec<Vec<String>>,
}

#[derive(Debug)]
pub(super) struct TargetColumn {
    pub(super) name: String,
    declared: String,
    must_be_written: bool,
}

impl Target {
    pub(super) async fn read(connection: &mut SqliteConnection, table: &SqlTableOptions) -> Result<Target, Error> {
        let rows: Vec<(String, String, bool, bool, i64)> = sqlx::query_as(
            "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk FROM pragma_table_xinfo(?) WHERE hidden = 0",
        )
        .bind(&table.name)
        .fetch_all(&mut *connection)
        .await?;
        let primary: Vec<String> = rows.iter().filter(|row| row.4 > 0).map(|row| row.0.clone()).collect();
        let mut unique: Vec<Vec<String>> = vec![];
        let indexes: Vec<(String,)> =
            sqlx::query_as("SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND NOT partial")
                .bind(&table.name)
                .fetch_all(&mut *connection)
                .await?;
        for (index,) in indexes {
            let columns: Vec<(Option<String>,)> =
                sqlx::query_as("SELECT name FROM pragma_index_info(?)").bind(index).fetch_all(&mut *connection).await?;
            unique.extend(columns.into_iter().map(|(name,)| name).collect::<Option<Vec<String>>>());
        }
        let columns = rows
            .into_iter()
            .map(|(name, declared, required, has_default, place)| TargetColumn {
                // An INTEGER PRIMARY KEY numbers itself.
                must_be_written: required && !has_default && !(place > 0 && declared.eq_ignore_ascii_case("integer")),
                name,
                declared,
            })
            .collect();
        if !primary.is_empty() {
            unique.push(primary);
        }
        Ok(Target { columns, unique })
    }

    fn misfits(&self, table: &SqlTableOptions, schema: &Schema) -> Vec<String> {
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let mut wrong: Vec<String> = schema
            .fields()
            .iter()
            .filter(|field| !names().any(|name| name == field.name()))
            .map(|field| missing_column(field.name(), names()))
            .collect();
        wrong.extend(
            self.columns.iter().filter(|column| column.must_be_written && schema.index_of(&column.name).is_err()).map(
                |column| {
                    format!(
                        "column {} is NOT NULL without a default, but is not written; add it to CREATE TABLE as {}",
                        column.name, column.declared
                    )
                },
            ),
        );
        let key_is_unique = self
            .unique
            .iter()
            .any(|index| index.len() == table.key.len() && table.key.iter().all(|column| index.contains(column)));
        if !table.key.is_empty() && !key_is_unique {
            let key = quoted_list(table.key.iter().map(String::as_str));
            wrong.push(format!(
                "PRIMARY KEY ({}) needs a unique index there: CREATE UNIQUE INDEX \"{}_key\" ON {} ({key})",
                table.key.join(", "),
                table.name.replace('"', "\"\""),
                table.quoted_name()
            ));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::DataType;
    use sqlx::Connection;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::connectors::delivery::{EpochSink, Writer};
    use crate::connectors::sql_table::TableEpochs;
    use crate::connectors::sql_table::tests::{options, table};
    use crate::time::{Incarnation, LogId};

    /// A database that may not grow stands for a disk that is full: SQLite says the same of both.
    #[tokio::test]
    async fn a_full_disk_is_waited_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("t.sqlite");
        let open = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal);
        let mut client = SqliteConnection::connect_with(&open).await.unwrap();
        run(&mut client, "CREATE TABLE other AS SELECT zeroblob(400000) AS data").await.unwrap();

        let text = "x".repeat(1000);
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from_iter_values(0..200)) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec![text.as_str(); 200]))),
        ])
        .unwrap();
        let definition = table("t", &[("id", DataType::Int64), ("name", DataType::Utf8)], &[]);
        let table = SqlTableOptions::take("sqlite", &definition, &mut options(&[("create", "true")]));
        let (log, incarnation) = (LogId("ours".into()), Incarnation(1));
        let context = SinkContext {
            table: "t".into(),
            pipeline: "test".into(),
            writer: Some(Writer { pipeline: "test".into(), log, incarnation, resumed: Epoch(0), fresh: false }),
            schema: rows.schema(),
            data_dir: folder.path().into(),
            stop: CancellationToken::new(),
        };
        let what = "SQLite table t in t.sqlite".to_string();
        let full = open.clone().pragma("max_page_count", "120");
        let (transactions, settled) = open_with(what, full, &table, context).await.unwrap();
        let mut sink = TableEpochs::new(transactions, settled);

        let delivering = tokio::spawn(async move { sink.deliver(Epoch(1), &[rows]).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!delivering.is_finished(), "{:?}", delivering.await);
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM t").fetch_one(&mut client).await.unwrap();
        assert_eq!(count, 0);
        run(&mut client, "DROP TABLE other").await.unwrap();
        let settled = tokio::time::timeout(Duration::from_secs(30), delivering).await.unwrap().unwrap().unwrap();
        assert_eq!(settled, Epoch(1));
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM t").fetch_one(&mut client).await.unwrap();
        assert_eq!(count, 200);
    }
}

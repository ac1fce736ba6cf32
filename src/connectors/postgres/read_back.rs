//! Reads a table back for an audit: its rows and the sink's dead letters as JSON, by a cursor in one snapshot.

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::errors::connector_error;
use super::{address, target};
use crate::connectors::sql_table::create::Dialect;
use crate::connectors::sql_table::own_tables::OwnTable;
use crate::connectors::sql_table::{SqlTableOptions, missing_column, quoted};
use crate::connectors::{
    Boundedness, ConnectorError, DEAD_LETTERS, Decoding, Source, SourceContext, SourceEvent, SourceFactory,
};
use crate::formats::{DecodeOptions, RawRecords, SplitIndex};

/// The types of columns whose values do not come back as they were written, with the reason.
const CHANGED: [(&str, &str); 5] = [
    ("jsonb", "keeps what JSON means and not its text"),
    ("json", "comes back as JSON and not as its text"),
    ("bytea", "comes back in another form"),
    ("bpchar", "is filled up with spaces"),
    ("interval", "comes back in another form"),
];

/// Opens a table to be read once.
pub(super) struct PostgresRows {
    pub(super) server: PgConnectOptions,
    pub(super) table: SqlTableOptions,
}

struct OpenRows {
    what: String,
    connection: PgConnection,
    fetch: String,
    announced: u32,
    row: i64,
}

#[async_trait]
impl SourceFactory for PostgresRows {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(DecodeOptions::database_rows())
    }

    fn describe(&self) -> String {
        format!("PostgreSQL table {} at {}", self.table.display_name(), address(&self.server))
    }

    async fn instances(&self, _context: &SourceContext, _parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let what = self.describe();
        let failed = |error: sqlx::Error| connector_error(&what, &error);
        let server = self.server.clone().application_name(&format!("acequia {} audit", context.pipeline));
        let mut connection = PgConnection::connect_with(&server).await.map_err(failed)?;
        let found = target::read(&mut connection, &self.table).await.map_err(failed)?;
        let refused = |message: String| ConnectorError::Refused { what: what.clone(), message };
        let found = found.ok_or_else(|| refused("there is no such table".into()))?;
        let names: Vec<&str> = context.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut columns = vec![];
        for name in &names {
            let column = found.columns.iter().find(|column| column.name == **name).ok_or_else(|| {
                refused(missing_column(name, found.columns.iter().map(|column| column.name.as_str())))
            })?;
            if let Some((_, why)) = CHANGED.iter().find(|(changed, _)| *changed == column.type_name) {
                return Err(ConnectorError::Mismatch {
                    what: what.clone(),
                    message: format!("column {name} is {}, which {why}", column.type_text),
                });
            }
            columns.push(selected(name, &column.type_name));
        }
        let rows = format!("SELECT {} FROM {}", columns.join(", "), self.table.quoted_name());
        let mut cursor = format!("DECLARE rows NO SCROLL CURSOR FOR SELECT 0, row_to_json(r)::text FROM ({rows}) r");
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed)?;
        let letters = OwnTable::DeadLetters.name(Dialect::Postgres);
        let (has_letters,): (bool,) = sqlx::query_as("SELECT to_regclass($1) IS NOT NULL")
            .bind(letters)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if has_letters {
            let (pipeline, sink) = (literal(&context.pipeline), literal(&context.table));
            cursor.push_str(&format!(
                " UNION ALL SELECT 1, refused_row::text FROM {letters} \
                 WHERE pipeline = {pipeline} AND sink = {sink} AND epoch IS NOT NULL"
            ));
        }
        connection.execute(AssertSqlSafe(cursor)).await.map_err(failed)?;
        let fetch = format!("FETCH {} FROM rows", context.batch_size.max(1));
        Ok(Box::new(OpenRows { what, connection, fetch, announced: 0, row: 0 }))
    }
}

/// A column as JSON can hold it: NaN and the infinities, of which it has none, as null.
fn selected(name: &str, type_name: &str) -> String {
    let name = quoted(name);
    match type_name {
        "float4" | "float8" => {
            format!("NULLIF(NULLIF(NULLIF({name}, 'NaN'), 'Infinity'), '-Infinity') AS {name}")
        }
        _ => name,
    }
}

/// Text as it stands in a statement: a cursor takes no parameters.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[async_trait]
impl Source for OpenRows {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if let Some(split) = ["rows", DEAD_LETTERS].get(self.announced as usize) {
            self.announced += 1;
            return Ok(SourceEvent::Split(SplitIndex(self.announced - 1), (*split).into(), None));
        }
        let rows =
            sqlx::query_as::<_, (i32, String)>(AssertSqlSafe(self.fetch.as_str())).fetch_all(&mut self.connection);
        let rows = rows.await.map_err(|error| connector_error(&self.what, &error))?;
        if rows.is_empty() {
            return Ok(SourceEvent::End);
        }
        let mut records = RawRecords::default();
        for (split, row) in rows {
            records.push(SplitIndex(split as u32), self.row, row.as_bytes());
            self.row += 1;
        }
        Ok(SourceEvent::Records(records))
    }
}

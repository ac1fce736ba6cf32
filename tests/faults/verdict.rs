//! What is in a destination against what must be there, both worked out by PostgreSQL: nothing here is Acequia's code.

use std::fmt::{self, Write};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::ledger::{Fate, Ledger};

/// What the rows of a destination look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Events,
    Windows,
    DeadLetters,
}

impl Shape {
    fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Shape::Events => &[("id", "BIGINT"), ("kind", "TEXT"), ("amount", "BIGINT"), ("ts", "TIMESTAMP")],
            Shape::Windows => &[
                ("start", "TIMESTAMP"),
                ("kind", "TEXT"),
                ("n", "BIGINT"),
                ("total", "BIGINT"),
                ("lowest", "BIGINT"),
                ("highest", "BIGINT"),
            ],
            Shape::DeadLetters => &[("reason", "TEXT"), ("partition", "INT"), ("value", "TEXT")],
        }
    }

    /// What tells one row from all others.
    fn key(self) -> &'static str {
        match self {
            Shape::Events => "id",
            Shape::Windows => "start, kind",
            Shape::DeadLetters => "value",
        }
    }

    /// The names of the columns.
    pub fn names(self) -> Vec<&'static str> {
        self.columns().iter().map(|(name, _)| *name).collect()
    }

    fn list(self) -> String {
        let quoted: Vec<String> = self.names().iter().map(|name| format!("\"{name}\"")).collect();
        quoted.join(", ")
    }
}

/// Where rows went.
pub enum Found {
    /// A table of the same server.
    Table(String),
    /// JSON documents.
    Documents(Vec<String>),
}

/// How a destination did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub destination: &'static str,
    pub expected: i64,
    pub found: i64,
    /// Rows that are not there.
    pub lost: i64,
    /// Rows that are there more often than they should be.
    pub twice: i64,
    /// Rows that should not be there at all, or with other values.
    pub wrong: i64,
    /// Some of them.
    pub examples: String,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        (self.lost, self.twice, self.wrong) == (0, 0, 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { destination, expected, found, lost, twice, wrong, examples } = self;
        write!(f, "{destination:<22} {expected:>8} {found:>8} {lost:>6} {twice:>6} {wrong:>6}  {examples}")
    }
}

/// The heading over a list of verdicts.
pub const HEADING: &str = "destination            expected    found   lost  twice  wrong";

/// Works out, in a schema of its own, what must come of the first `count` records.
pub struct Judge {
    client: PgConnection,
    schema: String,
}

impl Judge {
    pub async fn new(url: &str, trial: &str, ledger: Ledger, count: u64) -> Judge {
        let mut client = PgConnection::connect(url).await.unwrap();
        let schema = format!("{trial}_ledger");
        let setup = format!(
            "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema};
             CREATE TABLE {schema}.ledger (fate TEXT, reason TEXT, partition INT, value TEXT, id BIGINT, kind TEXT,
                                           amount BIGINT, ts TIMESTAMP)"
        );
        client.execute(AssertSqlSafe(setup)).await.unwrap();
        let mut judge = Judge { client, schema };
        let rows = (0..count).map(|number| ledger_line(ledger, number)).collect();
        judge.copy("ledger", rows).await;
        judge
    }

    /// Holds what was found against the rows of `expected`, a query over `ledger`.
    pub async fn judge(&mut self, destination: &'static str, shape: Shape, expected: &str, found: Found) -> Verdict {
        let (schema, columns, key) = (self.schema.clone(), shape.list(), shape.key());
        self.run(format!("SET search_path = {schema}; DROP TABLE IF EXISTS expected, found, documents")).await;
        self.run(format!("CREATE TABLE expected AS {expected}")).await;
        match found {
            Found::Table(table) => self.run(format!("CREATE TABLE found AS SELECT {columns} FROM {table}")).await,
            Found::Documents(documents) => {
                self.run("CREATE TABLE documents (document JSONB)".into()).await;
                self.copy("documents", documents.iter().map(|document| csv_line([document.as_str()])).collect()).await;
                let typed = |(name, kind): &(&str, &str)| format!("(document->>'{name}')::{kind} AS \"{name}\"");
                let typed: Vec<String> = shape.columns().iter().map(typed).collect();
                self.run(format!("CREATE TABLE found AS SELECT {} FROM documents", typed.join(", "))).await;
            }
        }
        let statement = format!(
            "WITH e AS (SELECT {key}, count(*) AS n FROM expected GROUP BY {key}),
                  f AS (SELECT {key}, count(*) AS n FROM found GROUP BY {key}),
                  both_sides AS (SELECT {key}, coalesce(e.n, 0) AS e, coalesce(f.n, 0) AS f
                                 FROM e FULL JOIN f USING ({key})),
                  wrong AS (SELECT {columns} FROM found EXCEPT SELECT {columns} FROM expected),
                  lost AS (SELECT {key} FROM both_sides WHERE e > f ORDER BY {key} LIMIT 5),
                  twice AS (SELECT {key} FROM both_sides WHERE f > e AND e > 0 ORDER BY {key} LIMIT 5)
             SELECT (SELECT count(*) FROM expected), (SELECT count(*) FROM found),
                    (SELECT coalesce(sum(e - f), 0)::BIGINT FROM both_sides WHERE e > f),
                    (SELECT coalesce(sum(f - e), 0)::BIGINT FROM both_sides WHERE f > e AND e > 0),
                    (SELECT count(*) FROM wrong),
                    concat((SELECT string_agg('lost ' || lost::TEXT, ' ') FROM lost),
                           (SELECT string_agg(' twice ' || twice::TEXT, ' ') FROM twice),
                           (SELECT string_agg(' wrong ' || w::TEXT, ' ') FROM (SELECT * FROM wrong LIMIT 5) AS w))"
        );
        let row = self.client.fetch_one(AssertSqlSafe(statement)).await.unwrap();
        let (expected, found, lost, twice, wrong) = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        Verdict { destination, expected, found, lost, twice, wrong, examples: row.get(5) }
    }

    async fn run(&mut self, statement: String) {
        self.client.execute(AssertSqlSafe(statement)).await.unwrap();
    }

    async fn copy(&mut self, table: &str, lines: Vec<String>) {
        let statement = format!("COPY {}.{table} FROM STDIN WITH (FORMAT csv)", self.schema);
        let mut copy = self.client.copy_in_raw(&statement).await.unwrap();
        for lines in lines.chunks(5000) {
            copy.send(lines.concat().into_bytes()).await.unwrap();
        }
        copy.finish().await.unwrap();
    }
}

fn ledger_line(ledger: Ledger, number: u64) -> String {
    let record = ledger.record(number);
    let partition = record.partition.to_string();
    let (fate, reason, row) = match record.fate {
        Fate::InTime(row) => ("in time", "", Some(row)),
        Fate::Late(row) => ("late", "", Some(row)),
        Fate::Bad(reason) => ("bad", reason, None),
    };
    let fields = match row {
        Some(row) => [row.id.to_string(), row.kind.into(), row.amount.to_string(), row.ts.naive_utc().to_string()],
        None => Default::default(),
    };
    let [id, kind, amount, ts] = &fields;
    csv_line([fate, reason, &partition, &record.value, id, kind, amount, ts])
}

/// Empty fields are null.
fn csv_line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (number, field) in fields.into_iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        match field {
            "" => line.push_str(comma),
            field => write!(line, "{comma}\"{}\"", field.replace('"', "\"\"")).unwrap(),
        }
    }
    line.push('\n');
    line
}

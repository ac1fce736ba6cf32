//! Acequia's own tables in a database: the markers of its sinks, and the rows that were refused.

use super::create::Dialect;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnTable {
    /// A row for each sink: which epoch was delivered last, and by which run.
    Epochs,
    /// A row for each refused row.
    DeadLetters,
}

/// The schema that holds them in PostgreSQL.
pub const SCHEMA: &str = "_acequia";

impl OwnTable {
    /// The name without a schema, as PostgreSQL's catalog has it.
    pub fn bare_name(self) -> &'static str {
        match self {
            OwnTable::Epochs => "epochs",
            OwnTable::DeadLetters => "dead_letters",
        }
    }

    /// The name as it stands in a statement.
    pub fn name(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (OwnTable::Epochs, Dialect::Postgres) => "_acequia.epochs",
            (OwnTable::Epochs, Dialect::Sqlite) => "_acequia_epochs",
            (OwnTable::DeadLetters, Dialect::Postgres) => "_acequia.dead_letters",
            (OwnTable::DeadLetters, Dialect::Sqlite) => "_acequia_dead_letters",
        }
    }

    /// The statement that makes it.
    pub fn create(self, dialect: Dialect) -> String {
        let (moment, json) = match dialect {
            Dialect::Postgres => ("timestamptz", "json"),
            Dialect::Sqlite => ("TEXT", "TEXT"),
        };
        let name = self.name(dialect);
        match self {
            OwnTable::Epochs => format!(
                "CREATE TABLE IF NOT EXISTS {name} (pipeline text NOT NULL, sink text NOT NULL, log text NOT NULL, \
                 incarnation bigint NOT NULL, epoch bigint NOT NULL, rows bigint NOT NULL, \
                 delivered_at {moment} NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (pipeline, sink))"
            ),
            OwnTable::DeadLetters => format!(
                "CREATE TABLE IF NOT EXISTS {name} (pipeline text NOT NULL, sink text NOT NULL, epoch bigint, \
                 error text NOT NULL, refused_row {json} NOT NULL, \
                 refused_at {moment} NOT NULL DEFAULT CURRENT_TIMESTAMP)"
            ),
        }
    }
}

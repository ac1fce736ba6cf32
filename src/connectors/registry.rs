//! The list of connectors: one line each.

use super::Connector;

/// Every connector that a table can name.
pub fn connectors() -> Vec<Box<dyn Connector>> {
    vec![
        Box::new(super::file::FileConnector::named("file")),
        Box::new(super::file::FileConnector::named("filesystem")),
        Box::new(super::datagen::DatagenConnector),
        Box::new(super::nexmark::NexmarkConnector),
        Box::new(super::stdout::StdoutConnector),
        Box::new(super::blackhole::BlackholeConnector),
        Box::new(super::kafka::Kafka),
        Box::new(super::postgres::PostgresConnector::named("postgres")),
        Box::new(super::postgres::PostgresConnector::named("postgresql")),
        Box::new(super::redis::RedisConnector),
        Box::new(super::sqlite::SqliteConnector),
        Box::new(super::delta::DeltaConnector),
    ]
}

/// The connector of that name.
pub fn connector(name: &str) -> Option<Box<dyn Connector>> {
    connectors().into_iter().find(|connector| connector.name() == name)
}

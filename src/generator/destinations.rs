//! Where events go: Kafka's topics, or the tables of databases.

use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::Flush;
use super::postgres::Postgres;
use super::rows::{Part, Rows};
use super::sqlite::SqliteFile;
use super::topics::Topics;
use crate::connectors::ConnectorError;
use crate::connectors::postgres::{Url, address};
use crate::connectors::sqlite::embedded_file;
use crate::shop::{Catalogue, Customer, Event, ShopEvents};

/// Where events go.
#[derive(Clone, Debug)]
pub enum Destinations {
    /// The topics `transactions`, `user_behavior`, `searches` and `cart_events`, over the seed's own base data.
    Topics {
        /// Addresses.
        bootstrap_servers: String,
    },
    /// The same topics in the log of this process, over the seed's own base data.
    EmbeddedTopics {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// The tables of the shop, and those of the CRM unless there is none.
    Databases {
        /// Transactions and behaviour.
        shop: DatabasePlace,
        /// Interactions; the same database may hold both.
        crm: Option<DatabasePlace>,
    },
}

/// A database.
#[derive(Clone, Debug)]
pub enum DatabasePlace {
    /// A PostgreSQL server.
    Server(Box<PgConnectOptions>),
    /// A SQLite file.
    File(PathBuf),
}

impl DatabasePlace {
    /// Reads `postgres://...`, `sqlite://file` or `embedded://name`, which is a file in `data_dir`.
    ///
    /// # Errors
    /// What is wrong, to follow the name of what holds the text; never the text, which may hold a password.
    pub fn parse(text: &str, data_dir: &Path) -> Result<DatabasePlace, &'static str> {
        Ok(match Url::parse(text)? {
            Url::Server(server) => DatabasePlace::Server(server),
            Url::File(path) => DatabasePlace::File(path),
            Url::Embedded(name) => DatabasePlace::File(data_dir.join(embedded_file(&name))),
        })
    }

    /// As a person is told, without user and password.
    pub fn describe(&self) -> String {
        match self {
            DatabasePlace::Server(server) => format!("PostgreSQL at {}", address(server)),
            DatabasePlace::File(path) => path.display().to_string(),
        }
    }
}

impl Destinations {
    /// As a person is told, without users and passwords.
    pub fn describe(&self) -> String {
        match self {
            Destinations::EmbeddedTopics { .. } => "the embedded Kafka".into(),
            Destinations::Topics { bootstrap_servers } => format!("Kafka at {bootstrap_servers}"),
            Destinations::Databases { shop, crm: None } => shop.describe(),
            Destinations::Databases { shop, crm: Some(crm) } if shop.describe() == crm.describe() => shop.describe(),
            Destinations::Databases { shop, crm: Some(crm) } => format!("{} and {}", shop.describe(), crm.describe()),
        }
    }
}

/// What is open of them.
pub(super) enum Writer {
    Topics(Topics),
    Databases { shop: Database, crm: Option<Database> },
}

pub(super) enum Database {
    Server(Box<Postgres>),
    File(SqliteFile),
}

impl Database {
    fn new(place: DatabasePlace, stop: &CancellationToken) -> Database {
        match place {
            DatabasePlace::Server(server) => Database::Server(Box::new(Postgres::new(*server, stop.clone()))),
            DatabasePlace::File(path) => Database::File(SqliteFile::new(path, stop.clone())),
        }
    }

    async fn open_shop(&self, seed: u64) -> Result<Catalogue, ConnectorError> {
        match self {
            Database::Server(postgres) => postgres.open_shop(seed).await,
            Database::File(file) => file.open_shop(seed).await,
        }
    }

    async fn open_crm(&self, customers: &[Customer]) -> Result<(), ConnectorError> {
        match self {
            Database::Server(postgres) => postgres.open_crm(customers).await,
            Database::File(file) => file.open_crm(customers).await,
        }
    }

    async fn write(&self, part: Part, rows: &Rows) -> Result<(), ConnectorError> {
        match self {
            _ if rows.is_empty(part) => Ok(()),
            Database::Server(postgres) => postgres.write(part, rows).await,
            Database::File(file) => file.write(part, rows).await,
        }
    }
}

/// Rows that the database has changed or hidden as they were made would leave nothing to buy.
fn check(catalogue: &Catalogue, what: &str) -> Result<(), ConnectorError> {
    if !catalogue.sellers().is_empty() && !catalogue.buyers.is_empty() {
        return Ok(());
    }
    Err(ConnectorError::Refused {
        what: what.into(),
        message: "nobody sells or nobody buys: it needs a row in buyer, and one in product with a price between 0 and \
                  10,000,000"
            .into(),
    })
}

/// The base data that events go over, and the databases, which are ready for them.
pub(super) async fn open_databases(
    shop: DatabasePlace,
    crm: Option<DatabasePlace>,
    seed: u64,
    stop: &CancellationToken,
) -> Result<(Catalogue, Writer), ConnectorError> {
    let what = shop.describe();
    let shop = Database::new(shop, stop);
    let catalogue = shop.open_shop(seed).await?;
    check(&catalogue, &what)?;
    let crm = crm.map(|place| Database::new(place, stop));
    if let Some(crm) = &crm {
        crm.open_crm(&catalogue.customers).await?;
    }
    Ok((catalogue, Writer::Databases { shop, crm }))
}

impl Writer {
    /// Writes a group of events, all or none for each database.
    pub(super) async fn write(
        &mut self,
        events: &[(Event, i64)],
        shop_events: &ShopEvents,
        flush: Flush,
    ) -> Result<(), ConnectorError> {
        match self {
            Writer::Topics(topics) => topics.write(events, shop_events, flush).await,
            Writer::Databases { shop, crm } => {
                let rows = Rows::of(events, shop_events);
                shop.write(Part::Shop, &rows).await?;
                match crm {
                    Some(crm) => crm.write(Part::Crm, &rows).await,
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_buyers_or_products_there_is_nothing_to_generate() {
        let of_seed = Catalogue::new(1);
        assert!(check(&of_seed, "shop.sqlite").is_ok());
        let no_products = Catalogue::of(of_seed.customers.clone(), of_seed.buyers.clone(), vec![]);
        let no_buyers = Catalogue::of(Catalogue::new(1).customers, vec![], of_seed.products.clone());
        for catalogue in [no_products, no_buyers] {
            assert_eq!(
                check(&catalogue, "shop.sqlite").unwrap_err().to_string(),
                "shop.sqlite: nobody sells or nobody buys: it needs a row in buyer, and one in product with a price \
                 between 0 and 10,000,000"
            );
        }
    }
}

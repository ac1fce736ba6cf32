//! Generated events for embedded parts, so that a shop's folder shows something with nothing installed.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::connectors::sqlite::embedded_file;
use crate::generator::{self, DatabasePlace, Destinations, End, Figures, GeneratorOptions, Pace};
use crate::program::{Program, Table};
use crate::shop::ShopOptions;

/// The topics of the shop's events.
const TOPICS: [&str; 4] = ["transactions", "user_behavior", "searches", "cart_events"];

/// What is filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// The embedded databases `shop` and `crm`.
    Databases,
    /// The topics of the embedded Kafka.
    Topics,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sample::Databases => "the shop's databases are",
            Sample::Topics => "the shop's topics are",
        })
    }
}

/// What the program has to be filled: its embedded shop, or the embedded Kafka's topics if nothing else writes them.
/// Generated events go to no server, not even by way of the program.
pub fn wanted(program: &Program) -> Option<Sample> {
    let topics: Vec<&Table> = program.tables.iter().filter(|table| holds_shops_events(table)).collect();
    let is_shop =
        |table: &Table| table.connector.embedded_database() == Some("shop") && table.connector.source().is_some();
    let written: BTreeSet<&str> =
        program.inserts.iter().filter_map(|insert| Some(insert.target.as_ref()?.table.as_str())).collect();
    match topics.as_slice() {
        [] => None,
        _ if program.tables.iter().any(is_shop) => Some(Sample::Databases),
        topics if topics.iter().any(|table| written.contains(table.definition.name.as_str())) => None,
        _ => Some(Sample::Topics),
    }
}

/// Whether it is read from a topic of the shop in the embedded Kafka.
fn holds_shops_events(table: &Table) -> bool {
    table.connector.embedded() == Some("Kafka")
        && table.connector.source().is_some_and(|source| is_shops(&source.describe()))
}

/// `kafka topic transactions (embedded)` is; so is a list of topics with one of the shop's among them.
fn is_shops(description: &str) -> bool {
    description.split([' ', ',']).any(|word| TOPICS.contains(&word))
}

/// Writes `events_per_second` events of the shop to the embedded parts below `data_dir`, as they happen from now on.
pub async fn feed(sample: Sample, events_per_second: u64, data_dir: PathBuf, stop: CancellationToken) {
    let file = |name| DatabasePlace::File(data_dir.join(embedded_file(name)));
    let destinations = match sample {
        Sample::Databases => Destinations::Databases { shop: file("shop"), crm: Some(file("crm")) },
        Sample::Topics => Destinations::EmbeddedTopics { data_dir },
    };
    let options = GeneratorOptions {
        shop: ShopOptions { events_per_second: events_per_second as f64, ..ShopOptions::default() },
        pace: Pace::Live,
        end: End::Never,
        figures: Arc::new(Figures::default()),
    };
    if let Err(error) = generator::feed(destinations, options, stop.clone()).await
        && !stop.is_cancelled()
    {
        tracing::error!("the generated events have stopped: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::registry;
    use crate::sql::{SourceFiles, Variables};

    /// What is wanted for a table `transactions` of the embedded Kafka, and more SQL.
    fn wanted_for(more: &str) -> Option<Sample> {
        let mut files = SourceFiles::default();
        let topic = "CREATE TABLE transactions (transaction_id BIGINT)\n\
                     WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'transactions');\n\
                     CREATE TABLE b (transaction_id BIGINT) WITH (connector = 'blackhole');\n\
                     INSERT INTO b SELECT transaction_id FROM transactions;\n";
        files.add("p.sql".into(), format!("{topic}{more}"));
        let program = Program::parse(files, &Variables::default(), &registry::connectors());
        wanted(&program.unwrap_or_else(|errors| panic!("{}", errors.render(false))))
    }

    fn shop(url: &str) -> String {
        format!(
            "CREATE TABLE shop (transaction_id BIGINT) WITH (connector = 'postgres', url = '{url}', migrate = 'shop',\n\
             table = 'transaction_events', cursor = 'transaction_id');\n\
             INSERT INTO transactions SELECT transaction_id FROM shop;"
        )
    }

    #[test]
    fn an_embedded_shop_is_filled_and_else_the_topics_that_nobody_writes() {
        assert_eq!(wanted_for(""), Some(Sample::Topics));
        assert_eq!(wanted_for(&shop("embedded://shop")), Some(Sample::Databases));
        assert_eq!(wanted_for(&shop("postgres://localhost/instashop")), None, "a real shop has its own events");
        assert_eq!(wanted_for(&shop("none")), None, "somebody else fills the topics");
    }

    #[test]
    fn only_the_shops_topics_are_filled() {
        assert!(is_shops("kafka topic transactions (embedded)"));
        assert!(is_shops("kafka topics clicks, searches (embedded)"));
        assert!(!is_shops("kafka topic transaction_items (embedded)"));
    }
}

//! Generated events where Kafka is embedded, so that a shop's folder shows something with nothing installed: into the
//! embedded shop when the folder reads one, else into the shop's topics, unless the folder fills these itself.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::connectors::sqlite::embedded_file;
use crate::generator::{self, DatabasePlace, Destinations, End, Figures, GeneratorOptions, Pace};
use crate::program::{Program, Table};
use crate::shop::ShopOptions;

/// The topics that the shop's generator fills.
const TOPICS: [&str; 4] = ["transactions", "user_behavior", "searches", "cart_events"];

/// Where generated events belong, if they belong anywhere in this program.
pub fn destinations(program: &Program, data_dir: &Path) -> Option<Destinations> {
    let is_kafka = |table: &&Table| table.connector.embedded() == Some("Kafka");
    let mut topics = program.tables.iter().filter(is_kafka).peekable();
    topics.peek()?;
    let file = |name: &str| {
        let is_read =
            |table: &Table| table.connector.embedded_database() == Some(name) && table.connector.source().is_some();
        program.tables.iter().any(is_read).then(|| DatabasePlace::File(data_dir.join(embedded_file(name))))
    };
    if let Some(shop) = file("shop") {
        return Some(Destinations::Databases { shop, crm: file("crm") });
    }
    let is_written = |table: &Table| {
        let mut targets = program.inserts.iter().filter_map(|insert| insert.target.as_ref());
        targets.any(|target| target.table == table.definition.name)
    };
    let of_shop = |table: &&Table| table.connector.source().is_some_and(|source| is_shops(&source.describe()));
    let mut topics = topics.filter(of_shop).peekable();
    topics.peek()?;
    // The generator fills all of them, so that one that the folder fills is reason enough.
    (!topics.any(is_written)).then(|| Destinations::EmbeddedTopics { data_dir: data_dir.to_owned() })
}

/// `kafka topic transactions (embedded)` is; so is a list of topics with one of the shop's among them.
fn is_shops(description: &str) -> bool {
    description.split([' ', ',']).any(|word| TOPICS.contains(&word))
}

/// Writes `events_per_second` events of the shop, as they happen from now on.
pub async fn feed(destinations: Destinations, events_per_second: u64, stop: CancellationToken) {
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

    const TRANSACTIONS: &str = "CREATE TABLE t (id BIGINT) WITH (connector = 'kafka', topic = 'transactions', \
                                bootstrap_servers = 'KAFKA');\n";
    const SHOP: &str = "CREATE TABLE s (id BIGINT NOT NULL) WITH (connector = 'postgres', url = 'URL', table = 'a', \
                        cursor = 'id');\nINSERT INTO t SELECT id FROM s;\n";

    fn told(sql: &str) -> String {
        let mut files = SourceFiles::default();
        files.add("a.sql".into(), sql.to_owned());
        let program = Program::parse(files, &Variables::from_environment(), &registry::connectors());
        let program = program.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        destinations(&program, Path::new("data")).map_or("none".into(), |destinations| destinations.describe())
    }

    #[test]
    fn an_embedded_shop_is_filled_and_topics_that_nobody_fills() {
        let embedded = TRANSACTIONS.replace("KAFKA", "embedded");
        assert_eq!(told(&embedded), "the embedded Kafka");
        assert_eq!(told(&TRANSACTIONS.replace("KAFKA", "localhost:9092")), "none");
        assert_eq!(told(&embedded.replace("transactions", "clicks")), "none");
        let shop = |url: &str| format!("{embedded}{}", SHOP.replace("URL", url));
        assert_eq!(told(&shop("embedded://shop")), "data/shop.sqlite");
        let crm = SHOP.replace("URL", "embedded://crm").replace("TABLE s", "TABLE c").replace("FROM s", "FROM c");
        assert_eq!(told(&format!("{}{crm}", shop("embedded://shop"))), "data/shop.sqlite and data/crm.sqlite");
        // The folder fills the topic, though with nothing or with somebody's real rows.
        assert_eq!(told(&shop("none")), "none");
        assert_eq!(told(&shop("postgres://localhost/instashop")), "none");
        // Rows of a generated shop never come to a real Kafka; `run` refuses the folder besides.
        assert_eq!(told(&shop("embedded://shop").replace("'embedded'", "'localhost:9092'")), "none");
    }

    #[test]
    fn only_the_shops_topics_are_filled() {
        assert!(is_shops("kafka topic transactions (embedded)"));
        assert!(is_shops("kafka topics clicks, searches (embedded)"));
        assert!(!is_shops("kafka topic transaction_items (embedded)"));
    }
}

//! A folder that reads a database, through the whole binary.

use std::path::Path;
use std::process::Output;

use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use super::pipeline::acequia;
use super::postgres::database;

const FOLDER: &str = "
CREATE TABLE shop_transactions (
    transaction_id BIGINT NOT NULL, transaction_date TIMESTAMP NOT NULL, customer_id BIGINT, total_amount DECIMAL(12, 2),
    items STRUCT<product_id BIGINT, quantity INT, unit_price DECIMAL(12, 2)>[],
    WATERMARK FOR transaction_date AS transaction_date - INTERVAL '10 seconds'
) WITH (
    connector = 'postgres', url = '${SHOP_URL:-embedded://shop}', migrate = 'shop', table = 'transaction_events',
    cursor = 'transaction_id', cursor_table = 'transaction', poll_interval = '50 ms'
);
CREATE TABLE sold (transaction_id BIGINT, product_id BIGINT, amount DECIMAL(12, 2))
WITH (connector = 'file', path = '${OUT}', delivery = 'exactly_once');
INSERT INTO sold
SELECT transaction_id, item['product_id'], CAST(item['quantity'] * item['unit_price'] AS DECIMAL(12, 2))
FROM (SELECT transaction_id, unnest(items) AS item FROM shop_transactions);
";

const TO_KAFKA: &str = "
CREATE TABLE shop_behavior (behavior_id BIGINT, event_type TEXT)
WITH (connector = 'postgres', url = '${SHOP_URL:-embedded://shop}', table = 'userbehavior', cursor = 'behavior_id');
CREATE TABLE events (event_type TEXT)
WITH (connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS:-embedded}', topic = 'events');
INSERT INTO events SELECT event_type FROM shop_behavior;
";

struct Folder {
    place: TempDir,
}

impl Folder {
    fn of(text: &str) -> Folder {
        let place = TempDir::new().unwrap();
        std::fs::write(place.path().join("folder.sql"), text).unwrap();
        Folder { place }
    }

    fn at(&self, name: &str) -> String {
        self.place.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = acequia();
        command.args(arguments).arg(self.at("folder.sql")).env("OUT", self.at("out.jsonl"));
        command.env("ACEQUIA__RUN__DATA_DIR", self.at("data"));
        for (name, value) in variables {
            command.env(name, value);
        }
        command.output().unwrap()
    }

    /// Runs to the end of what is there, and gives the lines that were written so far.
    fn run(&self, variables: &[(&str, &str)]) -> Vec<String> {
        let output = self.command(&["run", "--bounded", "--no-http"], variables);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let written = std::fs::read_to_string(self.at("out.jsonl")).unwrap_or_default();
        written.lines().map(str::to_owned).collect()
    }
}

const BASE: &str = "INSERT INTO customer (name) VALUES ('Ana'); INSERT INTO buyer (name) VALUES ('Bo'); \
    INSERT INTO product (customer_id, name, price) VALUES (1, 'Lamp', 20), (1, 'Pan', 5);";

/// A transaction with two items.
fn sale(id: i64) -> String {
    format!(
        "BEGIN; INSERT INTO \"transaction\" (buyer_id, customer_id, transaction_date, total_amount) \
         VALUES (1, 1, '2026-01-31 12:00:00', 30); \
         INSERT INTO transactiondetail (transaction_id, product_id, quantity, unit_price) \
         VALUES ({id}, 1, 1, 20.00), ({id}, 2, 2, 5.00); COMMIT;"
    )
}

fn sold(id: i64) -> [String; 2] {
    let line = |product, amount| format!("{{\"transaction_id\":{id},\"product_id\":{product},\"amount\":{amount}}}");
    [line(1, "20.00"), line(2, "10.00")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_reads_the_shop_from_postgres_each_row_once_over_runs() {
    let database = database().await;
    let folder = Folder::of(FOLDER);
    let variables = [("SHOP_URL", database.url())];
    assert_eq!(folder.run(&variables), Vec::<String>::new());
    let mut client = database.client().await;
    for statement in [BASE.to_owned(), sale(1), sale(2)] {
        client.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    assert_eq!(folder.run(&variables), [sold(1), sold(2)].concat());
    assert_eq!(folder.run(&variables).len(), 4);
    client.execute(AssertSqlSafe(sale(3))).await.unwrap();
    assert_eq!(folder.run(&variables), [sold(1), sold(2), sold(3)].concat());

    let listed = folder.command(&["explain"], &variables);
    let text = String::from_utf8_lossy(&listed.stdout);
    let expected = format!("PostgreSQL table transaction_events by transaction_id at {}", database.address);
    assert!(text.contains(&expected) && !text.contains("s3cret"), "{text}");

    // The same address, and another table.
    client
        .execute(AssertSqlSafe(
            "DROP TABLE \"transaction\" CASCADE; DROP TABLE transactiondetail CASCADE; DELETE FROM _acequia_migrations",
        ))
        .await
        .unwrap();
    let refused = folder.command(&["run", "--bounded", "--no-http"], &variables);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("the checkpoint was made with another table"), "{said}");
    assert_eq!(refused.status.code(), Some(5), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_reads_the_embedded_shop() {
    let folder = Folder::of(FOLDER);
    assert_eq!(folder.run(&[]), Vec::<String>::new());
    std::fs::create_dir_all(folder.at("data")).unwrap();
    let path = folder.at("data/shop.sqlite");
    SqliteConnection::connect(&format!("sqlite://{path}?mode=rwc")).await.unwrap();
    assert_eq!(folder.run(&[]), Vec::<String>::new(), "its tables are made");
    let mut client = SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
    for statement in [BASE.to_owned(), sale(1)] {
        client.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    assert_eq!(folder.run(&[]), sold(1));
    assert_eq!(folder.run(&[("SHOP_URL", "none")]), sold(1));
    client.execute(AssertSqlSafe(sale(2))).await.unwrap();
    assert_eq!(folder.run(&[]), [sold(1), sold(2)].concat());
    let explained = folder.command(&["explain"], &[("SHOP_URL", "none")]);
    let text = String::from_utf8_lossy(&explained.stdout);
    assert!(text.contains("no rows (url 'none')"), "{text}");
}

#[test]
fn generated_rows_do_not_get_into_a_real_kafka() {
    let folder = Folder::of(TO_KAFKA);
    std::fs::create_dir_all(folder.at("data")).unwrap();
    let arguments = ["run", "--bounded", "--no-http"];
    // Nothing listens there: the guard speaks before anybody is asked.
    let kafka = ("KAFKA_BROKERS", "127.0.0.1:1");
    std::fs::write(folder.at("data/shop.sqlite"), "").unwrap();
    let refused = folder.command(&arguments, &[kafka]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    let file = Path::new(&folder.at("data")).join("shop.sqlite");
    assert!(
        said.contains(&format!(
            "{} holds generated rows, which table shop_behavior reads, and table events is a kafka topic events at \
             127.0.0.1:1: they must not get there by accident.",
            file.display()
        )),
        "{said}"
    );
    assert!(
        said.contains(
            "Set SHOP_URL to the database whose rows are meant, or to 'none' to go without them, or choose another --data-dir"
        ),
        "{said}"
    );
    // Without the file there is nothing that could get there, and with an embedded Kafka it may.
    assert!(folder.command(&arguments, &[]).status.success());
}

#[test]
fn a_table_without_a_cursor_says_what_is_missing() {
    let folder = Folder::of(&TO_KAFKA.replace(", cursor = 'behavior_id'", ""));
    let checked = folder.command(&["check"], &[]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("table 'shop_behavior' can only be written"), "{said}");
    assert!(
        said.contains(
            "add 'cursor' = 'behavior_id': a column of whole numbers, given once each and in the order of insertion"
        ),
        "{said}"
    );
    let folder = Folder::of(&TO_KAFKA.replace(
        "connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS:-embedded}', topic = 'events'",
        "connector = 'postgres', url = 'none'",
    ));
    let checked = folder.command(&["check"], &[]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("table 'events' can only be read"), "{said}");
    assert!(said.contains("it has a 'query', or its 'url' is 'none': name a database and a table"), "{said}");
}

//! Statements and prepared statements, and what is refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, CommandStatementIngest, CommandStatementSubstraitPlan, EndTransaction,
    ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{Action, FlightDescriptor, IpcMessage, Ticket};

use crate::serving::{Serving, ask, cells, fetch, table};

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
}

#[tokio::test]
async fn rows_have_the_columns_that_were_told_before() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let sql = "SELECT status, count(*) AS n, sum(amount) AS total FROM transactions_history GROUP BY status ORDER BY 1";
    let info = client.execute(sql.into(), None).await.unwrap();
    let told = Schema::try_from(IpcMessage(info.schema.clone())).unwrap();
    assert_eq!(names(&told), ["status Utf8", "n Int64", "total Decimal128(22, 2)"]);

    let descriptor = info.flight_descriptor.clone().unwrap();
    let asked = client.inner_mut().get_schema(descriptor.clone()).await.unwrap().into_inner();
    assert_eq!(Schema::try_from(IpcMessage(asked.schema)).unwrap(), told);
    let polled = client.inner_mut().poll_flight_info(descriptor).await.unwrap().into_inner();
    assert!(polled.flight_descriptor.is_none(), "all is known at once");
    let polled = fetch(&mut client, polled.info.unwrap()).await.unwrap();

    let batches = fetch(&mut client, info).await.unwrap();
    assert_eq!(*batches[0].schema(), told);
    let found = table(&batches);
    assert_eq!(cells(&found), [["paid", "500", "250250.00"], ["pending", "500", "249750.00"]]);
    assert_eq!(table(&polled), found);
}

#[tokio::test]
async fn all_that_a_query_may_say_is_understood() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    for (sql, wanted) in [
        ("SELECT count(*) FROM acequia.history.transactions_history", "1000"),
        ("SELECT max(\"offset\") FROM transactions", "1000"),
        ("SELECT count(*) FROM transactions_history WHERE day = DATE '2026-11-29' AND status LIKE 'pa%'", "500"),
        ("SELECT count(*) FROM transactions_history FOR VERSION AS OF 0 WHERE transaction_id < 0", "0"),
        ("SELECT arrow_typeof(status) IS NOT NULL FROM transactions_history LIMIT 1", "true"),
        ("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'history'", "2"),
    ] {
        let found = ask(&mut client, sql).await.unwrap();
        assert_eq!(cells(&found), [[wanted]], "{sql}");
    }
    let plan = ask(&mut client, "EXPLAIN SELECT status FROM transactions_history").await.unwrap();
    assert!(plan.contains("logical_plan"), "{plan}");
    // Three columns and no rows.
    let none = ask(&mut client, "SELECT 1, 'a', NULL WHERE false").await.unwrap();
    assert_eq!(cells(&none), Vec::<Vec<&str>>::new());
}

#[tokio::test]
async fn a_ticket_is_good_for_once() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let info = client.execute("SELECT 1".into(), None).await.unwrap();
    fetch(&mut client, info.clone()).await.unwrap();
    let again = fetch(&mut client, info).await.unwrap_err();
    assert!(again.contains("this statement is not known: it was closed or fetched before"), "{again}");
    let made_up = client.do_get(Ticket::new("made up")).await.unwrap_err().to_string();
    assert!(made_up.contains("InvalidArgument") || made_up.contains("invalid"), "{made_up}");
}

#[tokio::test]
async fn a_mistake_is_shown_with_its_place() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    for (sql, words) in [
        ("SELECT amout FROM transactions_history", &["amout", "amount", "query:1:8"][..]),
        ("SELECT * FROM nowhere", &["there is no table 'nowhere'", "transactions_history"]),
        ("SELECT FROM WHERE", &["query:1"]),
        ("", &["there is no statement"]),
        ("SELECT 1; SELECT 2", &["only one statement"]),
        ("SELECT * FROM '/etc/passwd'", &["files are not read here"]),
        ("SELECT * FROM transactions_history WHERE customer_id = $1", &["prepare it, and bind"]),
        ("SELECT * FROM live.transactions_history", &["no pipeline is running"]),
        ("SELECT count(*) FROM transactions_history FOR VERSION AS OF 99", &["99"]),
    ] {
        let refused = client.execute(sql.into(), None).await.unwrap_err().to_string();
        for word in words {
            assert!(refused.contains(word), "{sql}: no {word} in {refused}");
        }
    }
    let failing = ask(&mut client, "SELECT 1 / (transaction_id - transaction_id) FROM transactions_history").await;
    assert!(failing.unwrap_err().to_lowercase().contains("divide by zero"));
}

#[tokio::test]
async fn what_would_change_something_is_refused() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let statements = [
        "CREATE TABLE t (a INT)",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp'",
        "DROP TABLE transactions_history",
        "DELETE FROM transactions_history",
        "UPDATE transactions_history SET status = 'x'",
        "INSERT INTO transactions_history SELECT * FROM transactions_history",
        "COPY transactions_history TO '/tmp/acequia-flight-must-not-be.parquet'",
        "SET datafusion.execution.batch_size = 1",
        "BEGIN",
        "PREPARE p AS SELECT 1",
    ];
    for sql in statements {
        for refused in [client.execute(sql.into(), None).await.err(), client.prepare(sql.into(), None).await.err()] {
            let refused = refused.unwrap_or_else(|| panic!("{sql} was planned")).to_string();
            assert!(refused.contains("InvalidArgument") || refused.contains("error: "), "{sql}: {refused}");
        }
    }
    assert!(!std::path::Path::new("/tmp/acequia-flight-must-not-be.parquet").exists());

    let update = client.execute_update("DELETE FROM transactions_history".into(), None).await.unwrap_err().to_string();
    assert!(update.contains("nothing can be updated: the history is read here"), "{update}");
    let begin = client.begin_transaction().await.unwrap_err().to_string();
    assert!(begin.contains("there are no transactions"), "{begin}");
    let end = client.end_transaction("t".into(), EndTransaction::Commit).await.unwrap_err().to_string();
    assert!(end.contains("there are no transactions"), "{end}");
    let within = client.execute("SELECT 1".into(), Some("t".into())).await.unwrap_err().to_string();
    assert!(within.contains("there are no transactions"), "{within}");
    let ingest = client.execute_ingest(ingestion(), futures::stream::iter([Ok(numbers(&[1]))])).await;
    let ingest = ingest.unwrap_err().to_string();
    assert!(ingest.contains("nothing can be ingested"), "{ingest}");
    let savepoint = ActionBeginSavepointRequest::default();
    let savepoint = client.do_action(Action::new("BeginSavepoint", encoded(&savepoint))).await.unwrap_err().to_string();
    assert!(savepoint.contains("there are no savepoints"), "{savepoint}");
    let substrait = CommandStatementSubstraitPlan::default();
    let descriptor = FlightDescriptor::new_cmd(encoded(&substrait));
    let substrait = client.inner_mut().get_flight_info(descriptor).await.unwrap_err();
    assert_eq!(substrait.message(), "Substrait plans are not taken: send SQL");
}

fn ingestion() -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Create.into(),
            if_exists: TableExistsOption::Append.into(),
        }),
        table: "transactions_history".into(),
        ..Default::default()
    }
}

/// An `Any` on the wire: its type and its value, both shorter than 128 bytes.
fn encoded<M: ProstMessageExt>(message: &M) -> Vec<u8> {
    let any = message.as_any();
    let mut bytes = vec![10, any.type_url.len() as u8];
    bytes.extend(any.type_url.as_bytes());
    bytes.extend([18, any.value.len() as u8]);
    bytes.extend(&any.value);
    bytes
}

fn numbers(values: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("0", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef)]).unwrap()
}

#[tokio::test]
async fn a_prepared_statement_runs_with_the_values_bound_last() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let sql = "SELECT transaction_id, amount FROM transactions_history WHERE transaction_id = ? AND status <> ?";
    let mut statement = client.prepare(sql.into(), None).await.unwrap();
    assert_eq!(names(statement.dataset_schema().unwrap()), ["transaction_id Int64", "amount Decimal128(12, 2)"]);
    assert_eq!(names(statement.parameter_schema().unwrap()), ["$1 Int64", "$2 Utf8"]);
    for id in [7, 8] {
        let id_column: ArrayRef = Arc::new(Int64Array::from(vec![id]));
        let status: ArrayRef = Arc::new(StringArray::from(vec!["none"]));
        statement.set_parameters(RecordBatch::try_from_iter([("a", id_column), ("b", status)]).unwrap()).unwrap();
        for _ in 0..2 {
            let info = statement.execute().await.unwrap();
            let found = table(&fetch(&mut client, info).await.unwrap());
            assert_eq!(cells(&found), [[id.to_string(), format!("{id}.50")]]);
        }
    }
    statement.set_parameters(numbers(&[1])).unwrap();
    let few = statement.execute().await.unwrap_err().to_string();
    assert!(few.contains("the statement takes 2 values and got 1"), "{few}");
    let closed = statement.clone();
    statement.close().await.unwrap();
    let mut closed = closed;
    let gone = closed.execute().await.unwrap_err().to_string();
    assert!(gone.contains("this statement is not known"), "{gone}");
}

#[tokio::test]
async fn a_row_of_values_is_a_run() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let sql = "SELECT transaction_id FROM transactions_history WHERE transaction_id = $1";
    let mut statement = client.prepare(sql.into(), None).await.unwrap();
    statement.set_parameters(numbers(&[5, 3, 5000, 9])).unwrap();
    let info = statement.execute().await.unwrap();
    let found = table(&fetch(&mut client, info).await.unwrap());
    assert_eq!(cells(&found), [["5"], ["3"], ["9"]]);
    statement.set_parameters(numbers(&vec![1; 10_001])).unwrap();
    let many = statement.execute().await.unwrap_err().to_string();
    assert!(many.contains("at most 10000 rows of values"), "{many}");
    // Seventy megabytes.
    let wide: ArrayRef = Arc::new(StringArray::from_iter_values(vec!["x".repeat(70 << 10); 1024]));
    statement.set_parameters(RecordBatch::try_from_iter([("0", wide)]).unwrap()).unwrap();
    let large = statement.execute().await.unwrap_err().to_string();
    assert!(large.contains("at most 64 MB of values can be bound"), "{large}");

    let mut unbound = client.prepare(sql.into(), None).await.unwrap();
    let info = unbound.execute().await.unwrap();
    let said = fetch(&mut client, info).await.unwrap_err();
    assert!(said.contains("the statement takes 1 values and got 0"), "{said}");
    let mixed = client.prepare("SELECT ?, $1".into(), None).await.unwrap_err().to_string();
    assert!(mixed.contains("this statement has both"), "{mixed}");
    let named = client.prepare("SELECT $name".into(), None).await.unwrap_err().to_string();
    assert!(named.contains("$name is no parameter"), "{named}");
    // No parameters, and a text where nothing says what is wanted.
    let plain = client.prepare("SELECT 1 AS one".into(), None).await.unwrap();
    assert_eq!(plain.parameter_schema().unwrap().fields().len(), 0);
    let untyped = client.prepare("SELECT ? AS any".into(), None).await.unwrap();
    assert_eq!(untyped.parameter_schema().unwrap().field(0).data_type(), &DataType::Utf8);
}

//! A table that is there, and SQL that has changed.

use deltalake_core::kernel::Protocol;
use object_store::ObjectStoreExt;
use serde_json::{Value, json};

use super::*;

async fn write(table: &Table, writer: Writer, epoch: u64, columns: Vec<ArrayRef>) {
    let (mut sink, _) = table.open(writer).await;
    let batch = RecordBatch::try_new(table.definition.writable_schema(), columns).unwrap();
    assert_eq!(sink.deliver(Epoch(epoch), &[batch]).await.unwrap(), Epoch(epoch));
}

fn numbers(numbers: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(numbers.to_vec()))
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

#[tokio::test]
async fn new_columns_are_added_and_missing_ones_are_null() {
    let first = Table::new(&[]);
    write(&first, run(1, 0), 1, vec![texts(&["a"]), numbers(&[1])]).await;
    let wider = table(&[
        ("more", DataType::Float64),
        ("n", DataType::Int64),
        ("at", DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None)),
    ]);
    let mut wider = first.declared(wider, &[]);
    wider.definition.columns[0].nullable = false;
    let at: ArrayRef = Arc::new(arrow::array::TimestampNanosecondArray::from(vec![1_500_000_123]));
    let more: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![0.5]));
    write(&wider, run(2, 1), 2, vec![more, numbers(&[2]), at]).await;
    assert_eq!(
        wider.query("SELECT * FROM events ORDER BY n").await,
        "\
+------+---+------+-------------------------+
| word | n | more | at                      |
+------+---+------+-------------------------+
| a    | 1 |      |                         |
|      | 2 | 0.5  | 1970-01-01T00:00:01.500 |
+------+---+------+-------------------------+"
    );
    // Added in the commit that took the table over.
    assert_eq!(wider.version().await, 3);
    let opened = wider.place.open().await.unwrap().unwrap();
    let protocol = serde_json::to_value(opened.snapshot().unwrap().protocol()).unwrap();
    assert_eq!((&protocol["minReaderVersion"], &protocol["minWriterVersion"]), (&json!(3), &json!(7)));
    assert_eq!(protocol["readerFeatures"], json!(["timestampNtz"]));
    // A third run changes nothing.
    let (_, settled) = wider.open(run(3, 2)).await;
    assert_eq!(settled, Some(Epoch(2)));
    write(&first, run(4, 2), 3, vec![texts(&["c"]), numbers(&[3])]).await;
    assert_eq!(first.numbers().await, [1, 2, 3]);
}

#[tokio::test]
async fn what_cannot_be_made_fit_is_refused_with_what_would_be_right() {
    let there = Table::of(
        table(&[("word", DataType::Utf8), ("n", DataType::Int64), ("day", DataType::Utf8)]),
        &[("partition_by", "day")],
    );
    there.open(run(1, 0)).await;
    let refusal = async |columns: &[(&str, DataType)], partition_by: &str| {
        let pairs: &[(&str, &str)] = &[("partition_by", partition_by)];
        let pairs = if partition_by.is_empty() { &[] } else { pairs };
        there.declared(table(columns), pairs).refusal(run(2, 0)).await.to_string()
    };
    let (word, day) = (("word", DataType::Utf8), ("day", DataType::Utf8));
    assert_eq!(
        refusal(&[word.clone(), ("n", DataType::Int32), day.clone()], "day").await,
        "Delta table t: its column 'n' is of type BIGINT, not INT: a column keeps its type. Declare \"n\" BIGINT, give \
         the new one another name, or name another 'path'"
    );
    assert_eq!(
        refusal(&[word.clone(), ("N", DataType::Int64), day.clone()], "day").await,
        "Delta table t: its column is named 'n', not 'N': write it so"
    );
    assert_eq!(
        refusal(&[word.clone(), day.clone()], "word").await,
        "Delta table t: it is partitioned by 'day', but 'partition_by' says 'word': a table keeps its partitions. Write \
         'partition_by' as it is there, or name another 'path'"
    );
    assert!(refusal(&[word, day], "").await.contains("but 'partition_by' says nothing"));
    assert_eq!(there.marker().await.unwrap().incarnation, Incarnation(1), "refused, it has changed nothing");
}

#[tokio::test]
async fn not_null_stays_not_null() {
    let mut strict = two_columns();
    strict.columns[1].nullable = false;
    let strict = Table::of(strict, &[]);
    let (mut sink, _) = strict.open(run(1, 0)).await;
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let batch = RecordBatch::try_new(two_columns().writable_schema(), vec![texts(&["a"]), nulls]).unwrap();
    let error = sink.deliver(Epoch(1), &[batch]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "Delta table t: column 'n' is NOT NULL and a row has no value there: let it be null, or leave such rows out with \
         WHERE n IS NOT NULL"
    );
    let error = strict.declared(two_columns(), &[]).refusal(run(2, 0)).await.to_string();
    assert_eq!(
        error,
        "Delta table t: its column 'n' is NOT NULL, the one declared may be null: declare it NOT NULL, and leave rows \
         without it out"
    );
    let error = strict.declared(table(&[("word", DataType::Utf8)]), &[]).refusal(run(2, 0)).await.to_string();
    assert_eq!(
        error,
        "Delta table t: its column 'n' is NOT NULL and not declared: declare \"n\" BIGINT NOT NULL, and write it"
    );
}

#[tokio::test]
async fn properties_follow_the_options() {
    let table = Table::new(&[]);
    table.open(run(1, 0)).await;
    // A day longer than the retention, so that the upkeep finds in the log what it is to remove.
    let properties = async || {
        let opened = table.place.open().await.unwrap().unwrap();
        let properties = opened.snapshot().unwrap().metadata().configuration().clone();
        ["delta.checkpointInterval", "delta.deletedFileRetentionDuration", "acequia.log/shop/events"]
            .map(|name| properties[name].clone())
    };
    assert_eq!(properties().await, ["100", "interval 691200 seconds", "3f9a2c11-77"]);
    table.declared(two_columns(), &[("retention", "1 hour"), ("checkpoint_every", "7")]).open(run(2, 0)).await;
    assert_eq!(properties().await, ["7", "interval 90000 seconds", "3f9a2c11-77"]);
}

/// A table that others have made, with this protocol and these changes to its description.
async fn foreign(protocol: Value, change: impl Fn(&mut Value)) -> String {
    let table = Table::new(&[]);
    let schema = json!({"type": "struct", "fields": [
        {"name": "word", "type": "string", "nullable": true, "metadata": {}},
        {"name": "n", "type": "long", "nullable": true, "metadata": {}},
    ]});
    let mut metadata = json!({
        "id": "made-by-others", "format": {"provider": "parquet", "options": {}}, "schemaString": schema.to_string(),
        "partitionColumns": [], "configuration": {}, "createdTime": 1,
    });
    change(&mut metadata);
    serde_json::from_value::<Protocol>(protocol.clone()).unwrap();
    let lines = format!("{}\n{}\n", json!({"protocol": protocol}), json!({"metaData": metadata}));
    let path = object_store::path::Path::from("t/_delta_log/00000000000000000000.json");
    table.store.put(&path, lines.into()).await.unwrap();
    match table.try_open(run(1, 0)).await {
        Ok((mut sink, _)) => {
            deliver(&mut sink, 1, &[1]).await;
            format!("{:?}", table.numbers().await)
        }
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_table_made_by_others_is_written_if_its_rules_are_kept() {
    let plain = || json!({"minReaderVersion": 1, "minWriterVersion": 2});
    assert_eq!(foreign(plain(), |_| {}).await, "[1]");
    let refused = |rule: &str| {
        format!("Delta table t: others have given it {rule}, which this sink does not keep: name another 'path'")
    };
    let constraint = |metadata: &mut Value| metadata["configuration"]["delta.constraints.few"] = json!("n < 10");
    assert_eq!(
        foreign(json!({"minReaderVersion": 1, "minWriterVersion": 3}), constraint).await,
        refused("constraints")
    );
    let generated = |metadata: &mut Value| {
        let schema = metadata["schemaString"].as_str().unwrap();
        let generated = schema.replacen("\"metadata\":{}", "\"metadata\":{\"delta.generationExpression\":\"n\"}", 1);
        metadata["schemaString"] = generated.into();
    };
    let four = json!({"minReaderVersion": 1, "minWriterVersion": 4});
    assert_eq!(foreign(four, generated).await, refused("generated columns"));
    let tracked = json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]});
    assert_eq!(foreign(tracked, |_| {}).await, refused("rowTracking"));
}

//! Reading back what is in each destination, as JSON documents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use redis::Commands;
use sqlx::{Connection, SqliteConnection};

use crate::kafka;

/// What readers of a topic see who read only what is committed, partition by partition in order, up to where it ends now.
/// The reader of a topic that grows may see no end at all, so that what comes later is left out.
pub fn topic(servers: &str, topic: &str) -> Vec<String> {
    kafka::until_over(servers, topic);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "acequia-faults")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let wait = Duration::from_secs(20);
    let metadata = consumer.fetch_metadata(Some(topic), wait).unwrap();
    let mut list = TopicPartitionList::new();
    let mut open = BTreeMap::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), wait).unwrap();
        open.insert(partition.id(), end);
    }
    consumer.assign(&list).unwrap();
    let (mut found, mut heard) = (vec![], Instant::now());
    while !open.is_empty() {
        assert!(heard.elapsed() < Duration::from_secs(60), "{topic} does not come to its end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                heard = Instant::now();
                let Some(end) = open.get(&record.partition()).copied() else { continue };
                if record.offset() < end {
                    found.push(String::from_utf8(record.payload().unwrap().to_vec()).unwrap());
                }
                if record.offset() + 1 >= end {
                    open.remove(&record.partition());
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => println!("reading {topic}: {error}"),
            None => {}
        }
    }
    found
}

/// The values of all keys that begin with `prefix`.
pub fn redis(url: &str, prefix: &str) -> Vec<String> {
    let mut client = redis::Client::open(url).unwrap().get_connection().unwrap();
    // SCAN may give a key more than once.
    let keys: BTreeSet<String> = client.scan_match(format!("{prefix}*")).unwrap().map(Result::unwrap).collect();
    let keys = Vec::from_iter(keys);
    let values = keys.chunks(1000).flat_map(|keys| client.mget::<_, Vec<String>>(keys).unwrap());
    values.collect()
}

/// The lines of a file.
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// The rows of all Parquet files of a folder that its readers see: those whose names do not begin with a dot or `_`.
pub fn parquet(folder: &Path) -> Vec<String> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    parquet_files(paths.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with(['.', '_']) && name.ends_with(".parquet")
    }))
}

/// The rows of a Delta table as its newest version has them.
pub async fn delta(folder: &Path) -> Vec<String> {
    let table = deltalake_core::open_table(url::Url::from_directory_path(folder).unwrap()).await.unwrap();
    let state = table.snapshot().unwrap();
    parquet_files(state.log_data().iter().map(|file| folder.join(file.path().as_ref())))
}

fn parquet_files(paths: impl Iterator<Item = PathBuf>) -> Vec<String> {
    let mut json = arrow::json::LineDelimitedWriter::new(vec![]);
    for path in paths {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap();
        reader.for_each(|batch| json.write(&batch.unwrap()).unwrap());
    }
    json.finish().unwrap();
    String::from_utf8(json.into_inner()).unwrap().lines().map(str::to_owned).collect()
}

/// The rows of a SQLite table with these columns.
pub async fn sqlite(path: &Path, table: &str, columns: &[&str]) -> Vec<String> {
    let mut client = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let pairs: Vec<String> = columns.iter().map(|column| format!("'{column}', \"{column}\"")).collect();
    let statement = format!("SELECT json_object({}) FROM \"{table}\"", pairs.join(", "));
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(&mut client).await.unwrap()
}

//! File sources and sinks through their traits, in temporary folders.

use std::path::PathBuf;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalog::options::OptionValue;
use crate::catalog::{ColumnDefinition, ColumnKind};
use crate::connectors::lines::Output;
use crate::connectors::{SinkContext, Source, SourceContext, SourceEvent};
use crate::sql::Location;

pub(super) fn table(columns: &[(&str, DataType)]) -> TableDefinition {
    let column = |(name, data_type): &(&str, DataType)| ColumnDefinition {
        name: (*name).into(),
        data_type: data_type.clone(),
        nullable: true,
        kind: ColumnKind::Physical,
        location: Location::default(),
    };
    TableDefinition {
        name: "t".into(),
        location: Location::default(),
        columns: columns.iter().map(column).collect(),
        primary_key: vec![],
        watermark: None,
    }
}

pub(super) fn options(pairs: &[(&str, &str)]) -> Options {
    let value = |(key, text): &(&str, &str)| OptionValue::new(*key, *text);
    Options::new(Location::default(), pairs.iter().map(value).collect())
}

/// What a table of one text column `v` holds at `path`.
pub(super) fn content_of(path: &str, pairs: &[(&str, &str)]) -> Content {
    content(&table(&[("v", DataType::Utf8)]), path, &mut options(pairs))
}

pub(super) fn two_columns() -> TableDefinition {
    table(&[("n", DataType::Int64), ("v", DataType::Utf8)])
}

pub(super) fn open_table(definition: &TableDefinition, pairs: &[(&str, &str)]) -> Arc<dyn ConnectorTable> {
    let mut options = options(pairs);
    let table = FileConnector::named("file").table(definition, &mut options);
    assert_eq!(options.finish("file"), []);
    table
}

fn mistakes(definition: &TableDefinition, pairs: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    let mut options = options(pairs);
    FileConnector::named("file").table(definition, &mut options);
    options.finish("file").into_iter().map(|error| (error.message, error.help)).collect()
}

pub(super) fn source_context(schema: SchemaRef) -> SourceContext {
    SourceContext::alone(schema, 2)
}

pub(super) fn sink_context(schema: SchemaRef) -> SinkContext {
    SinkContext {
        table: "t".into(),
        pipeline: "p".into(),
        writer: None,
        schema,
        data_dir: PathBuf::new(),
        stop: CancellationToken::new(),
    }
}

/// Each event as a line; what is told for checkpoints alone is left out.
async fn next(source: &mut Box<dyn Source>) -> String {
    loop {
        return match source.next().await {
            Ok(SourceEvent::Split(split, name, _)) => {
                format!("split {} {}", split.0, name.rsplit('/').next().unwrap_or_default())
            }
            Ok(SourceEvent::Records(records)) => {
                let values = (0..records.len()).map(|row| String::from_utf8_lossy(records.value(row)).into_owned());
                let values: Vec<String> = values.collect();
                let split = records.runs[0].split.0;
                format!("{} of {split}: {} at {:?}", records.len(), values.join(" "), records.offsets)
            }
            Ok(SourceEvent::Rows(batch, runs, offsets)) => {
                assert_eq!(runs[0].rows, batch.num_rows());
                format!("{:?} at {offsets:?}", &batch.column(0).as_primitive::<Int64Type>().values()[..])
            }
            Ok(SourceEvent::Origin(..)) => continue,
            Ok(SourceEvent::Replaced(split, next, _)) => format!("{} is another one, at {next}", split.0),
            Ok(SourceEvent::CaughtUp(split)) => format!("caught up {}", split.0),
            Ok(SourceEvent::SplitEnd(split)) => format!("end of {}", split.0),
            Ok(SourceEvent::End) => "end".into(),
            Err(error) => error.to_string(),
        };
    }
}

async fn opened(table: &Arc<dyn ConnectorTable>, schema: SchemaRef) -> Box<dyn crate::connectors::Sink> {
    table.sink().unwrap().open(sink_context(schema)).await.unwrap().at_once().unwrap()
}

pub(super) async fn everything(table: &Arc<dyn ConnectorTable>, context: SourceContext) -> Vec<String> {
    let mut source = table.source().unwrap().open(context).await.unwrap();
    let mut events = vec![];
    while events.last().is_none_or(|event| event != "end") {
        events.push(next(&mut source).await);
    }
    events
}

#[tokio::test]
async fn a_folder_is_read_file_by_file_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), "a1\na2\na3\n").unwrap();
    std::fs::write(folder.path().join("b.jsonl"), "b1").unwrap();
    let definition = two_columns();
    let table = open_table(&definition, &[("path", folder.path().to_str().unwrap())]);
    let mut context = source_context(definition.physical_schema());
    let events = everything(&table, context.clone()).await;
    assert_eq!(
        events,
        [
            "split 0 a.jsonl",
            "split 1 b.jsonl",
            "2 of 0: a1 a2 at [1, 2]",
            "1 of 1: b1 at [1]",
            "1 of 0: a3 at [3]",
            "end of 1",
            "end of 0",
            "end"
        ]
    );
    context.positions.insert(folder.path().join("a.jsonl").display().to_string(), 3);
    (context.instances, context.instance) = (2, 0);
    assert_eq!(table.source().unwrap().instances(&context, 5).await.unwrap(), 2);
    let events = everything(&table, context).await;
    assert_eq!(events, ["split 0 a.jsonl", "1 of 0: a3 at [3]", "end of 0", "end"]);
}

#[tokio::test]
async fn a_followed_folder_gives_new_lines_and_new_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.jsonl");
    std::fs::write(&file, "one\ntw").unwrap();
    let definition = two_columns();
    let pairs = [("path", folder.path().to_str().unwrap()), ("follow", "true")];
    let table = open_table(&definition, &pairs);
    assert_eq!(table.source().unwrap().boundedness(), crate::connectors::Boundedness::Unbounded);
    let context = source_context(definition.physical_schema());
    let mut source = table.source().unwrap().open(context.clone()).await.unwrap();
    for expected in ["split 0 a.jsonl", "1 of 0: one at [1]", "caught up 0"] {
        assert_eq!(next(&mut source).await, expected);
    }
    std::fs::write(&file, "one\ntwo\n").unwrap();
    assert_eq!(next(&mut source).await, "1 of 0: two at [2]");
    assert_eq!(next(&mut source).await, "caught up 0");
    std::fs::write(folder.path().join("b.jsonl"), "three\n").unwrap();
    for expected in ["split 1 b.jsonl", "1 of 1: three at [1]", "caught up 1"] {
        assert_eq!(next(&mut source).await, expected);
    }
    context.stop.cancel();
    assert!(matches!(source.next().await, Err(ConnectorError::Stopped { .. })));
    // Told to stop at the end, it does.
    let context = SourceContext { bounded: true, stop: CancellationToken::new(), ..context };
    assert_eq!(everything(&table, context).await.last().unwrap(), "end");
}

pub(super) fn batch(numbers: &[i32]) -> RecordBatch {
    let words: Vec<String> = numbers.iter().map(|number| format!("word {number}")).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("v", Arc::new(StringArray::from(words))), ("n", Arc::new(Int32Array::from(numbers.to_vec())))];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn parquet_parts_are_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("history/orders");
    let path = parts.to_str().unwrap();
    let pairs = [("path", path), ("format", "parquet"), ("roll_rows", "3")];
    let definition = table(&[("v", DataType::Utf8), ("n", DataType::Int32)]);
    let written = open_table(&definition, &pairs);
    for round in 0..2 {
        let mut sink = opened(&written, batch(&[]).schema()).await;
        for numbers in [[1, 2], [3, 4], [5, 6]] {
            sink.write(batch(&numbers.map(|number| number + round * 10))).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink.close().await.unwrap();
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&parts).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["part-1.parquet", "part-2.parquet", "part-3.parquet", "part-4.parquet"]);

    // Read as declared here: one column, of a wider type.
    let definition = table(&[("n", DataType::Int64)]);
    let file = parts.join("part-1.parquet");
    let read = open_table(&definition, &[("path", file.to_str().unwrap())]);
    let mut context = source_context(definition.physical_schema());
    let events = everything(&read, context.clone()).await;
    assert_eq!(events, ["split 0 part-1.parquet", "[1, 2] at [0, 1]", "[3, 4] at [2, 3]", "end of 0", "end"]);
    context.positions.insert(file.display().to_string(), 3);
    assert_eq!(everything(&read, context).await[1], "[4] at [3]");

    let overwritten = open_table(&definition, &[("path", path), ("format", "parquet"), ("mode", "overwrite")]);
    let mut sink = opened(&overwritten, batch(&[]).schema()).await;
    sink.close().await.unwrap();
    assert_eq!(std::fs::read_dir(&parts).unwrap().count(), 0);
}

async fn refusal(definition: &TableDefinition, path: &str) -> String {
    let table = open_table(definition, &[("path", path), ("format", "parquet")]);
    let context = source_context(definition.physical_schema());
    let mut source = match table.source().unwrap().open(context).await {
        Ok(source) => source,
        Err(error) => return error.to_string(),
    };
    next(&mut source).await;
    next(&mut source).await
}

#[tokio::test]
async fn parquet_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, "no").unwrap();
    let name = path.to_str().unwrap();
    let numbers = table(&[("number", DataType::Int64)]);
    let message = refusal(&numbers, name).await;
    assert!(message.starts_with(&format!("{name}: is not a Parquet file that can be read: ")), "{message}");

    let columns: [(&str, ArrayRef); 2] =
        [("numbers", Arc::new(Int64Array::from(vec![1]))), ("text", Arc::new(StringArray::from(vec!["x"])))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert_eq!(refusal(&numbers, name).await, format!("{name}: has no column 'number'; did you mean 'numbers'?"));
    let message = refusal(&table(&[("text", DataType::Int64)]), name).await;
    let expected = format!("{name}: column 'text' is of type Utf8 and does not fit the declared Int64: ");
    assert!(message.starts_with(&expected), "{message}");
    let missing = folder.path().join("b.parquet");
    assert!(refusal(&numbers, missing.to_str().unwrap()).await.contains("no such file; did you mean "));
}

#[tokio::test]
async fn a_sink_says_why_it_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    let error = line_sink::LineFile::open(folder.path(), false).err().unwrap();
    assert_eq!(error.to_string(), format!("{place}: is a folder; name a file in it, such as 'out.jsonl'"));
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = line_sink::LineFile::open(&file.join("out.jsonl"), false).err().unwrap();
    assert!(error.to_string().starts_with(&format!("{place}/file: cannot make it: ")), "{error}");
    let table = open_table(&two_columns(), &[("path", file.to_str().unwrap()), ("format", "parquet")]);
    let error = table.sink().unwrap().open(sink_context(two_columns().schema())).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("{place}/file: is a file; Parquet is written as part files into a folder: name a folder")
    );
    for (kind, text) in [
        (std::io::ErrorKind::StorageFull, "x: cannot write it: the disk is full; free some space and start again"),
        (
            std::io::ErrorKind::ReadOnlyFilesystem,
            "x: cannot write it: the file system is read-only; name a path on another one",
        ),
        (
            std::io::ErrorKind::PermissionDenied,
            "x: cannot write it: permission denied; give the user that runs acequia the right to write it",
        ),
    ] {
        assert_eq!(io_error(Path::new("x"), "write", &kind.into()).to_string(), text);
    }
}

#[test]
fn a_file_that_breaks_off_in_a_line_is_mended_and_overwriting_empties_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/out.jsonl");
    let (mut file, empty) = line_sink::LineFile::open(&path, false).unwrap();
    assert!(empty);
    file.write(b"half").unwrap();
    let (mut file, empty) = line_sink::LineFile::open(&path, false).unwrap();
    assert!(!empty);
    file.write(b"whole\n").unwrap();
    file.sync().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "half\nwhole\n");
    assert!(line_sink::LineFile::open(&path, true).unwrap().1);
    let header = CsvHeader { delimiter: b',', wanted: true };
    assert_eq!(header.line(["a".to_owned(), "b,c".to_owned()].iter()), b"a,\"b,c\"\n");
}

#[test]
fn mistakes_in_options_say_what_would_be_right() {
    let definition = two_columns();
    let message = |pairs: &[(&str, &str)]| mistakes(&definition, pairs)[0].clone();
    assert_eq!(message(&[]), ("option 'path' is missing".into(), Some("add 'path' = 'data/*.jsonl'".into())));
    assert_eq!(
        message(&[("path", "x"), ("format", "parqet")]),
        ("option 'format' does not take 'parqet'".into(), Some("did you mean 'parquet'?".into()))
    );
    assert_eq!(
        message(&[("path", "x.parquet"), ("roll_bytes", "many")]),
        (
            "option 'roll_bytes' does not take 'many'".into(),
            Some("it takes a number of bytes such as '1048576', '64MB' or '1GB'".into())
        )
    );
    assert_eq!(
        message(&[("path", "x.parquet"), ("follow", "true")]),
        (
            "a Parquet file cannot be followed: it is not readable before it is complete".into(),
            Some("remove 'follow', or use 'format' = 'json' or 'csv'".into())
        )
    );
    assert_eq!(message(&[("path", "-"), ("format", "parquet")]).0, "Parquet cannot go through stdin or stdout");
    assert_eq!(
        message(&[("path", "x"), ("folow", "true")]),
        ("connector 'file' has no option 'folow'".into(), Some("did you mean 'follow'?".into()))
    );
    let keyed = TableDefinition { primary_key: vec!["n".into()], ..definition.clone() };
    assert_eq!(
        mistakes(&keyed, &[("path", "x")])[0],
        (
            "a file cannot replace rows, but table t has a PRIMARY KEY".into(),
            Some("remove PRIMARY KEY, or write to a connector that can, such as 'postgres' or 'redis'".into())
        )
    );
    let mut sizes = options(&[("a", "64 MB")]);
    assert_eq!(sizes.size(&["a"]), Some(64 << 20));
}

fn written() -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("n", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("v", Arc::new(StringArray::from(vec!["a,\"b\"\nc", "d"]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Rows that a sink wrote come back through a source and its decoder, also after a second run has added to them.
#[tokio::test]
async fn lines_that_were_written_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let definition = two_columns();
    for (name, text) in [
        ("out.jsonl", "{\"n\":1,\"v\":\"a,\\\"b\\\"\\nc\"}\n{\"n\":null,\"v\":\"d\"}\n"),
        ("out.csv", "n,v\n1,\"a,\"\"b\"\"\nc\"\n,d\n"),
    ] {
        let path = folder.path().join("new").join(name);
        let table = open_table(&definition, &[("path", path.to_str().unwrap())]);
        for run in 1..=2 {
            let mut sink = opened(&table, definition.writable_schema()).await;
            sink.write(written()).await.unwrap();
            sink.flush().await.unwrap();
            if run == 1 {
                assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            }
            sink.close().await.unwrap();
        }
        let factory = table.source().unwrap();
        let crate::connectors::Decoding::Format(decode) = factory.decoding() else { panic!("rows of {name}") };
        let mut decoder = decode.decoder(definition.physical_schema()).unwrap();
        let mut source = factory.open(source_context(definition.physical_schema())).await.unwrap();
        let mut batches = vec![];
        loop {
            match source.next().await.unwrap() {
                SourceEvent::Records(records) => {
                    let decoded = decoder.decode(&records).unwrap();
                    assert_eq!(decoded.bad, []);
                    batches.push(decoded.batch);
                }
                SourceEvent::End => break,
                _ => {}
            }
        }
        let read = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        assert_eq!(read.num_rows(), 4);
        for row in [0, 2] {
            assert_eq!(read.slice(row, 2).columns(), written().columns(), "{name} from row {row}");
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_said_when_the_source_opens() {
    let definition = two_columns();
    let table = open_table(&definition, &[("path", "/nowhere/at/all.jsonl")]);
    let context = source_context(definition.physical_schema());
    let error = table.source().unwrap().instances(&context, 2).await.unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/at/all.jsonl: no such file, and no folder /nowhere/at");
}

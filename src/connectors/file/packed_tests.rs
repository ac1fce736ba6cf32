//! Compressed files as sources.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::tests::{everything, open_table, source_context, two_columns};
use crate::connectors::{SourceContext, SourceEvent};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 3).unwrap()
}

fn context() -> SourceContext {
    SourceContext { batch_size: 100, ..source_context(two_columns().physical_schema()) }
}

async fn read(path: &Path) -> Vec<String> {
    everything(&open_table(&two_columns(), &[("path", path.to_str().unwrap())]), context()).await
}

#[tokio::test]
async fn they_are_read_as_what_lies_in_them() {
    let folder = tempfile::tempdir().unwrap();
    // Pieces behind one another are one file, as `cat` and rotation make them.
    for (name, bytes) in [
        ("a.jsonl.gz", [gzip("one\n"), gzip("two")].concat()),
        ("a.jsonl.zst", [zstandard("one\n"), zstandard("two")].concat()),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let split = format!("split 0 {name}");
        assert_eq!(read(&path).await, [&*split, "2 of 0: one two at [1, 2]", "end of 0", "end"]);
    }
    let csv = folder.path().join("c.csv.gz");
    fs::write(&csv, gzip("n,v\n1,\"x\ny\"\n")).unwrap();
    assert_eq!(read(&csv).await[1], "1 of 0: 1,\"x\ny\" at [3]");
    // A folder holds them beside the others; a pattern names them.
    fs::write(folder.path().join("b.jsonl"), "three\n").unwrap();
    let said = read(folder.path()).await;
    assert_eq!(said[..3], ["split 0 a.jsonl.gz", "split 1 a.jsonl.zst", "split 2 b.jsonl"]);
    assert_eq!(read(&folder.path().join("*.jsonl.gz")).await[1], "2 of 0: one two at [1, 2]");
}

#[tokio::test]
async fn a_run_goes_on_within_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl.gz");
    fs::write(&path, gzip("one\ntwo\nthree\n")).unwrap();
    let table = open_table(&two_columns(), &[("path", path.to_str().unwrap())]);
    let mut context = SourceContext { batch_size: 2, ..context() };
    let mut source = table.source().unwrap().open(context.clone()).await.unwrap();
    let name = path.display().to_string();
    let origin = loop {
        if let SourceEvent::Origin(_, origin) = source.next().await.unwrap() {
            break origin;
        }
    };
    assert!(origin.starts_with("next 3, line 3, byte 8, "), "{origin}");
    context.positions.insert(name.clone(), 3);
    context.split_origins.insert(name, origin);
    assert_eq!(everything(&table, context.clone()).await[1], "1 of 0: three at [3]");
    fs::write(&path, gzip("one\ntwO\nthree\n")).unwrap();
    let error = everything_or_refusal(&table, context).await;
    assert!(error.contains("another file is in the place"), "{error}");
}

async fn everything_or_refusal(
    table: &std::sync::Arc<dyn crate::connectors::ConnectorTable>,
    context: SourceContext,
) -> String {
    let mut source = table.source().unwrap().open(context).await.unwrap();
    loop {
        match source.next().await {
            Ok(SourceEvent::End) => return "end".into(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

#[tokio::test]
async fn what_is_damaged_or_has_another_name_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..5000).map(|number| format!("{{\"n\":{number}}}\n")).collect();
    for (name, bytes, what) in [("a.jsonl.gz", gzip(&lines), "gzip"), ("a.jsonl.zst", zstandard(&lines), "zstd")] {
        let path = folder.path().join(name);
        let table = open_table(&two_columns(), &[("path", path.to_str().unwrap())]);
        let begins = format!("{}: cannot be unpacked as {what} (", path.display());
        for bytes in [&bytes[..bytes.len() / 2], lines.as_bytes()] {
            fs::write(&path, bytes).unwrap();
            let error = everything_or_refusal(&table, context()).await;
            assert!(error.starts_with(&begins), "{error}");
        }
        let path = folder.path().join("a.jsonl");
        fs::write(&path, bytes).unwrap();
        let table = open_table(&two_columns(), &[("path", path.to_str().unwrap())]);
        let said = everything_or_refusal(&table, context()).await;
        let extension = name.rsplit('.').next().unwrap();
        let place = path.display();
        assert_eq!(
            said,
            format!("{place}: is compressed with {what}, which its name does not say: name it a.jsonl.{extension}")
        );
    }
}

#[tokio::test]
async fn followed_ones_are_read_once_when_they_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let table = open_table(&two_columns(), &[("path", folder.path().to_str().unwrap()), ("follow", "true")]);
    let mut source = table.source().unwrap().open(context()).await.unwrap();
    let path = folder.path().join("a.jsonl.gz");
    let bytes = gzip("one\ntwo\n");
    // While it is written nobody reads it.
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    fs::write(&path, &bytes).unwrap();
    let old = fs::File::options().write(true).open(&path).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(10)).unwrap();
    let mut said = vec![];
    loop {
        match tokio::time::timeout(Duration::from_secs(20), source.next()).await.unwrap().unwrap() {
            SourceEvent::Records(records) => said.push(format!("{:?}", records.offsets)),
            SourceEvent::SplitEnd(_) => break,
            _ => {}
        }
    }
    assert_eq!(said, ["[1, 2]"]);
}

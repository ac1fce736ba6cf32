//! What other programs write that is not read here, and what they do meanwhile.

use super::*;

/// The text of a commit of `events_history`.
fn commit(place: &Place, version: u64) -> (PathBuf, String) {
    let path = place.table("events_history").join(format!("_delta_log/{version:020}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[tokio::test]
async fn deletion_vectors_are_refused() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let (path, text) = commit(&place, 0);
    let vector = r#""deletionVector":{"storageType":"i","pathOrInlineDv":"wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L","sizeInBytes":40,"cardinality":1},"dataChange":true"#;
    let lines = text.lines().map(|line| match line {
        line if line.starts_with("{\"protocol\"") => {
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","timestampNtz"],"writerFeatures":["deletionVectors","timestampNtz"]}}"#.to_owned()
        }
        line if line.starts_with("{\"add\"") => line.replace("\"dataChange\":true", vector),
        line => line.to_owned(),
    });
    std::fs::write(path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let session = place.session().await;
    let said = mistake(&session, "SELECT count(*) FROM events_history").await;
    assert!(
        said.starts_with("Delta table ")
            && said.contains("events_history: it has deletion vectors, which another program"),
        "{said}"
    );
}

#[tokio::test]
async fn columns_with_other_names_in_the_files_are_refused() {
    let place = Place::new();
    let row = events(&[("a", 1, 10, DAY)]).project(&[0, 1]).unwrap();
    write(&place.table("empty"), row, &[]).await;
    let path = place.table("empty").join(format!("_delta_log/{:020}.json", 0));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut number = 0;
    let mapped = text.lines().map(|line| match line {
        line if line.starts_with("{\"protocol\"") => {
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["columnMapping","timestampNtz"],"writerFeatures":["columnMapping","timestampNtz"]}}"#.to_owned()
        }
        line if line.starts_with("{\"metaData\"") => {
            let mut line = line.replace("\"configuration\":{}", "\"configuration\":{\"delta.columnMapping.mode\":\"name\",\"delta.columnMapping.maxColumnId\":\"5\"}");
            let bare = "\\\"metadata\\\":{}";
            while let Some(at) = line.find(bare) {
                number += 1;
                let mapping = format!("\\\"metadata\\\": {{\\\"delta.columnMapping.id\\\":{number},\\\"delta.columnMapping.physicalName\\\":\\\"col-{number}\\\"}}");
                line.replace_range(at..at + bare.len(), &mapping);
            }
            line
        }
        line => line.to_owned(),
    });
    let mapped = mapped.collect::<Vec<_>>().join("\n");
    assert_eq!(number, 2, "{text}");
    std::fs::write(path, mapped).unwrap();
    let said = mistake(&place.session().await, "SELECT count(*) FROM empty").await;
    assert!(said.contains("it maps the names of its columns, delta.columnMapping.mode = 'name'"), "{said}");
}

#[tokio::test]
async fn files_outside_the_table_are_refused() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let (path, text) = commit(&place, 0);
    std::fs::write(path, text.replace("\"path\":\"day=", "\"path\":\"file:///elsewhere/day=")).unwrap();
    let said = mistake(&place.session().await, "SELECT count(*) FROM events_history").await;
    assert!(said.contains("lies outside the table, as in a shallow clone"), "{said}");
}

#[tokio::test]
async fn a_file_that_goes_meanwhile_is_an_error_and_not_fewer_rows() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY), ("b", 2, 20, DAY + 1)]).await;
    std::fs::remove_dir_all(place.table("events_history").join("day=2026-11-29")).unwrap();
    let said = mistake(&place.session().await, "SELECT kind FROM events_history").await;
    assert!(said.starts_with("the file ") && said.contains(".parquet is not there any more: it was cleared"), "{said}");
}

#[tokio::test]
async fn a_table_that_is_made_anew_at_its_place_is_read_anew() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    place.write(&[("b", 2, 20, DAY)]).await;
    let history = place.history();
    let count = "SELECT count(*) FROM events_history";
    assert_eq!(values(&history.session(Paths::Allowed).await.unwrap(), count).await, ["2"]);
    std::fs::remove_dir_all(place.table("events_history")).unwrap();
    assert_eq!(values(&history.session(Paths::Allowed).await.unwrap(), count).await, ["0"]);
    place.write(&[("c", 3, 30, DAY)]).await;
    assert_eq!(values(&history.session(Paths::Allowed).await.unwrap(), count).await, ["1"]);
}

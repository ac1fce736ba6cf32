//! Which files and rows are read.

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, displayable};

use super::*;

/// The files that the plan of `sql` reads, by their folders, and the plan.
async fn read_by(session: &HistorySession, sql: &str) -> (Vec<String>, String) {
    let plan = session.plan(sql).await.unwrap();
    let plan = session.context().state().create_physical_plan(&plan).await.unwrap();
    let mut found = vec![];
    files(&plan, &mut found);
    found.sort();
    (found, displayable(plan.as_ref()).indent(false).to_string())
}

fn files(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<String>) {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>()
        && let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>()
    {
        let files = config.file_groups.iter().flat_map(|group| group.files());
        for file in files {
            let folder = file.object_meta.location.as_ref().split('/').next().unwrap().to_owned();
            if !found.contains(&folder) {
                found.push(folder);
            }
        }
    }
    for child in plan.children() {
        files(child, found);
    }
}

async fn three_days() -> Place {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY), ("b", 2, 20, DAY), ("a", 3, 30, DAY + 1)]).await;
    place.write(&[("b", 4, 40, DAY + 2), ("c", 5, 50, DAY + 2)]).await;
    place
}

#[tokio::test]
async fn columns_come_in_the_tables_order_with_the_partitions_values() {
    let place = three_days().await;
    let session = place.session().await;
    assert_eq!(
        shown(&session, "SELECT * FROM events_history ORDER BY amount").await,
        "+------+----------------------------+--------+--------+------------+\n\
         | kind | ts                         | amount | offset | day        |\n\
         +------+----------------------------+--------+--------+------------+\n\
         | a    | 2026-11-29T00:00:00.000001 | 10     | 0      | 2026-11-29 |\n\
         | b    | 2026-11-29T00:00:00.000002 | 20     | 1      | 2026-11-29 |\n\
         | a    | 2026-11-30T00:00:00.000003 | 30     | 2      | 2026-11-30 |\n\
         | b    | 2026-12-01T00:00:00.000004 | 40     | 0      | 2026-12-01 |\n\
         | c    | 2026-12-01T00:00:00.000005 | 50     | 1      | 2026-12-01 |\n\
         +------+----------------------------+--------+--------+------------+"
    );
    assert_eq!(values(&session, "SELECT day FROM events_history WHERE amount = 30").await, ["2026-11-30"]);
}

#[tokio::test]
async fn a_filter_on_the_partition_reads_only_its_files() {
    let place = three_days().await;
    let session = place.session().await;
    for (filter, days) in [
        ("day = '2026-11-30'", vec!["day=2026-11-30"]),
        ("day > DATE '2026-11-29' AND kind <> 'x'", vec!["day=2026-11-30", "day=2026-12-01"]),
        ("day IN ('2026-11-29', '2026-12-01')", vec!["day=2026-11-29", "day=2026-12-01"]),
        ("date_part('day', day) = 29", vec!["day=2026-11-29"]),
        // The log's statistics know the times and the amounts of each file.
        ("ts >= '2026-12-01'", vec!["day=2026-12-01"]),
        ("amount = 10", vec!["day=2026-11-29"]),
        ("kind = 'c'", vec!["day=2026-12-01"]),
    ] {
        let (files, plan) = read_by(&session, &format!("SELECT sum(amount) FROM events_history WHERE {filter}")).await;
        assert_eq!(files, days, "{filter}: {plan}");
    }
    assert_eq!(values(&session, "SELECT sum(amount) FROM events_history WHERE day = '2026-11-29'").await, ["30"]);
    let (files, plan) = read_by(&session, "SELECT kind FROM events_history WHERE day = '2030-01-01'").await;
    assert_eq!(files, [""; 0], "{plan}");
    assert_eq!(values(&session, "SELECT kind FROM events_history WHERE day = '2030-01-01'").await, [""; 0]);
}

#[tokio::test]
async fn what_the_log_knows_is_not_read() {
    let place = three_days().await;
    let session = place.session().await;
    for (sql, value) in [
        ("SELECT count(*) FROM events_history", "5"),
        ("SELECT count(*) FROM events_history WHERE day = '2026-11-29'", "2"),
        ("SELECT max(amount) FROM events_history", "50"),
        ("SELECT min(day) FROM events_history", "2026-11-29"),
        ("SELECT count(kind) FROM events_history", "5"),
    ] {
        let (files, plan) = read_by(&session, sql).await;
        assert_eq!(files, [""; 0], "{sql}: {plan}");
        assert_eq!(values(&session, sql).await, [value], "{sql}");
    }
    // Times stand in the log to the millisecond only: the greatest is looked for in the files.
    assert_eq!(values(&session, "SELECT max(ts) FROM events_history").await, ["2026-12-01T00:00:00.000005"]);
}

#[tokio::test]
async fn times_within_a_millisecond_are_found() {
    let place = Place::new();
    place.write(&[("a", 123_456, 1, DAY)]).await;
    let session = place.session().await;
    let sql = "SELECT kind FROM events_history WHERE ts > '2026-11-29 00:00:00.123455'";
    assert_eq!(values(&session, sql).await, ["a"]);
    let sql = "SELECT kind FROM events_history WHERE ts > '2026-11-29 00:00:00.124'";
    assert_eq!(read_by(&session, sql).await.0, [""; 0]);
}

#[tokio::test]
async fn a_limit_reads_no_more_files_than_it_needs() {
    let place = three_days().await;
    let session = place.session().await;
    assert_eq!(read_by(&session, "SELECT kind FROM events_history").await.0.len(), 3);
    assert_eq!(read_by(&session, "SELECT kind FROM events_history LIMIT 1").await.0.len(), 1);
    assert_eq!(values(&session, "SELECT kind FROM events_history LIMIT 4").await.len(), 4);
}

#[tokio::test]
async fn columns_that_came_later_are_null_before() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let notes = Arc::new(StringArray::from(vec!["new"])) as ArrayRef;
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![("note", notes, true)];
    let row = events(&[("b", 2, 20, DAY + 1)]);
    columns.extend(["kind", "ts", "amount", "day"].map(|name| (name, row.column_by_name(name).unwrap().clone(), true)));
    write(&place.table("events_history"), RecordBatch::try_from_iter_with_nullable(columns).unwrap(), &["day"]).await;
    let session = place.session().await;
    assert_eq!(
        shown(&session, "SELECT kind, note, \"offset\" FROM events_history ORDER BY kind").await,
        "+------+------+--------+\n| kind | note | offset |\n+------+------+--------+\n| a    |      | 0      |\n\
         | b    | new  |        |\n+------+------+--------+"
    );
    assert_eq!(values(&session, "SELECT kind FROM events_history WHERE note IS NULL").await, ["a"]);
}

#[tokio::test]
async fn declared_columns_that_were_never_written_are_null() {
    let sql = FOLDER.replace("day DATE)\nWITH", "day DATE, country TEXT)\nWITH");
    let place = Place::of(&sql);
    place.write(&[("a", 1, 10, DAY)]).await;
    let session = place.session().await;
    assert_eq!(values(&session, "SELECT country FROM events_history").await, ["NULL"]);
    assert_eq!(values(&session, "SELECT count(*) FROM events_history WHERE country = 'x'").await, ["0"]);
}

#[tokio::test]
async fn null_is_a_partition_of_its_own() {
    let place = Place::new();
    let row = events(&[("a", 1, 10, DAY)]);
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![("day", Arc::new(Date32Array::from(vec![None])), true)];
    columns.extend(["kind", "amount"].map(|name| (name, row.column_by_name(name).unwrap().clone(), true)));
    place.write(&[("b", 1, 10, DAY)]).await;
    write(&place.table("events_history"), RecordBatch::try_from_iter_with_nullable(columns).unwrap(), &["day"]).await;
    let session = place.session().await;
    assert_eq!(values(&session, "SELECT kind FROM events_history WHERE day IS NULL").await, ["a"]);
    assert_eq!(values(&session, "SELECT kind FROM events_history WHERE day = '2026-11-29'").await, ["b"]);
    assert_eq!(values(&session, "SELECT count(day) FROM events_history").await, ["1"]);
}

#[tokio::test]
async fn texts_in_folder_names_are_read_as_they_were() {
    let place = Place::of("CREATE TABLE odd (name TEXT, n BIGINT) WITH (connector = 'delta', partition_by = 'name');");
    for (n, name) in ["a b", "50%", "x/y", "ü=ß"].into_iter().enumerate() {
        let columns = [
            ("name", Arc::new(StringArray::from(vec![name])) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![n as i64])) as ArrayRef),
        ];
        write(&place.table("odd"), RecordBatch::try_from_iter(columns).unwrap(), &["name"]).await;
    }
    let session = place.session().await;
    assert_eq!(values(&session, "SELECT name FROM odd ORDER BY n").await, ["a b", "50%", "x/y", "ü=ß"]);
    assert_eq!(values(&session, "SELECT n FROM odd WHERE name = '50%'").await, ["1"]);
}

/// Whether a filter is evaluated where its columns are decoded: then nobody filters behind the scan.
async fn is_pushed_down(session: &HistorySession, filter: &str) -> bool {
    let (_, plan) = read_by(session, &format!("SELECT ts FROM events_history WHERE {filter}")).await;
    assert!(plan.contains("predicate=") || plan.contains("FilterExec"), "{filter}: {plan}");
    !plan.contains("FilterExec")
}

#[tokio::test]
async fn a_filter_that_picks_few_rows_is_evaluated_while_its_columns_are_decoded() {
    let place = Place::new();
    let rows: Vec<Row<'_>> = (0..5000).map(|n| (["a", "b", "c"][n as usize % 3], n, n * 7919 % 5000, DAY)).collect();
    place.write(&rows).await;
    let session = place.session().await;
    for (filter, pushed) in [
        ("amount = 4711", true),
        ("4711 = amount", true),
        ("amount IN (1, 2, 3)", true),
        ("kind = 'a' AND amount = 4711", true),
        ("amount = 1 OR kind = 'a'", false),
        ("kind = 'a'", false),
        ("kind IN ('a', 'b')", false),
        ("amount > 10", false),
        ("amount + 1 = 10", false),
        ("amount NOT IN (1, 2, 3, 4)", false),
    ] {
        assert_eq!(is_pushed_down(&session, filter).await, pushed, "{filter}");
    }
    let asked = "SELECT count(*) FROM events_history WHERE";
    assert_eq!(values(&session, &format!("{asked} kind = 'a' AND amount IN (0, 3757)")).await, ["2"]);
    assert_eq!(values(&session, &format!("{asked} kind = 'b'")).await, ["1667"]);
}

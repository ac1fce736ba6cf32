//! What a driver asks before the first query.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type, Schema};
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo, XdbcDataType,
};
use arrow_flight::{Action, Criteria, Empty, FlightInfo, IpcMessage};
use futures::TryStreamExt;

use crate::serving::{Client, Serving, cells, fetch, table};

/// The rows, which have the columns that were told before.
async fn rows(client: &mut Client, info: FlightInfo) -> RecordBatch {
    let told = Schema::try_from(IpcMessage(info.schema.clone())).unwrap();
    let batches = fetch(client, info).await.unwrap();
    assert!(batches.iter().all(|batch| *batch.schema() == told), "{told}");
    concat_batches(&Arc::new(told), &batches).unwrap()
}

fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    batch.column(column).as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
}

#[tokio::test]
async fn tables_are_listed_with_their_columns() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await, 0), ["acequia"]);
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await, 1), ["history", "live"]);
    let pattern = CommandGetDbSchemas { db_schema_filter_pattern: Some("h%".into()), ..Default::default() };
    let info = client.get_db_schemas(pattern).await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await, 1), ["history"]);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await, 0), ["TABLE", "VIEW"]);

    let info = client.get_tables(CommandGetTables::default()).await.unwrap();
    let all = rows(&mut client, info).await;
    assert_eq!(texts(&all, 2), ["transactions", "transactions_history"]);
    assert_eq!(texts(&all, 3), ["VIEW", "TABLE"]);
    let with_columns = CommandGetTables {
        table_types: vec!["TABLE".into()],
        table_name_filter_pattern: Some("%history".into()),
        include_schema: true,
        ..Default::default()
    };
    let info = client.get_tables(with_columns).await.unwrap();
    let one = rows(&mut client, info).await;
    assert_eq!(texts(&one, 2), ["transactions_history"]);
    let encoded = one.column(4).as_binary::<i32>().value(0).to_vec();
    let columns = Schema::try_from(IpcMessage(encoded.into())).unwrap();
    assert_eq!(columns.field_with_name("amount").unwrap().data_type(), &DataType::Decimal128(12, 2));
    assert_eq!(columns.field_with_name("status").unwrap().data_type(), &DataType::Utf8);
    let elsewhere = CommandGetTables { catalog: Some("other".into()), ..Default::default() };
    let info = client.get_tables(elsewhere).await.unwrap();
    assert_eq!(rows(&mut client, info).await.num_rows(), 0);
}

#[tokio::test]
async fn there_are_no_keys() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let table = || String::from("transactions_history");
    let primary = client.get_primary_keys(CommandGetPrimaryKeys { table: table(), ..Default::default() }).await;
    let exported = client.get_exported_keys(CommandGetExportedKeys { table: table(), ..Default::default() }).await;
    let imported = client.get_imported_keys(CommandGetImportedKeys { table: table(), ..Default::default() }).await;
    let cross = CommandGetCrossReference { pk_table: table(), fk_table: table(), ..Default::default() };
    let cross = client.get_cross_reference(cross).await;
    for (info, columns) in [(primary, 6), (exported, 13), (imported, 13), (cross, 13)] {
        let keys = rows(&mut client, info.unwrap()).await;
        assert_eq!((keys.num_rows(), keys.num_columns()), (0, columns));
    }
}

#[tokio::test]
async fn the_server_says_what_it_can() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let asked = vec![
        SqlInfo::FlightSqlServerName,
        SqlInfo::FlightSqlServerVersion,
        SqlInfo::FlightSqlServerReadOnly,
        SqlInfo::FlightSqlServerTransaction,
        SqlInfo::FlightSqlServerCancel,
        SqlInfo::SqlIdentifierQuoteChar,
    ];
    let info = client.get_sql_info(asked).await.unwrap();
    let answers = table(&[rows(&mut client, info).await]);
    let answers: Vec<&str> = cells(&answers).into_iter().map(|row| row[1]).collect();
    let version = format!("{{string_value={}}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        answers,
        [
            "{string_value=Acequia}",
            &version,
            "{bool_value=true}",
            "{int32_bitmask=0}",
            "{bool_value=true}",
            "{string_value=\"}"
        ]
    );
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert!(rows(&mut client, info).await.num_rows() > 80);

    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    let types = texts(&rows(&mut client, info).await, 0);
    assert!(types.contains(&"DECIMAL".into()) && types.contains(&"TIMESTAMP".into()), "{types:?}");
    let decimal = CommandGetXdbcTypeInfo { data_type: Some(XdbcDataType::XdbcDecimal as i32) };
    let info = client.get_xdbc_type_info(decimal).await.unwrap();
    let decimal = rows(&mut client, info).await;
    assert_eq!(
        (texts(&decimal, 0), decimal.column(2).as_primitive::<Int32Type>().value(0)),
        (vec!["DECIMAL".into()], 38)
    );
}

#[tokio::test]
async fn what_flight_has_beyond_sql_is_answered() {
    let serving = Serving::start(&[]);
    let mut client = serving.client().await;
    let actions = client.inner_mut().list_actions(Empty {}).await.unwrap().into_inner();
    let actions: Vec<_> = actions.try_collect().await.unwrap();
    let names: Vec<&str> = actions.iter().map(|action| action.r#type.as_str()).collect();
    assert!(names.contains(&"CancelFlightInfo") && names.contains(&"CancelQuery"), "{names:?}");
    let unknown = client.do_action(Action::new("Dance", "")).await.unwrap_err().to_string();
    assert!(unknown.contains("there is no action \\\"Dance\\\" here"), "{unknown}");
    let flights = client.inner_mut().list_flights(Criteria::default()).await.unwrap_err();
    assert_eq!(flights.message(), "tables are listed by Flight SQL's GetTables");
    let nonsense = arrow_flight::FlightDescriptor::new_cmd("nonsense");
    let said = client.inner_mut().get_flight_info(nonsense).await.unwrap_err();
    assert_eq!(said.code(), tonic::Code::InvalidArgument, "{said}");
}

//! A Delta table in a server that speaks S3.

use url::Url;

use super::*;
use crate::connectors::moto::Moto;

fn table_in(moto: &Moto, prefix: &str) -> Table {
    let url = Url::parse(&format!("s3://bucket/{prefix}")).unwrap();
    Table { place: DeltaPlace::bucket(&url, moto.access().into()), ..Table::new(&[]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_a_table() {
    let moto = Moto::start(None);
    moto.make_bucket();
    let table = table_in(&moto, "a b/events");
    let (mut first, settled) = table.open(run(1, 0)).await;
    assert_eq!(settled, None);
    assert_eq!(deliver(&mut first, 1, &[1, 2]).await, Epoch(1));
    let (mut second, settled) = table.open(run(2, 1)).await;
    assert_eq!(settled, Some(Epoch(1)));
    // A place in the log is given once.
    let error = first.deliver(Epoch(2), &rows(&[3])).await.unwrap_err();
    assert!(matches!(&error, ConnectorError::Fenced { .. }), "{error}");
    assert_eq!(deliver(&mut second, 2, &[3]).await, Epoch(2));
    assert_eq!(table.numbers().await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_and_a_wrong_key_are_told_and_not_waited_for() {
    let moto = Moto::start(Some(2));
    let table = table_in(&moto, "events");
    let message = table.refusal(run(1, 0)).await.to_string();
    assert_eq!(
        message,
        "Delta table s3://bucket/events: there is no such bucket: create it, or name another one in 'path'"
    );
    moto.make_bucket();
    let message = table.refusal(run(1, 0)).await.to_string();
    assert!(
        message.starts_with("Delta table s3://bucket/events: access is denied: the key in AWS_ACCESS_KEY_ID"),
        "{message}"
    );
    assert!(!message.contains("secret-of-the-test"), "{message}");
}

//! Checkpoints in a server that speaks S3: moto, which `scripts/moto.sh install` brings.

use std::time::Duration;

use super::super::log::CheckpointError;
use super::super::store::StoreError;
use super::failing::late_manifest;
use super::recovering::{fencing, going_on};
use super::*;
use crate::connectors::moto::Moto;

fn bucket(moto: &Moto, prefix: &str) -> Arc<dyn Store> {
    let variables = moto.access().map(|(name, value)| (name.to_ascii_uppercase(), value));
    let variables = variables.into_iter().chain([("HOME".to_owned(), "/root".to_owned())]);
    Arc::new(ObjectStorage::s3_with(&format!("s3://bucket/{prefix}"), variables).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_a_log() {
    let moto = Moto::start(None);
    moto.make_bucket();

    let store = bucket(&moto, "a b/blobs");
    assert!(store.put_if_absent("state/x", "abc".into()).await.unwrap());
    assert!(!store.put_if_absent("state/x", "def".into()).await.unwrap());
    store.put("state/y", "ghij".into()).await.unwrap();
    assert_eq!(store.get("state/x").await.unwrap(), "abc");
    assert_eq!(store.list("state").await.unwrap(), [("state/x".to_owned(), 3), ("state/y".to_owned(), 4)]);
    assert!(store.list("stat").await.unwrap().is_empty() && store.list("none").await.unwrap().is_empty());
    assert!(matches!(store.get("state/z").await, Err(StoreError::Missing { .. })));
    store.delete("state/x").await.unwrap();
    store.delete("state/x").await.unwrap();
    assert_eq!(store.list("state").await.unwrap(), [("state/y".to_owned(), 4)]);
    // S3 looks and writes in one step, moto in two: writers at the same time would try moto and not the store.
    for n in 0..8_u8 {
        assert_eq!(store.put_if_absent("incarnations/1", vec![n].into()).await.unwrap(), n == 0, "the first one wins");
    }

    going_on(bucket(&moto, "going-on")).await;
    fencing(bucket(&moto, "fencing")).await;
    late_manifest(bucket(&moto, "late")).await;
    // It keeps copies itself.
    assert!(bucket(&moto, "going-on").list("state").await.unwrap().iter().all(|(path, _)| !path.ends_with(".copy")));
}

async fn refusal(store: Arc<dyn Store>) -> String {
    let opened = tokio::time::timeout(Duration::from_secs(30), CheckpointLog::open(store, options()));
    let error = opened.await.expect("it is waited for").err().unwrap();
    assert!(matches!(error, CheckpointError::Store(StoreError::Refused { .. })), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_and_a_wrong_key_are_told_and_not_waited_for() {
    let moto = Moto::start(Some(2));
    let message = refusal(bucket(&moto, "shop")).await;
    assert_eq!(message, "s3://bucket/shop: there is no such bucket: create it, or name another one");
    moto.make_bucket();
    let message = refusal(bucket(&moto, "shop")).await;
    assert!(
        message.starts_with(
            "s3://bucket/shop: access is denied: the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be right"
        ),
        "{message}"
    );
    assert!(!message.contains("secret-of-the-test"), "{message}");
}

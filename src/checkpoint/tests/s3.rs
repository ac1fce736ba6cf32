//! Checkpoints in a server that speaks S3: moto, which `scripts/moto.sh install` brings.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::log::CheckpointError;
use super::super::store::StoreError;
use super::failing::late_manifest;
use super::recovering::{fencing, going_on};
use super::*;

/// A server of its own, ended with the test.
struct Moto {
    server: Child,
    port: u16,
}

impl Moto {
    /// One that looks at keys after so many requests; before, anyone may do anything.
    fn start(unchecked: Option<u32>) -> Moto {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/moto.sh");
        let installed = Command::new(script).arg("install").stderr(Stdio::inherit()).output().unwrap();
        assert!(installed.status.success(), "moto cannot be installed");
        let program = String::from_utf8(installed.stdout).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program.trim());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(unchecked) = unchecked {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked.to_string());
        }
        let moto = Moto { server: command.spawn().unwrap(), port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "moto does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        moto
    }

    fn make_bucket(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = "PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn store(&self, prefix: &str) -> Arc<dyn Store> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let variables = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key-of-the-test"),
            ("AWS_SECRET_ACCESS_KEY", "secret-of-the-test"),
            ("HOME", "/root"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Arc::new(ObjectStorage::s3_with(&format!("s3://bucket/{prefix}"), variables).unwrap())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_a_log() {
    let moto = Moto::start(None);
    moto.make_bucket();

    let store = moto.store("a b/blobs");
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
    let writers = (0..8).map(|n: u8| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put_if_absent("incarnations/1", vec![n].into()).await.unwrap() })
    });
    let won = futures::future::join_all(writers).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(won, 1, "of writers at the same time one wins");

    going_on(moto.store("going-on")).await;
    fencing(moto.store("fencing")).await;
    late_manifest(moto.store("late")).await;
    // It keeps copies itself.
    assert!(moto.store("going-on").list("state").await.unwrap().iter().all(|(path, _)| !path.ends_with(".copy")));
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
    let message = refusal(moto.store("shop")).await;
    assert_eq!(message, "s3://bucket/shop: there is no such bucket: create it, or name another one");
    moto.make_bucket();
    let message = refusal(moto.store("shop")).await;
    assert!(
        message.starts_with(
            "s3://bucket/shop: access is denied: the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be right"
        ),
        "{message}"
    );
    assert!(!message.contains("secret-of-the-test"), "{message}");
}

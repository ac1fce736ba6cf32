//! Whether brokers answer, as the page asks them.

use acequia::connectors::looking::Reach;

use crate::cluster::Cluster;
use crate::table::{definition, table};

fn reach(servers: &str) -> Box<dyn Reach> {
    table(&definition(&[]), servers, &[("topic", "events")]).reach().unwrap()
}

#[tokio::test]
async fn brokers_that_answer_are_told_from_those_that_are_not_there() {
    let servers = &Cluster::shared().servers;
    let mut there = reach(servers);
    assert_eq!(there.place(), format!("Kafka at {servers}"));
    for _ in 0..2 {
        // The first question after the connection may take longer than a busy machine has for it.
        let mut answer = there.answers().await;
        for _ in 0..20 {
            if answer.is_ok() {
                break;
            }
            answer = there.answers().await;
        }
        answer.unwrap();
        there.rest();
    }
    let said = reach("127.0.0.1:1").answers().await.unwrap_err().to_string();
    assert!(said.starts_with("Kafka at 127.0.0.1:1: "), "{said}");
    assert!(table(&definition(&[]), "embedded", &[("topic", "events")]).reach().is_none());
}

//! Whether the brokers of the folder's Kafka tables answer.

use std::time::Duration;

use async_trait::async_trait;

use super::part::Part;
use crate::connectors::looking::Reach;
use crate::program::Program;

/// The servers, each once.
pub struct KafkaPart(Vec<Box<dyn Reach>>);

impl KafkaPart {
    /// The folder's; `None` when it has no Kafka table, or only embedded ones.
    pub fn of(program: &Program) -> Option<KafkaPart> {
        let mut servers: Vec<Box<dyn Reach>> = vec![];
        for reach in program.tables.iter().filter_map(|table| table.connector.reach()) {
            if !servers.iter().any(|known| known.place() == reach.place()) {
                servers.push(reach);
            }
        }
        (!servers.is_empty()).then_some(KafkaPart(servers))
    }

    /// Where they are, such as `Kafka at localhost:9092`.
    pub fn place(&self) -> String {
        self.0.iter().map(|server| server.place()).collect::<Vec<_>>().join(", ")
    }
}

#[async_trait]
impl Part for KafkaPart {
    type Figures = ();
    const INTERVAL: Duration = Duration::from_secs(2);

    async fn look(&mut self) -> Result<(), String> {
        for server in &mut self.0 {
            server.answers().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn rest(&mut self) {
        for server in &mut self.0 {
            server.rest();
        }
    }
}

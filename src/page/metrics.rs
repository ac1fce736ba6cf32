//! The newest window's figures, from the tables that keep them in Redis.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::part::Part;
use crate::connectors::looking::CurrentRows;
use crate::program::Program;

/// The tables; a folder may have only some of them.
pub struct Metrics {
    transactions: Option<Box<dyn CurrentRows>>,
    behavior: Option<Box<dyn CurrentRows>>,
    products: Option<Box<dyn CurrentRows>>,
}

/// What they hold.
#[derive(Debug, Default)]
pub struct MetricsFigures {
    /// The row of `metrics_transactions`.
    pub transactions: Option<Map<String, Value>>,
    /// The rows of `metrics_behavior`, by kind of event.
    pub behavior: Vec<Map<String, Value>>,
    /// The rows of `metrics_products`, by category.
    pub products: Vec<Map<String, Value>>,
}

impl Metrics {
    /// The folder's; `None` when it has none of them.
    pub fn of(program: &Program) -> Option<Metrics> {
        let current = |name: &str| program.table(name).and_then(|table| table.connector.current());
        let metrics = Metrics {
            transactions: current("metrics_transactions"),
            behavior: current("metrics_behavior"),
            products: current("metrics_products"),
        };
        metrics.place().is_some().then_some(metrics)
    }

    /// Where they are, such as `Redis at localhost:6379`.
    pub fn place(&self) -> Option<String> {
        [&self.transactions, &self.behavior, &self.products].into_iter().flatten().next().map(|rows| rows.place())
    }
}

#[async_trait]
impl Part for Metrics {
    type Figures = MetricsFigures;
    const INTERVAL: Duration = Duration::from_secs(1);

    async fn look(&mut self) -> Result<MetricsFigures, String> {
        Ok(MetricsFigures {
            transactions: rows(&mut self.transactions).await?.into_iter().next(),
            behavior: rows(&mut self.behavior).await?,
            products: rows(&mut self.products).await?,
        })
    }

    fn rest(&mut self) {
        for rows in [&mut self.transactions, &mut self.behavior, &mut self.products].into_iter().flatten() {
            rows.rest();
        }
    }
}

async fn rows(table: &mut Option<Box<dyn CurrentRows>>) -> Result<Vec<Map<String, Value>>, String> {
    match table {
        Some(table) => table.rows().await.map_err(|error| error.to_string()),
        None => Ok(vec![]),
    }
}

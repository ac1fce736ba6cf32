//! How the shop's sessions ended.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::{Warehouse, sql};
use crate::page::part::Part;

/// Counts them.
pub struct SessionsPart(pub Warehouse);

#[async_trait]
impl Part for SessionsPart {
    /// Sessions by outcome.
    type Figures = BTreeMap<String, i64>;
    const INTERVAL: Duration = Duration::from_secs(5);

    async fn look(&mut self) -> Result<BTreeMap<String, i64>, String> {
        let rows: Vec<(String, i64)> = self.0.rows(sql::sessions(self.0.table())).await?;
        Ok(rows.into_iter().collect())
    }

    fn rest(&mut self) {
        self.0.rest();
    }
}

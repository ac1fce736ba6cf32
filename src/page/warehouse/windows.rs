//! Transactions of the last ten minutes, by window.
//!
//! A window that has been over for a while changes only by events that come very late, so that each look reads the
//! newest ones, and all of them once a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Warehouse;
use super::sql::{self, WINDOW};
use crate::page::part::Part;

/// So many windows are shown.
pub const SHOWN: i64 = 20;
/// So many of the newest are read at each look.
const NEWEST: i64 = 3;
/// How often all are.
const ALL_EVERY: Duration = Duration::from_secs(60);

/// The transactions of one window.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Window {
    /// The sum of their amounts.
    pub revenue: f64,
    /// How many there are.
    pub transactions: i64,
    /// How many customers they are from.
    pub customers: i64,
}

/// Windows by their starts, in seconds since 1970; those without a transaction are not there.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Windows {
    /// The windows that are shown, and the one before the metrics' own, however long ago that is.
    pub by_start: BTreeMap<i64, Window>,
}

/// Reads them.
pub struct WindowsPart {
    warehouse: Warehouse,
    windows: Windows,
    all_at: Option<Instant>,
    /// The start of the window that the metrics show.
    shown: watch::Receiver<Option<i64>>,
}

impl WindowsPart {
    /// Of a table of events; `shown` tells which window the metrics show.
    pub fn new(warehouse: Warehouse, shown: watch::Receiver<Option<i64>>) -> WindowsPart {
        WindowsPart { warehouse, windows: Windows::default(), all_at: None, shown }
    }

    async fn read(&mut self, from: i64, to: Option<i64>) -> Result<(), String> {
        let query = sql::windows(self.warehouse.dialect(), self.warehouse.table(), from, to);
        let rows: Vec<sql::WindowRow> = self.warehouse.rows(query).await?;
        let by_start = &mut self.windows.by_start;
        by_start.retain(|start, _| *start < from || to.is_some_and(|to| *start >= to));
        by_start.extend(
            rows.into_iter()
                .map(|(start, revenue, transactions, customers)| (start, Window { revenue, transactions, customers })),
        );
        Ok(())
    }
}

#[async_trait]
impl Part for WindowsPart {
    type Figures = Windows;
    const INTERVAL: Duration = Duration::from_secs(1);

    async fn look(&mut self) -> Result<Windows, String> {
        let current = Utc::now().timestamp().div_euclid(WINDOW) * WINDOW;
        let first = current - SHOWN * WINDOW;
        if self.all_at.is_none_or(|at| at.elapsed() >= ALL_EVERY) {
            self.windows = Windows::default();
            self.read(first, None).await?;
            self.all_at = Some(Instant::now());
        } else {
            self.read(current - NEWEST * WINDOW, None).await?;
        }
        // Metrics of long ago have a window before them all the same.
        let before = self.shown.borrow().map(|shown| shown - WINDOW).filter(|before| *before < first);
        if let Some(before) = before {
            self.read(before, Some(before + WINDOW)).await?;
        }
        self.windows.by_start.retain(|start, _| *start >= first || Some(*start) == before);
        Ok(self.windows.clone())
    }

    fn rest(&mut self) {
        self.warehouse.rest();
        self.windows = Windows::default();
        self.all_at = None;
    }
}

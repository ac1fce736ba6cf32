//! One query after another on the same versions: DataFusion's session over the tables of a folder.

use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

use super::{History, HistoryError, Paths};

/// DataFusion over the tables of a folder, each at the version that it had when it was first mentioned.
pub struct HistorySession {
    context: SessionContext,
}

impl HistorySession {
    /// DataFusion's context: catalog `acequia` with the schemas `history`, which needs no mention, and `live`.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// What one statement means: a query, EXPLAIN or SHOW. The versions that AS OF asks for are opened.
    ///
    /// # Errors
    /// Mistakes in the text with their places; statements that would write; tables that cannot be read.
    pub async fn plan(&self, sql: &str) -> Result<LogicalPlan, HistoryError>;

    /// Runs what was planned. Dropping the stream stops the work.
    ///
    /// # Errors
    /// When the plan cannot be run; the stream's own errors are told by [`HistoryError::from`].
    pub async fn run(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream, HistoryError>;
}

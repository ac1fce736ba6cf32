//! Why there is no answer, in words.

use std::error::Error;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake_core::ObjectStoreError;
use thiserror::Error;

use super::live::LiveError;
use crate::connectors::ConnectorError;
use crate::sql::SqlErrors;
use crate::sql::error::clean;

/// Why a question to the history has no answer.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Mistakes in the text, each with its place.
    #[error(transparent)]
    Sql(#[from] SqlErrors),
    /// A table cannot be opened.
    #[error(transparent)]
    Table(#[from] ConnectorError),
    /// The running pipeline has no answer.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The text is right, and running it failed.
    #[error("{0}")]
    Running(String),
    /// More memory is needed than may be used.
    #[error("the query needs more memory than its limit: raise the limit, or ask for less at once. {0}")]
    Memory(String),
    /// The query engine could not be set up, which is a defect.
    #[error("cannot set up the query engine: {0}")]
    Engine(#[source] DataFusionError),
}

impl HistoryError {
    /// The error that is ours, or says something of its own, among those that DataFusion has wrapped it in.
    pub(super) fn within(error: &(dyn Error + 'static)) -> Option<HistoryError> {
        if let Some(error) = error.downcast_ref::<HistoryError>() {
            return Some(error.told());
        }
        if let Some(error) = error.downcast_ref::<LiveError>() {
            return Some(HistoryError::Live(error.clone()));
        }
        if let Some(DataFusionError::ResourcesExhausted(reason)) = error.downcast_ref() {
            return Some(HistoryError::Memory(first_sentences(reason)));
        }
        if let Some(ObjectStoreError::NotFound { path, .. }) = error.downcast_ref() {
            return Some(HistoryError::gone(path));
        }
        // These hold their causes without naming them as such.
        let inner: Option<&(dyn Error + 'static)> = match error.downcast_ref() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::ArrowError(inner, _)) => Some(inner.as_ref()),
            Some(DataFusionError::ObjectStore(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::ParquetError(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)) => Some(inner.as_ref()),
            _ => None,
        };
        let inner = inner.or_else(|| match error.downcast_ref() {
            Some(ArrowError::ExternalError(inner)) => Some(inner.as_ref() as &(dyn Error + 'static)),
            _ => None,
        });
        let inner = inner.or_else(|| match error.downcast_ref() {
            Some(parquet::errors::ParquetError::External(inner)) => Some(inner.as_ref() as &(dyn Error + 'static)),
            _ => None,
        });
        inner.or_else(|| error.source()).and_then(HistoryError::within)
    }

    fn gone(path: &str) -> HistoryError {
        HistoryError::Running(format!(
            "the file {path} is not there any more: it was cleared away while it was to be read, or somebody has \
             removed it. Ask again"
        ))
    }

    /// The same error once more: DataFusion shares errors, and theirs cannot be taken out.
    fn told(&self) -> HistoryError {
        match self {
            HistoryError::Sql(errors) => HistoryError::Sql(errors.clone()),
            HistoryError::Live(error) => HistoryError::Live(error.clone()),
            HistoryError::Memory(reason) => HistoryError::Memory(reason.clone()),
            HistoryError::Table(ConnectorError::Unavailable { what, message }) => {
                HistoryError::Table(ConnectorError::Unavailable { what: what.clone(), message: message.clone() })
            }
            HistoryError::Table(ConnectorError::Refused { what, message }) => {
                HistoryError::Table(ConnectorError::Refused { what: what.clone(), message: message.clone() })
            }
            other => HistoryError::Running(other.to_string()),
        }
    }
}

impl From<DataFusionError> for HistoryError {
    fn from(error: DataFusionError) -> HistoryError {
        if let Some(error) = HistoryError::within(&error) {
            return error;
        }
        let text = without_context(&error).strip_backtrace();
        // Footers are read by a part that makes a text of the store's error.
        if let Some((_, rest)) = text.split_once("Object at location ")
            && let Some((path, _)) = rest.split_once(" not found")
        {
            return HistoryError::gone(path);
        }
        HistoryError::Running(clean(&text))
    }
}

impl From<HistoryError> for DataFusionError {
    fn from(error: HistoryError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

/// The error without the names of DataFusion's own parts around it, such as those of an optimizer's rules.
fn without_context(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => without_context(inner),
        DataFusionError::Shared(inner) => without_context(inner),
        other => other,
    }
}

/// What DataFusion says of memory without the settings that it advises, which are not to be had here.
fn first_sentences(reason: &str) -> String {
    let reason = reason.trim();
    reason.split("\nNote:").next().unwrap_or(reason).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn memory_is_told_apart_however_deep_it_is_wrapped() {
        let exhausted = DataFusionError::ResourcesExhausted("Failed to allocate 5 bytes".into());
        let wrapped =
            DataFusionError::Shared(Arc::new(DataFusionError::Context("sorting".into(), Box::new(exhausted))));
        let arrow = ArrowError::ExternalError(Box::new(wrapped));
        let error = HistoryError::from(DataFusionError::ArrowError(Box::new(arrow), None));
        assert_eq!(
            error.to_string(),
            "the query needs more memory than its limit: raise the limit, or ask for less at once. Failed to allocate 5 \
             bytes"
        );
        assert!(matches!(error, HistoryError::Memory(_)));
    }

    #[test]
    fn a_file_that_has_gone_is_named() {
        let gone = ObjectStoreError::NotFound { path: "day=1/x.parquet".into(), source: "no such file".into() };
        let error = HistoryError::from(DataFusionError::ObjectStore(Box::new(gone)));
        assert!(error.to_string().starts_with("the file day=1/x.parquet is not there any more"), "{error}");
    }

    #[test]
    fn our_own_errors_come_through_datafusion_as_they_were() {
        let live = LiveError::NotRunning("no pipeline is running".into());
        let error = HistoryError::from(DataFusionError::from(HistoryError::Live(live.clone())));
        assert!(matches!(error, HistoryError::Live(error) if error == live));
    }

    #[test]
    fn what_fails_while_it_runs_has_no_prefixes() {
        let error = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        let error = error.context("Optimizer rule 'x' failed");
        assert_eq!(HistoryError::from(error).to_string(), "divide by zero error");
    }
}

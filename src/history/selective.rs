//! Whether a filter is to be evaluated while its columns are decoded, so that of the other columns only the rows that
//! pass are.
//!
//! For few rows among many that is several times as fast; for every sixth row, keeping book of which rows pass costs more than
//! decoding all of them. How many values a column has is told by the size of its dictionary in a file's footer, which
//! the scan reads anyway.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::logical_expr::{Expr, Operator};
use deltalake_core::ObjectStore;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::files::KeptFile;

/// A dictionary of so many bytes has some hundred values, so that a row in some hundred passes.
const LARGE_DICTIONARY: i64 = 2048;

/// Whether `filters`, all of which must hold, pick few of a column's many values. Judged by the largest of `files`.
///
/// # Errors
/// When the file's footer cannot be read.
pub(super) async fn is_selective(
    filters: &[Expr],
    files: &[&KeptFile],
    store: &Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
) -> Result<bool> {
    let Some(largest) = files.iter().max_by_key(|file| file.meta.size).filter(|_| !filters.is_empty()) else {
        return Ok(false);
    };
    let footer = DFParquetMetadata::new(&**store, &largest.meta).with_file_metadata_cache(Some(footers));
    let footer = footer.fetch_metadata().await?;
    Ok(filters.iter().any(|filter| picks_few(filter, &footer)))
}

/// Whether a filter lets only single values of columns pass that have many.
fn picks_few(filter: &Expr, footer: &ParquetMetaData) -> bool {
    match filter {
        Expr::BinaryExpr(either) if either.op == Operator::Or => {
            picks_few(&either.left, footer) && picks_few(&either.right, footer)
        }
        Expr::BinaryExpr(comparison) if comparison.op == Operator::Eq => {
            match (&*comparison.left, &*comparison.right) {
                (Expr::Column(column), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(column)) => {
                    has_many_values(footer, &column.name)
                }
                _ => false,
            }
        }
        Expr::InList(list) if !list.negated => match &*list.expr {
            Expr::Column(column) => has_many_values(footer, &column.name),
            _ => false,
        },
        _ => false,
    }
}

fn has_many_values(footer: &ParquetMetaData, column: &str) -> bool {
    let Some(group) = footer.row_groups().first() else { return false };
    let chunk = group.columns().iter().find(|chunk| chunk.column_path().parts() == [column]);
    chunk.is_some_and(|chunk| dictionary_bytes(chunk).is_none_or(|bytes| bytes > LARGE_DICTIONARY))
}

/// The size of a column's dictionary, as it is compressed; `None` if it has none.
fn dictionary_bytes(chunk: &ColumnChunkMetaData) -> Option<i64> {
    Some(chunk.data_page_offset() - chunk.dictionary_page_offset()?)
}

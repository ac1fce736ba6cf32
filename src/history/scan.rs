//! One version of a Delta table as DataFusion reads it: the files that a query needs, found from the log alone, in
//! its own Parquet scan.
//!
//! Not deltalake-core's own provider: that one reads every file through a layer of its own, which computes partition
//! values and deletion vectors batch by batch. Here they are constants of a file, so that filters, limits, statistics
//! and the work of several cores are DataFusion's business, down to the row groups.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, ColumnStatistics, Result, ScalarValue, Statistics, ToDFSchema};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::empty::EmptyExec;
use deltalake_core::ObjectStore;

use super::files::KeptFile;
use super::selective::is_selective;

/// The columns of a table: as a query sees them, and as they are read.
#[derive(Debug)]
pub(super) struct Columns {
    /// In the table's own order.
    pub seen: SchemaRef,
    /// Those in the files, and after them those that a file's partition gives.
    pub read: TableSchema,
    /// For each column that is seen, where it stands among those that are read.
    order: Vec<usize>,
}

impl Columns {
    /// The columns of `table`, of which those named in `partition_by` are not in the files.
    pub fn new(table: &Schema, partition_by: &[String]) -> Columns {
        let seen = as_read(table);
        let is_partition = |field: &&FieldRef| partition_by.contains(field.name());
        let in_files: Vec<FieldRef> = seen.fields().iter().filter(|field| !is_partition(field)).cloned().collect();
        // In the order of the table's metadata, which is that of the folders.
        let partition: Vec<FieldRef> =
            partition_by.iter().filter_map(|name| seen.fields().find(name)).map(|(_, field)| field.clone()).collect();
        let read = TableSchema::builder(Arc::new(Schema::new(in_files))).with_table_partition_cols(partition).build();
        let all = read.table_schema();
        let order = seen.fields().iter().filter_map(|field| all.index_of(field.name()).ok()).collect();
        Columns { seen, read, order }
    }

    /// The names of the partition columns.
    fn partition_names(&self) -> Vec<&str> {
        self.read.table_partition_cols().iter().map(|field| field.name().as_str()).collect()
    }
}

/// A table's columns in the types in which they are read: texts as views, which are compared and grouped without being
/// copied.
pub(super) fn as_read(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => Arc::new(retyped(field, DataType::Utf8View)),
        DataType::Binary | DataType::LargeBinary => Arc::new(retyped(field, DataType::BinaryView)),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn retyped(field: &Field, data_type: DataType) -> Field {
    // Delta's metadata of a column is no business of a query's result.
    Field::new(field.name(), data_type, field.is_nullable())
}

/// One version of a table.
pub(super) struct DeltaScan {
    columns: Columns,
    files: Vec<KeptFile>,
    /// The name under which the session knows `store`.
    url: ObjectStoreUrl,
    store: Arc<dyn ObjectStore>,
}

impl fmt::Debug for DeltaScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaScan").field("url", &self.url).field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl DeltaScan {
    /// The version with these files, which are below `store`.
    pub fn new(columns: Columns, files: Vec<KeptFile>, url: ObjectStoreUrl, store: Arc<dyn ObjectStore>) -> DeltaScan {
        DeltaScan { columns, files, url, store }
    }

    /// The files.
    pub fn files(&self) -> &[KeptFile] {
        &self.files
    }

    /// The columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The files that can hold rows for which all of `filters` are true.
    fn needed(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<&KeptFile>> {
        let names = self.columns.partition_names();
        let (by_partition, by_rows): (Vec<Expr>, Vec<Expr>) =
            filters.iter().filter(|filter| !asks(filter)).cloned().partition(|filter| decides_files(&names, filter));
        let mut files: Vec<&KeptFile> = self.files.iter().collect();
        if let Some(filter) = conjunction(by_partition) {
            let kept = self.by_partition(session, &filter, &files)?;
            files =
                files.into_iter().zip(kept.iter()).filter(|(_, kept)| *kept == Some(true)).map(|(f, _)| f).collect();
        }
        let Some(filter) = conjunction(by_rows) else { return Ok(files) };
        let schema = Arc::clone(self.columns.read.table_schema());
        let filter = session.create_physical_expr(filter, &schema.clone().to_dfschema()?)?;
        // What no statistics can decide is no error: every file is read.
        let pruning = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&schema)).try_build(filter);
        let Ok(pruning) = pruning else { return Ok(files) };
        let kept = pruning.prune(&Bounds { files: &files, schema: &schema })?;
        Ok(files.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(file, _)| file).collect())
    }

    /// Whether the filter, over partition columns alone, is true for each file.
    fn by_partition(&self, session: &dyn Session, filter: &Expr, files: &[&KeptFile]) -> Result<BooleanArray> {
        let schema = Arc::new(Schema::new(self.columns.read.table_partition_cols().clone()));
        let columns = (0..schema.fields().len()).map(|column| {
            let values = files.iter().map(|file| file.partition[column].clone());
            ScalarValue::iter_to_array(values)
        });
        if files.is_empty() {
            return Ok(BooleanArray::from(Vec::<bool>::new()));
        }
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        let filter: Arc<dyn PhysicalExpr> = session.create_physical_expr(filter.clone(), &schema.to_dfschema()?)?;
        Ok(filter.evaluate(&batch)?.into_array(files.len())?.as_boolean().clone())
    }
}

/// Whether a filter is decided by the partition of a file, for all its rows at once.
fn decides_files(partition: &[&str], filter: &Expr) -> bool {
    !filter.column_refs().is_empty() && expr_applicable_for_cols(partition, filter) && !asks(filter)
}

/// Whether there is another query in an expression, which has no value before it has run.
fn asks(filter: &Expr) -> bool {
    let is_query = |expr: &Expr| {
        let is_query = matches!(
            expr,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        );
        Ok(is_query)
    };
    filter.exists(is_query).unwrap_or(true)
}

/// What the log knows of the values in each file. DataFusion's own reading of statistics leaves bounds out that are no
/// values of rows, though no row lies outside.
struct Bounds<'a> {
    files: &'a [&'a KeptFile],
    schema: &'a Schema,
}

impl Bounds<'_> {
    fn of(&self, column: &Column, bound: fn(&ColumnStatistics) -> &Precision<ScalarValue>) -> Option<ArrayRef> {
        let at = self.schema.index_of(column.name()).ok()?;
        let none = ScalarValue::try_from(self.schema.field(at).data_type()).ok()?;
        let of_file = |file: &&KeptFile| {
            bound(&file.statistics.column_statistics[at]).get_value().cloned().unwrap_or_else(|| none.clone())
        };
        ScalarValue::iter_to_array(self.files.iter().map(of_file)).ok()
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |column| &column.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |column| &column.max_value)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let at = self.schema.index_of(column.name()).ok()?;
        let nulls = self.files.iter().map(|file| file.statistics.column_statistics[at].null_count.get_value());
        Some(Arc::new(nulls.map(|nulls| nulls.map(|nulls| *nulls as u64)).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.files.iter().map(|file| file.statistics.num_rows.get_value().map(|rows| *rows as u64));
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[async_trait]
impl TableProvider for DeltaScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.seen)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let names = self.columns.partition_names();
        let support = |filter: &&Expr| match decides_files(&names, filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut files = self.needed(session, filters)?;
        let names = self.columns.partition_names();
        if let Some(limit) = limit
            && filters.iter().all(|filter| decides_files(&names, filter))
        {
            files.truncate(enough(&files, limit));
        }
        let projected: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.columns.seen.fields().len()).collect(),
        };
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.columns.seen.project(&projected)?))));
        }
        let schema = self.columns.read.table_schema();
        let statistics = Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), schema)?;
        let mut options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let footers = session.runtime_env().cache_manager.get_file_metadata_cache();
        options.global.pushdown_filters = is_selective(filters, &files, &self.store, Arc::clone(&footers)).await?;
        let reader = CachedParquetFileReaderFactory::new(Arc::clone(&self.store), footers);
        let source = ParquetSource::new(self.columns.read.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let groups = groups(&files, schema, session.config().target_partitions())?;
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_limit(limit)
            .with_projection_indices(Some(projected.iter().map(|column| self.columns.order[*column]).collect()))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// How many of the files hold `limit` rows.
fn enough(files: &[&KeptFile], limit: usize) -> usize {
    let mut rows = 0_usize;
    for (read, file) in files.iter().enumerate() {
        if rows >= limit {
            return read;
        }
        rows += file.statistics.num_rows.get_value().copied().unwrap_or(0);
    }
    files.len()
}

/// The files, shared out evenly; DataFusion divides them further, by row groups, and lets cores that are done help.
fn groups(files: &[&KeptFile], schema: &SchemaRef, partitions: usize) -> Result<Vec<FileGroup>> {
    let file = |file: &&KeptFile| {
        let mut partitioned = PartitionedFile::new_from_meta(file.meta.clone());
        partitioned.partition_values = file.partition.clone();
        // Not by `with_statistics`, which takes partition values for never null.
        partitioned.statistics = Some(Arc::clone(&file.statistics));
        partitioned
    };
    let all = FileGroup::new(files.iter().map(file).collect());
    let with_statistics = |group: FileGroup| {
        let statistics = group.files().iter().filter_map(|file| file.statistics.as_deref());
        let statistics = Statistics::try_merge_iter(statistics, schema)?;
        Ok(group.with_statistics(Arc::new(statistics)))
    };
    all.split_files(partitions.max(1)).into_iter().map(with_statistics).collect()
}

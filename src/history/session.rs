//! One query after another on the same versions: DataFusion's session over the tables of a folder.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::CatalogProvider;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::catalog::{CATALOG, HISTORY, HistoryCatalog, LIVE, Pins};
use super::kept::TravelError;
use super::paths::{self, Found, looks_like_file};
use super::travel::{inner, mentioned, rename, wanted};
use super::{History, HistoryError, Paths};
use crate::sql::error::from_datafusion;
use crate::sql::names::{Name, fold, meant, relations};
use crate::sql::question::{Question, Travel, questions};
use crate::sql::{Location, SourceFiles, SqlError, SqlErrors};

/// What a statement that was typed is called in messages.
pub const TYPED: &str = "query";

const INFORMATION_SCHEMA: &str = "information_schema";

/// DataFusion over the tables of a folder, each at the version that it had when it was first mentioned.
pub struct HistorySession {
    context: SessionContext,
    pins: Arc<Pins>,
    paths: Paths,
}

impl HistorySession {
    pub(super) fn open(history: &History, paths: Paths) -> Result<HistorySession, HistoryError> {
        let pins = Arc::new(Pins::new(history));
        let mut state = SessionStateBuilder::new()
            .with_config(config(history, paths))
            .with_runtime_env(Arc::clone(&history.runtime))
            .with_default_features()
            .build();
        datafusion_functions_json::register_all(&mut state).map_err(HistoryError::Engine)?;
        let context = SessionContext::new_with_state(state);
        context.register_catalog(CATALOG, Arc::new(HistoryCatalog(Arc::clone(&pins))) as Arc<dyn CatalogProvider>);
        Ok(HistorySession { context, pins, paths })
    }

    /// DataFusion's context: catalog `acequia` with the schemas `history`, which needs no mention, and `live`.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// What one statement means: a query, EXPLAIN, DESCRIBE or SHOW. The versions that AS OF asks for are opened.
    ///
    /// # Errors
    /// Mistakes in the text with their places; statements that would write; tables that cannot be read.
    pub async fn plan(&self, sql: &str) -> Result<LogicalPlan, HistoryError> {
        let mut files = SourceFiles::default();
        let file = files.add(TYPED.into(), sql.to_owned());
        let (questions, mut errors) = questions(&files, file);
        match questions.as_slice() {
            [question] if errors.is_empty() => return self.plan_question(question, &files).await,
            [_, second, ..] if errors.is_empty() => {
                let error = SqlError::new(second.location, "only one statement can be asked at a time");
                errors.push(error.help("ask one after the other"));
            }
            [] if errors.is_empty() => errors.push(SqlError::nowhere("there is no statement").help("write SELECT ...")),
            _ => {}
        }
        Err(SqlErrors::new(files, errors).into())
    }

    /// What one statement of `files` means; as [`HistorySession::plan`].
    ///
    /// # Errors
    /// As there.
    // Boxed here: what is borrowed in it is not seen to be Send through the futures of those who call it.
    pub fn plan_question<'a>(
        &'a self,
        question: &'a Question,
        files: &'a SourceFiles,
    ) -> BoxFuture<'a, Result<LogicalPlan, HistoryError>> {
        self.planned(question, files).boxed()
    }

    async fn planned(&self, question: &Question, files: &SourceFiles) -> Result<LogicalPlan, HistoryError> {
        let mut statement = question.statement.clone();
        let wrong = |errors: Vec<SqlError>| HistoryError::from(SqlErrors::new(files.clone(), errors));
        for name in names_in(&mut statement, question, files) {
            if files.slice(name.location).starts_with('\'') {
                self.open_path(&name, files).await?;
                continue;
            }
            self.check(&name).map_err(|error| wrong(vec![error]))?;
            if let [LIVE, table] | [CATALOG, LIVE, table] = parts(&name.text).as_slice() {
                self.pins.pin_live(table).await?;
            }
        }
        let mut opened: Vec<(&Travel, String)> = vec![];
        for travel in &question.travels {
            let as_before = |before: &&Travel| {
                files.slice(before.name) == files.slice(travel.name)
                    && files.slice(before.location) == files.slice(travel.location)
            };
            // The same words mean the same version, though the clock goes on: AS OF now().
            let version = match opened.iter().find(|(before, _)| as_before(before)) {
                Some((_, version)) => version.clone(),
                None => self.travel(travel, &mut statement, files).await?,
            };
            rename(travel, &mut statement, files, &version);
            opened.push((travel, version));
        }
        let planned = self.context.state().statement_to_plan(statement).await;
        let plan = planned.map_err(|error| self.explained(error, question, files))?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        if read_only.verify_plan(&plan).is_err() {
            let error = SqlError::new(question.location, "the history is only read");
            return Err(wrong(vec![error.help("write a query: SELECT ...")]));
        }
        // What types and constants are wrong comes out here only. The plan that is run is optimized once more: one that
        // explains would show everything twice.
        match self.context.state().optimize(&plan) {
            Ok(_) => Ok(plan),
            Err(error) => Err(self.explained(error, question, files)),
        }
    }

    /// Runs what was planned. Dropping the stream stops the work.
    ///
    /// # Errors
    /// When the plan cannot be run; the stream's own errors are told by [`HistoryError::from`].
    pub async fn run(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream, HistoryError> {
        let frame = self.context.execute_logical_plan(plan).await?;
        Ok(frame.execute_stream().await?)
    }

    /// The columns of a table of the schema `history`.
    ///
    /// # Errors
    /// When there is no such table, or it cannot be opened.
    pub async fn columns(&self, table: &str) -> Result<SchemaRef, HistoryError> {
        let provider = self.context.table_provider(TableReference::bare(table)).await?;
        Ok(provider.schema())
    }

    /// Whether there is such a table, before DataFusion says so in its own words.
    fn check(&self, name: &Name) -> Result<(), SqlError> {
        let parts = parts(&name.text);
        let known = match parts.as_slice() {
            [LIVE, _] | [CATALOG, LIVE, _] if self.pins.has_live() => return Ok(()),
            [INFORMATION_SCHEMA, _] | [CATALOG, INFORMATION_SCHEMA, _] => return Ok(()),
            [table] | [HISTORY, table] | [CATALOG, HISTORY, table] => {
                self.pins.names().iter().any(|name| name == table)
            }
            _ => false,
        };
        // A name in double quotes may have a dot in it.
        if known || self.pins.names().contains(&name.text) {
            return Ok(());
        }
        let error = SqlError::new(name.location, format!("there is no table '{}'", name.text));
        if looks_like_file(&name.text) && self.paths == Paths::Allowed {
            return Err(error.help(format!("a file is written in single quotes: FROM '{}'", name.text)));
        }
        let names = self.pins.names();
        let table = parts.last().copied().unwrap_or_default();
        if let Some(help) = meant(table, names.iter().map(String::as_str)) {
            return Err(error.help(help));
        }
        let help = match names.is_empty() {
            true => "the folder keeps nothing: declare a table with connector = 'delta' and INSERT INTO it".to_owned(),
            false => format!("the folder keeps {}", names.join(", ")),
        };
        Err(error.help(help))
    }

    /// Finds what is at a path, before DataFusion asks for a table of that name.
    async fn open_path(&self, name: &Name, files: &SourceFiles) -> Result<(), HistoryError> {
        let path = name.text.as_str();
        let wrong = |message: String, help: String| {
            let error = SqlError::new(name.location, message).help(help);
            HistoryError::from(SqlErrors::new(files.clone(), vec![error]))
        };
        if self.paths == Paths::Refused {
            let help = "'acequia query' on the machine with the files reads them";
            return Err(wrong("files are not read here, only tables".into(), help.into()));
        }
        if self.pins.knows_path(path) {
            return Ok(());
        }
        let is_table = self.pins.names().iter().any(|table| table == path);
        match paths::find(path) {
            Ok(_) if is_table => {
                let help = format!("write FROM \"{path}\" for the table, FROM './{path}' for the file");
                Err(wrong(format!("'{path}' is a table and a file"), help))
            }
            Ok(Found::Delta(folder)) => self.pins.name_delta(path, &folder),
            Ok(Found::Files(found)) => {
                let table = found.table(&self.context.state()).await.map_err(|error| unreadable(path, error))?;
                self.pins.name_files(path, table);
                Ok(())
            }
            Err(not) if is_table => Err(wrong(not.message, format!("a table is written without quotes: FROM {path}"))),
            Err(not) => Err(wrong(not.message, not.help)),
        }
    }

    /// Opens a version; gives the name under which the schema `history` knows it.
    async fn travel(
        &self,
        travel: &Travel,
        statement: &mut datafusion::sql::parser::Statement,
        files: &SourceFiles,
    ) -> Result<String, HistoryError> {
        let wrong = |errors: Vec<SqlError>| HistoryError::from(SqlErrors::new(files.clone(), errors));
        let table = mentioned(travel, statement, files).map_err(|error| wrong(vec![error]))?;
        let qualifiers: Vec<&str> = table.qualifiers.iter().map(String::as_str).collect();
        let without_versions = || {
            let message = format!("'{}' has no versions", files.slice(travel.name));
            let help = "tables of the schema 'history' have versions, and Delta tables that are read by their paths";
            wrong(vec![SqlError::new(travel.location, message).help(help)])
        };
        if !matches!(qualifiers.as_slice(), [] | [HISTORY] | [CATALOG, HISTORY]) {
            return Err(without_versions());
        }
        let wanted = wanted(travel, &self.context.state(), files).await.map_err(wrong)?;
        match self.pins.travel(&table.name, wanted, files.slice(travel.location)).await {
            Ok(Some(version)) => Ok(version),
            Ok(None) => Err(without_versions()),
            Err(TravelError::NotThere { asked, versions }) => {
                Err(wrong(vec![SqlError::new(travel.location, asked).help(versions)]))
            }
            Err(TravelError::Table(error)) => Err(error),
        }
    }

    /// DataFusion's error with its place, unless it is one of ours that only came by.
    fn explained(&self, error: DataFusionError, question: &Question, files: &SourceFiles) -> HistoryError {
        if let Some(ours) = HistoryError::within(&error) {
            return ours;
        }
        let errors = from_datafusion(error, question.location.file, question.location, files);
        let errors = errors.into_iter().map(|error| match window_function(&error.message) {
            Some(_) if !error.message.contains("does not take") => error.help(
                "windows of streams are not there in a batch: GROUP BY date_bin(INTERVAL '1 minute', \"timestamp\")",
            ),
            _ => error,
        });
        SqlErrors::new(files.clone(), errors.collect()).into()
    }
}

/// The tables and files that a statement reads.
fn names_in(statement: &mut datafusion::sql::parser::Statement, question: &Question, files: &SourceFiles) -> Vec<Name> {
    let Some(statement) = inner(statement) else { return vec![] };
    let mut names = relations(statement, question.location, files);
    if let ast::Statement::ExplainTable { table_name, .. } = statement {
        let idents: Vec<_> = table_name.0.iter().filter_map(|part| part.as_ident()).collect();
        if let (Some(first), Some(last)) = (idents.first(), idents.last()) {
            let location = files.location_or(question.location, first.span);
            let location = location.to(files.location_or(question.location, last.span));
            let text = idents.iter().map(|ident| fold(ident)).collect::<Vec<_>>().join(".");
            names.push(Name { text, location });
        }
    }
    for name in &mut names {
        // The parser forgets where a name in single quotes stands.
        let quoted = format!("'{}'", name.text.replace('\'', "''"));
        if name.location == question.location
            && let Some(at) = files.slice(question.location).find(&quoted)
        {
            let start = question.location.start + at as u32;
            name.location = Location { start, end: start + quoted.len() as u32, ..question.location };
        }
    }
    names
}

/// What is wrong with a file, by whose path it was named.
fn unreadable(path: &str, error: DataFusionError) -> HistoryError {
    match HistoryError::from(error) {
        HistoryError::Running(message) => HistoryError::Running(format!("'{path}' cannot be read: {message}")),
        other => other,
    }
}

/// The streaming window function that a message says is not there.
fn window_function(message: &str) -> Option<&'static str> {
    ["tumble", "hop", "session"].into_iter().find(|name| message == format!("there is no function '{name}'"))
}

/// The parts of a name with dots.
fn parts(name: &str) -> Vec<&str> {
    name.split('.').collect()
}

fn config(history: &History, paths: Paths) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, HISTORY)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(history.parallelism)
        // Fewer and larger batches than DataFusion's 8192: a tenth off a filtered sum, by benches/history.py.
        .with_batch_size(16_384);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    // A folder is all that is below it.
    options.execution.listing_table_ignore_subdirectory = false;
    // As where tables are declared: TIMESTAMP WITH TIME ZONE is in UTC.
    options.execution.time_zone = Some("+00:00".into());
    // Tables decide for themselves whether filters are evaluated while their columns are decoded.
    options.execution.parquet.reorder_filters = true;
    // What each thread keeps for merging what it has spilled: all of them together leave most of the memory free.
    let each = history.memory / (8 * history.parallelism as u64);
    let usual = options.execution.sort_spill_reservation_bytes;
    options.execution.sort_spill_reservation_bytes = usual.min(usize::try_from(each).unwrap_or(usize::MAX));
    // Clients of servers may be older than Arrow's views of texts.
    options.optimizer.expand_views_at_output = paths == Paths::Refused;
    config
}

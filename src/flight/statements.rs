//! Statements on their way from a text to rows: planned and waiting to be fetched, prepared, and at work.
//!
//! A client holds each by a handle, which is random and good for a while: who never fetches or closes cannot fill the
//! memory. Handles are [`Handles`], with the time given in; [`results`] drives those at work.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::handles::Handles;
use super::metadata::Listed;
use super::parameters::ParameterError;
use super::results::{self, Ending};
use super::{metadata, parameters, plain, status};
use crate::console::{FlightFigures, random_token};
use crate::history::live::LiveTables;
use crate::history::{History, HistoryError, HistorySession, Paths};

/// A statement that is neither fetched nor used for so long is forgotten.
const REST: Duration = Duration::from_secs(600);
/// So many may wait to be fetched at a time; each holds the tables of its session.
const MOST_WAITING: usize = 1_000;
const MOST_PREPARED: usize = 10_000;

/// What a server lets its queries use.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// Queries at work at a time.
    pub queries: usize,
    /// How long one may take, with the time that its client needs to read it.
    pub patience: Duration,
}

/// All statements of a server.
pub struct Statements {
    history: Arc<History>,
    limits: QueryLimits,
    waiting: Mutex<Handles<String, Planned>>,
    prepared: Mutex<Handles<String, Prepared>>,
    running: Arc<Mutex<HashMap<String, CancellationToken>>>,
    slots: Arc<Semaphore>,
    figures: Arc<FlightFigures>,
    server: CancellationToken,
}

/// A statement that is planned and waits to be fetched.
struct Planned {
    session: Arc<HistorySession>,
    plan: LogicalPlan,
    /// How many values are missing: it cannot run without.
    missing: usize,
    /// Rows of values; the statement runs once for each.
    values: Option<RecordBatch>,
    schema: SchemaRef,
}

/// A statement that a client will run again and again.
#[derive(Clone)]
struct Prepared {
    sql: String,
    schema: SchemaRef,
    parameters: SchemaRef,
    values: Option<RecordBatch>,
}

/// What is told of a statement that was planned or prepared.
pub struct Told {
    /// To fetch, run or close it.
    pub handle: String,
    /// The columns of its results.
    pub schema: SchemaRef,
    /// Its parameters.
    pub parameters: SchemaRef,
}

impl Statements {
    /// None yet, over what `history` keeps; all end when `server` is cancelled.
    pub fn new(
        history: Arc<History>,
        limits: QueryLimits,
        figures: Arc<FlightFigures>,
        server: CancellationToken,
    ) -> Statements {
        Statements {
            history,
            limits,
            waiting: Mutex::new(Handles::new(MOST_WAITING, REST)),
            prepared: Mutex::new(Handles::new(MOST_PREPARED, REST)),
            running: Arc::default(),
            slots: Arc::new(Semaphore::new(limits.queries)),
            figures,
            server,
        }
    }

    /// The tables that can be asked, those of `live` among them.
    pub fn listed<'a>(&'a self, live: Option<&'a dyn LiveTables>) -> BoxFuture<'a, Vec<Listed>> {
        metadata::listed(&self.history, live).boxed()
    }

    // The futures are boxed here: see [`super::service`] on what the compiler would have to look through otherwise.

    /// Plans a text; its results wait to be fetched.
    ///
    /// # Errors
    /// Mistakes in it, and tables that cannot be read.
    pub fn plan<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Told, Status>> {
        async move {
            let (session, plan) = self.planned(sql).await?;
            let parameters = parameters::schema(&plan).map_err(status::of_parameters)?;
            if !parameters.fields().is_empty() {
                return Err(Status::invalid_argument(
                    "the statement has parameters: prepare it, and bind their values",
                ));
            }
            let schema = plain::schema(plan.schema().as_arrow());
            self.wait(Planned { session, plan, missing: 0, values: None, schema }, parameters)
        }
        .boxed()
    }

    /// Prepares a text.
    ///
    /// # Errors
    /// As for [`Statements::plan`].
    pub fn prepare<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Told, Status>> {
        async move {
            let (_, plan) = self.planned(sql).await?;
            let parameters = parameters::schema(&plan).map_err(status::of_parameters)?;
            let schema = plain::schema(plan.schema().as_arrow());
            let prepared = Prepared {
                sql: sql.to_owned(),
                schema: Arc::clone(&schema),
                parameters: Arc::clone(&parameters),
                values: None,
            };
            let handle = new_handle()?;
            self.prepared.lock().insert(handle.clone(), prepared, Instant::now());
            Ok(Told { handle, schema, parameters })
        }
        .boxed()
    }

    /// Binds values to a prepared statement, a row for each time that it will run.
    ///
    /// # Errors
    /// When the handle is not known or the values do not fit.
    pub fn bind(&self, handle: &str, values: &RecordBatch) -> Result<(), Status> {
        let mut all = self.prepared.lock();
        let prepared = all.get(&handle.to_owned(), Instant::now()).ok_or_else(status::gone)?;
        let values = parameters::checked(values, &prepared.parameters).map_err(status::of_parameters)?;
        prepared.values = Some(values);
        Ok(())
    }

    /// Plans a prepared statement over what is kept now, with the values that were bound last; its results wait to be
    /// fetched.
    ///
    /// # Errors
    /// As for [`Statements::plan`].
    pub fn plan_prepared<'a>(&'a self, handle: &'a str) -> BoxFuture<'a, Result<Told, Status>> {
        async move {
            let prepared = self.prepared.lock().get(&handle.to_owned(), Instant::now()).cloned();
            let Prepared { sql, schema, parameters, values } = prepared.ok_or_else(status::gone)?;
            let (session, plan) = self.planned(&sql).await?;
            let schema = match &values {
                Some(values) if values.num_rows() > 0 => {
                    let first = parameters::bound(plan.clone(), values, 0).map_err(status::of_parameters)?;
                    plain::schema(first.schema().as_arrow())
                }
                _ => schema,
            };
            let missing = if values.is_some() { 0 } else { parameters.fields().len() };
            self.wait(Planned { session, plan, missing, values, schema }, parameters)
        }
        .boxed()
    }

    /// Forgets a prepared statement. One that is not known is forgotten already.
    pub fn close(&self, handle: &str) {
        self.prepared.lock().take(&handle.to_owned(), Instant::now());
    }

    /// Begins to run what waits under `handle`, which is good for once.
    ///
    /// # Errors
    /// When it is not known, when values are missing, or as many queries are at work as may be.
    pub fn fetch(&self, handle: &str) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "as many queries are at work as may be ({}, --max-queries): try again when one has ended",
                self.limits.queries
            ))
        })?;
        let handle = handle.to_owned();
        let cancelled = CancellationToken::new();
        let planned = {
            // One lock over both: at any time it is known as waiting or as running, and can be cancelled.
            let mut running = self.running.lock();
            let planned = self.waiting.lock().take(&handle, Instant::now()).ok_or_else(status::gone)?;
            running.insert(handle.clone(), cancelled.clone());
            planned
        };
        let registered = Registered { running: Arc::clone(&self.running), handle };
        if planned.missing > 0 {
            return Err(status::of_parameters(ParameterError::Count { wanted: planned.missing, given: 0 }));
        }
        let schema = Arc::clone(&planned.schema);
        let ending = Ending { cancelled, server: self.server.clone(), patience: self.limits.patience };
        Ok(results::send(planned.run(), schema, ending, Arc::clone(&self.figures), (slot, registered)))
    }

    /// Stops what runs or waits under `handle`; `false` if nothing does.
    pub fn cancel(&self, handle: &str) -> bool {
        let handle = handle.to_owned();
        let running = self.running.lock();
        match running.get(&handle) {
            Some(running) => running.cancel(),
            None => return self.waiting.lock().take(&handle, Instant::now()).is_some(),
        }
        true
    }

    /// Forgets what has expired by now.
    pub fn sweep(&self, now: Instant) {
        self.waiting.lock().sweep(now);
        self.prepared.lock().sweep(now);
    }

    async fn planned(&self, sql: &str) -> Result<(Arc<HistorySession>, LogicalPlan), Status> {
        let sql = parameters::numbered(sql).map_err(status::of_parameters)?;
        let plan = async {
            let session = self.history.session(Paths::Refused).await?;
            let plan = session.plan(&sql).await?;
            Ok::<_, HistoryError>((Arc::new(session), plan))
        };
        match tokio::time::timeout(self.limits.patience, plan).await {
            Ok(planned) => planned.map_err(|error| status::of_history(&error)),
            Err(_) => Err(Status::deadline_exceeded("the query could not be planned in time (--query-timeout)")),
        }
    }

    fn wait(&self, planned: Planned, parameters: SchemaRef) -> Result<Told, Status> {
        let (handle, schema) = (new_handle()?, Arc::clone(&planned.schema));
        self.waiting.lock().insert(handle.clone(), planned, Instant::now());
        Ok(Told { handle, schema, parameters })
    }
}

fn new_handle() -> Result<String, Status> {
    random_token().map_err(|error| Status::internal(format!("no handle can be made up: {error}")))
}

impl Planned {
    async fn run(self) -> Result<BoxStream<'static, Result<RecordBatch, HistoryError>>, HistoryError> {
        let Planned { session, plan, values, .. } = self;
        let Some(values) = values else { return rows(&session, plan).await };
        let runs = futures::stream::iter(0..values.num_rows()).then(move |row| {
            let (session, plan, values) = (Arc::clone(&session), plan.clone(), values.clone());
            async move {
                let bound =
                    parameters::bound(plan, &values, row).map_err(|error| HistoryError::Running(error.to_string()))?;
                rows(&session, bound).await
            }
        });
        Ok(runs.try_flatten().boxed())
    }
}

async fn rows(
    session: &HistorySession,
    plan: LogicalPlan,
) -> Result<BoxStream<'static, Result<RecordBatch, HistoryError>>, HistoryError> {
    Ok(session.run(plan).await?.map_err(HistoryError::from).boxed())
}

/// A query that can be cancelled while this is there.
struct Registered {
    running: Arc<Mutex<HashMap<String, CancellationToken>>>,
    handle: String,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.running.lock().remove(&self.handle);
    }
}

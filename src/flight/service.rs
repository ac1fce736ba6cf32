//! Flight SQL's calls: each reads what it was asked and hands it to [`Statements`], [`metadata`] or [`info`].
//!
//! arrow-flight's [`FlightSqlService`] tells the commands apart. Whatever would change something is refused in words.

use std::ops::Deref;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{DoPutError, FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest, ActionEndTransactionRequest, Any, Command,
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementSubstraitPlan, CommandStatementUpdate, DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelStatus, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::access::Admitted;
use super::metadata::{self, keys};
use super::statements::{Statements, Told};
use super::{info, status, wire};
use crate::history::live::LiveTables;

/// Flight's newer action for the same as Flight SQL's `CancelQuery`.
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
/// Rows of values that may be bound at once.
const MOST_BOUND_ROWS: usize = 10_000;
/// Bytes of them, as they are sent.
const MOST_BOUND_BYTES: usize = 64 << 20;

const SUBSTRAIT: &str = "Substrait plans are not taken: send SQL";
const TRANSACTIONS: &str = "there are no transactions";

/// The statements of a server, their fields hidden from the compiler: for each of the forty calls below it would search
/// all that a plan is made of anew for something that is not `Send`, which takes minutes.
type Veiled = Arc<dyn Deref<Target = Statements> + Send + Sync>;

/// The calls, over the statements of a server.
#[derive(Clone)]
pub struct Service {
    statements: Veiled,
    live: Option<Arc<dyn LiveTables>>,
}

type Rows = Response<<Service as FlightService>::DoGetStream>;

impl Service {
    /// Calls over `statements`; `live` lists the live tables, which its history knows as well.
    pub fn new(statements: Arc<Statements>, live: Option<Arc<dyn LiveTables>>) -> Service {
        Service { statements: Arc::new(statements), live }
    }

    /// Forgets what a [`FlightInfo`] would have fetched; `false` if nothing waits or runs.
    pub fn cancel(&self, info: &FlightInfo) -> bool {
        wire::handle_of(info).is_some_and(|handle| self.statements.cancel(&handle))
    }
}

/// Where to fetch the results of a statement.
fn statement_info(told: &Told, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
    flight_info(&told.schema, wire::ticket(&told.handle), request)
}

/// Where to fetch what a question about tables and types is answered with: the question itself is the ticket.
fn question_info(schema: &Schema, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
    let ticket = Ticket::new(request.get_ref().cmd.clone());
    flight_info(schema, ticket, request)
}

fn flight_info(
    schema: &Schema,
    ticket: Ticket,
    request: Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>, Status> {
    let info = FlightInfo::new().try_with_schema(schema).map_err(internal)?;
    let info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)).with_descriptor(request.into_inner());
    Ok(Response::new(info.with_ordered(true)))
}

fn answer(batch: Result<RecordBatch, FlightError>) -> Result<Rows, Status> {
    let batch = batch.map_err(internal)?;
    let schema = batch.schema();
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema);
    let stream = encoder.build(futures::stream::iter([Ok(batch)])).map_err(Status::from);
    Ok(Response::new(stream.boxed()))
}

fn no_rows(schema: &SchemaRef) -> Result<Rows, Status> {
    answer(Ok(RecordBatch::new_empty(Arc::clone(schema))))
}

fn encoded(schema: &Schema) -> Result<bytes::Bytes, Status> {
    // No fields are no message: a client takes that for a statement without parameters, or without rows.
    if schema.fields().is_empty() {
        return Ok(bytes::Bytes::new());
    }
    let message: IpcMessage = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(internal)?;
    Ok(message.0)
}

fn handle(bytes: &[u8]) -> Result<&str, Status> {
    std::str::from_utf8(bytes).map_err(|_| status::gone())
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// Rows of values that a client binds.
async fn values(stream: PeekableFlightDataStream) -> Result<RecordBatch, Status> {
    let mut bytes = 0;
    let bounded = stream.map_err(FlightError::from).and_then(move |data| {
        // Empty batches are counted, too: each has a header.
        bytes += data.data_header.len() + data.data_body.len();
        let most = MOST_BOUND_BYTES >> 20;
        let too_many = || Status::invalid_argument(format!("at most {most} MB of values can be bound"));
        futures::future::ready(if bytes > MOST_BOUND_BYTES { Err(too_many().into()) } else { Ok(data) })
    });
    let mut batches = FlightRecordBatchStream::new_from_flight_data(bounded);
    let (mut all, mut rows) = (vec![], 0);
    while let Some(batch) = batches.try_next().await.map_err(Status::from)? {
        rows += batch.num_rows();
        if rows > MOST_BOUND_ROWS {
            return Err(Status::invalid_argument(format!("at most {MOST_BOUND_ROWS} rows of values can be bound")));
        }
        all.push(batch);
    }
    let schema = batches.schema().cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
    concat_batches(&schema, &all).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[async_trait]
impl FlightSqlService for Service {
    type FlightService = Service;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<BoxStream<'static, Result<HandshakeResponse, Status>>>, Status> {
        // The gate has looked at the password.
        let payload = match request.extensions().get::<Admitted>() {
            Some(Admitted::LoggedIn(token)) => token.as_bytes().to_vec(),
            _ => vec![],
        };
        let response = HandshakeResponse { protocol_version: 0, payload: payload.into() };
        Ok(Response::new(futures::stream::iter([Ok(response)]).boxed()))
    }

    // What can be asked for.

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        if query.transaction_id.is_some() {
            return Err(status::read_only(TRANSACTIONS));
        }
        statement_info(&self.statements.plan(&query.query).await?, request)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let handle = handle(&query.prepared_statement_handle)?;
        statement_info(&self.statements.plan_prepared(handle).await?, request)
    }

    async fn get_flight_info_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(SUBSTRAIT))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&query.into_builder().schema(), request)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&query.into_builder().schema(), request)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&query.into_builder().schema(), request)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&query.into_builder().schema(), request)
    }

    async fn get_flight_info_sql_info(
        &self,
        _: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&info::server()?.schema(), request)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        _: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&info::types()?.schema(), request)
    }

    async fn get_flight_info_primary_keys(
        &self,
        _: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&keys::PRIMARY, request)
    }

    async fn get_flight_info_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&keys::FOREIGN, request)
    }

    async fn get_flight_info_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&keys::FOREIGN, request)
    }

    async fn get_flight_info_cross_reference(
        &self,
        _: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        question_info(&keys::FOREIGN, request)
    }

    async fn get_flight_info_fallback(
        &self,
        command: Command,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(format!("there are no results for {}", command.type_url())))
    }

    // What was asked for.

    async fn do_get_statement(&self, ticket: TicketStatementQuery, _: Request<Ticket>) -> Result<Rows, Status> {
        Ok(Response::new(self.statements.fetch(handle(&ticket.statement_handle)?)?))
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Rows, Status> {
        let told = self.statements.plan_prepared(handle(&query.prepared_statement_handle)?).await?;
        Ok(Response::new(self.statements.fetch(&told.handle)?))
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Result<Rows, Status> {
        answer(metadata::catalogs(query))
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _: Request<Ticket>) -> Result<Rows, Status> {
        answer(metadata::schemas(query))
    }

    async fn do_get_tables(&self, query: CommandGetTables, _: Request<Ticket>) -> Result<Rows, Status> {
        let listed = self.statements.listed(self.live.as_deref()).await;
        answer(metadata::tables(query, &listed))
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Result<Rows, Status> {
        answer(metadata::table_types(query))
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Result<Rows, Status> {
        answer(query.into_builder(info::server()?).build())
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Result<Rows, Status> {
        answer(query.into_builder(info::types()?).build())
    }

    async fn do_get_primary_keys(&self, _: CommandGetPrimaryKeys, _: Request<Ticket>) -> Result<Rows, Status> {
        no_rows(&keys::PRIMARY)
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> Result<Rows, Status> {
        no_rows(&keys::FOREIGN)
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> Result<Rows, Status> {
        no_rows(&keys::FOREIGN)
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, _: Request<Ticket>) -> Result<Rows, Status> {
        no_rows(&keys::FOREIGN)
    }

    async fn do_get_fallback(&self, _: Request<Ticket>, message: Any) -> Result<Rows, Status> {
        Err(Status::unimplemented(format!("there are no results for {}", message.type_url)))
    }

    // What would change something, and what binds values.

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(status::read_only("nothing can be updated"))
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(status::read_only("nothing can be updated"))
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(status::read_only("nothing can be ingested"))
    }

    async fn do_put_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(Status::unimplemented(SUBSTRAIT))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let values = values(request.into_inner()).await?;
        self.statements.bind(handle(&query.prepared_statement_handle)?, &values)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn do_put_fallback(
        &self,
        _: Request<PeekableFlightDataStream>,
        message: Any,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>, Status> {
        Err(status::read_only(&format!("{} cannot be put", message.type_url)))
    }

    async fn do_put_error_callback(
        &self,
        _: Request<PeekableFlightDataStream>,
        error: DoPutError,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>, Status> {
        Err(Status::invalid_argument(error.to_string()))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        if query.transaction_id.is_some() {
            return Err(status::read_only(TRANSACTIONS));
        }
        let Told { handle, schema, parameters } = self.statements.prepare(&query.query).await?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into_bytes().into(),
            dataset_schema: encoded(&schema)?,
            parameter_schema: encoded(&parameters)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        self.statements.close(handle(&query.prepared_statement_handle)?);
        Ok(())
    }

    async fn do_action_create_prepared_substrait_plan(
        &self,
        _: ActionCreatePreparedSubstraitPlanRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        Err(Status::unimplemented(SUBSTRAIT))
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(status::read_only(TRANSACTIONS))
    }

    async fn do_action_end_transaction(
        &self,
        _: ActionEndTransactionRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Err(status::read_only(TRANSACTIONS))
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(status::read_only("there are no savepoints"))
    }

    async fn do_action_end_savepoint(&self, _: ActionEndSavepointRequest, _: Request<Action>) -> Result<(), Status> {
        Err(status::read_only("there are no savepoints"))
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        // The same numbers as of the newer action.
        Ok(ActionCancelQueryResult { result: self.cancel_encoded(&query.info) as i32 })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let Action { r#type: name, body } = request.into_inner();
        if name != CANCEL_FLIGHT_INFO {
            return Err(Status::unimplemented(format!("there is no action {name:?} here")));
        }
        let info = wire::info_in_request(&body);
        let status = info.map_or(CancelStatus::NotCancellable, |info| self.cancel_encoded(info));
        let result = arrow_flight::Result { body: wire::number(status as u8).into() };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let description = "Stops a query, or forgets one that was not fetched.\n\
            Request Message: CancelFlightInfoRequest\nResponse Message: CancelFlightInfoResult";
        Some(vec![Ok(ActionType { r#type: CANCEL_FLIGHT_INFO.into(), description: description.into() })])
    }

    // What is said of the server is fixed.
    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

impl Service {
    fn cancel_encoded(&self, info: &[u8]) -> CancelStatus {
        match wire::handle_in_info(info) {
            Some(handle) if self.statements.cancel(&handle) => CancelStatus::Cancelled,
            _ => CancelStatus::NotCancellable,
        }
    }
}

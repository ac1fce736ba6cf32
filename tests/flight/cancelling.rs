//! Queries that end before their end: cancelled, left, or taking too long. With one place for queries, whoever still
//! held it would keep the next one out.

use std::time::{Duration, Instant};

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::ActionCancelQueryRequest;
use arrow_flight::{Action, CancelFlightInfoRequest, CancelStatus, FlightClient, FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt};

use crate::serving::{Client, ENDLESS, Serving, ask, cells, fetch};

async fn begun(client: &mut Client) -> (FlightInfo, FlightRecordBatchStream) {
    let info = client.execute(ENDLESS.into(), None).await.unwrap();
    let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    (info, stream)
}

/// What ends a stream.
async fn end(mut stream: FlightRecordBatchStream) -> String {
    loop {
        match stream.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => return "its end".into(),
            Err(error) => return error.to_string(),
        }
    }
}

/// The only place is free again, within a while.
async fn is_free(client: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match ask(client, "SELECT 1").await {
            Ok(found) => return assert_eq!(cells(&found), [["1"]]),
            Err(busy) => {
                // Its place is taken, or its time is over.
                let is_early = busy.contains("--max-queries") || busy.contains("--query-timeout");
                assert!(is_early && Instant::now() < deadline, "{busy}");
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_more_queries_are_at_work_than_may_be() {
    let serving = Serving::start(&["--max-queries", "1"]);
    let mut client = serving.client().await;
    let (_, stream) = begun(&mut client).await;
    let info = client.execute("SELECT 1".into(), None).await.unwrap();
    let busy = fetch(&mut client, info.clone()).await.unwrap_err();
    assert!(busy.contains("as many queries are at work as may be (1, --max-queries)"), "{busy}");
    drop(stream);
    is_free(&mut client).await;
    // It was refused, not forgotten.
    fetch(&mut client, info).await.unwrap();
}

#[tokio::test]
async fn a_query_is_cancelled_by_either_action() {
    let serving = Serving::start(&["--max-queries", "1"]);
    let mut client = serving.client().await;
    let mut flight = FlightClient::new_from_inner(client.inner().clone());

    let (info, stream) = begun(&mut client).await;
    let result = flight.cancel_flight_info(CancelFlightInfoRequest::new(info.clone())).await.unwrap();
    assert_eq!(result.status(), CancelStatus::Cancelled);
    let said = end(stream).await;
    assert!(said.contains("the query was cancelled"), "{said}");
    is_free(&mut client).await;
    let result = flight.cancel_flight_info(CancelFlightInfoRequest::new(info)).await.unwrap();
    assert_eq!(result.status(), CancelStatus::NotCancellable);

    // One that a client has stopped to read: nobody takes its rows, and its place is given back all the same.
    let (info, stream) = begun(&mut client).await;
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(cancel_query(&mut client, &ticket).await, CancelStatus::Cancelled as u8);
    is_free(&mut client).await;
    let said = end(stream).await;
    assert!(said.contains("the query was cancelled"), "{said}");

    // One that was never fetched.
    let info = client.execute("SELECT 1".into(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(cancel_query(&mut client, &ticket).await, CancelStatus::Cancelled as u8);
    let gone = fetch(&mut client, info).await.unwrap_err();
    assert!(gone.contains("this statement is not known"), "{gone}");
}

/// Flight SQL's older action, whose answer is a number.
async fn cancel_query(client: &mut Client, ticket: &Ticket) -> u8 {
    use arrow_flight::sql::ProstMessageExt;
    // A FlightInfo with one endpoint with one ticket.
    let info = message(3, &message(1, &message(1, &ticket.ticket)));
    let request = ActionCancelQueryRequest { info: info.into() }.as_any();
    let any = [message(1, request.type_url.as_bytes()), message(2, &request.value)].concat();
    let mut results = client.do_action(Action::new("CancelQuery", any)).await.unwrap();
    *results.message().await.unwrap().unwrap().body.last().unwrap()
}

/// A field of an encoded message that holds bytes.
fn message(number: u8, value: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2];
    let mut size = value.len();
    while size >= 128 {
        encoded.push(size as u8 | 128);
        size /= 128;
    }
    encoded.push(size as u8);
    encoded.extend(value);
    encoded
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped() {
    let serving = Serving::start(&["--query-timeout", "1s", "--max-queries", "1"]);
    let mut client = serving.client().await;
    // A machine that is busy may not even get to planning it; then it is asked again.
    let deadline = Instant::now() + Duration::from_secs(60);
    let said = loop {
        let said = match client.execute(ENDLESS.into(), None).await {
            Ok(info) => end(client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap()).await,
            Err(error) => error.to_string(),
        };
        if !said.contains("could not be planned in time (--query-timeout)") {
            break said;
        }
        assert!(Instant::now() < deadline, "{said}");
    };
    assert!(said.contains("the query was stopped after 1s (--query-timeout)"), "{said}");
    is_free(&mut client).await;
}

#[tokio::test]
async fn a_client_that_goes_gives_its_place_back() {
    let serving = Serving::start(&["--max-queries", "1"]);
    let (client, stream) = {
        let mut client = serving.client().await;
        let (_, stream) = begun(&mut client).await;
        (client, stream)
    };
    drop(stream);
    drop(client);
    is_free(&mut serving.client().await).await;
}

#[tokio::test]
async fn more_memory_than_there_is_is_an_error_in_words() {
    let serving = Serving::start(&["--memory-limit", "1MB"]);
    let mut client = serving.client().await;
    let sql = "SELECT cardinality(array_agg(a.transaction_id)) FROM transactions_history a \
               CROSS JOIN transactions_history b";
    let said = ask(&mut client, sql).await.unwrap_err();
    assert!(said.contains("needs more memory than its limit"), "{said}");
    ask(&mut client, "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn at_a_stop_what_is_asked_is_answered() {
    let mut serving = Serving::start(&["--shutdown-timeout", "1s"]);
    let mut client = serving.client().await;
    let (_, stream) = begun(&mut client).await;
    let info = client.execute("SELECT count(*) FROM transactions_history".into(), None).await.unwrap();
    let counted = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    serving.process.signal("-TERM");
    serving.process.until("stopping: no more is asked");
    let counted: Vec<_> = counted.try_collect().await.unwrap();
    assert_eq!(counted[0].num_rows(), 1);
    // The one that has no end is broken off when the time is over.
    let said = end(stream).await;
    assert!(said.contains("the server stops"), "{said}");
    assert_eq!(serving.process.exit_code(), Some(0));
}

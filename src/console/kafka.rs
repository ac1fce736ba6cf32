//! `/api/v1/kafka/...`: what is in the log that takes Kafka's place.

use axum::Json;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::parameter;
use crate::connectors::ConnectorError;
use crate::connectors::kafka::embedded::look;

/// So many messages are shown unless asked otherwise.
const COUNT: usize = 10;
/// And no more than so many.
const MOST: usize = 1000;

/// All topics: name, partitions with their first and next offset, records, bytes.
pub async fn topics() -> Response {
    answer(
        tokio::task::spawn_blocking(look::topics).await.map(|topics| topics.map(|topics| Json(topics).into_response())),
    )
}

/// `messages?topic=transactions&count=10`: the newest records, the newest first.
pub async fn messages(uri: Uri) -> Response {
    let bad = |message: &'static str| (StatusCode::BAD_REQUEST, message).into_response();
    let Some(topic) = parameter(&uri, "topic") else {
        return bad("which topic? Add ?topic=..., such as ?topic=transactions; /api/v1/kafka/topics has all\n");
    };
    let Ok(count) = parameter(&uri, "count").map_or(Ok(COUNT), |count| count.parse::<usize>()) else {
        return bad("'count' takes a whole number, such as ?topic=transactions&count=10\n");
    };
    let look = move || {
        Ok(match look::messages(&topic, count.min(MOST))? {
            Some(messages) => Json(messages).into_response(),
            None => (StatusCode::NOT_FOUND, "the embedded Kafka has no such topic\n").into_response(),
        })
    };
    answer(tokio::task::spawn_blocking(look).await)
}

fn answer(outcome: Result<Result<Response, ConnectorError>, tokio::task::JoinError>) -> Response {
    let message = match outcome {
        Ok(Ok(response)) => return response,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{message}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_wrongly_is_told() {
        let ask =
            async |query: &str| messages(format!("/api/v1/kafka/messages{query}").parse().unwrap()).await.status();
        assert_eq!(ask("").await, StatusCode::BAD_REQUEST);
        assert_eq!(ask("?topic=t&count=many").await, StatusCode::BAD_REQUEST);
        assert_eq!(ask("?topic=no-such-topic&count=3").await, StatusCode::NOT_FOUND);
    }
}

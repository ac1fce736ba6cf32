//! `/api/v1/redis/...`: what is in the embedded store that takes Redis' place.

use axum::Json;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::parameter;
use crate::connectors::redis::embedded;

/// `keys?pattern=metrics:*`: the keys that match, as a JSON list; all without a pattern.
pub async fn keys(uri: Uri) -> Response {
    let pattern = parameter(&uri, "pattern").unwrap_or_else(|| "*".into());
    Json(embedded::store().keys(&pattern)).into_response()
}

/// `get?key=metrics:transactions`: the value as it is stored.
pub async fn get(uri: Uri) -> Response {
    let Some(key) = parameter(&uri, "key") else {
        return (StatusCode::BAD_REQUEST, "which key? Add ?key=..., such as ?key=metrics:transactions\n")
            .into_response();
    };
    match embedded::store().get(&key) {
        Some(value) if serde_json::from_str::<serde_json::Value>(&value).is_ok() => {
            ([(header::CONTENT_TYPE, "application/json")], value).into_response()
        }
        Some(value) => value.into_response(),
        None => (StatusCode::NOT_FOUND, "the embedded Redis has no string of that key\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let uri: Uri = "/api/v1/redis/get?a=1&key=metrics%3Aproducts%3AHome+%26+Garden".parse().unwrap();
        assert_eq!(parameter(&uri, "key").as_deref(), Some("metrics:products:Home & Garden"));
        assert_eq!(parameter(&uri, "pattern"), None);
    }

    #[tokio::test]
    async fn a_key_that_is_not_there_and_none_at_all_are_told_apart() {
        let missing = get("/api/v1/redis/get?key=no-such-key".parse().unwrap()).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        assert_eq!(get("/api/v1/redis/get".parse().unwrap()).await.status(), StatusCode::BAD_REQUEST);
    }
}

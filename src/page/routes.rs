//! What the page is asked for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use axum::routing::get;
use axum::{Json, Router, middleware};
use chrono::Utc;
use futures::Stream;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::access::{self, Access};
use super::assets;
use super::audience::{Audience, Seat};
use super::part::Seen;
use super::statements::Statements;
use super::warehouse::sql::json_time;
use crate::console;

/// How long one who asks once waits for the first picture.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that says nothing for longer may be cut on its way.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What requests are answered from.
pub struct Pictures {
    /// Who looks.
    pub audience: Arc<Audience>,
    /// The shop's figures.
    pub shop: watch::Receiver<Seen<Value>>,
    /// The pipeline's.
    pub pipeline: watch::Receiver<Seen<Value>>,
    /// The folder's SQL.
    pub statements: Statements,
}

/// All routes, for those who may see the page.
pub fn router(pictures: Arc<Pictures>, access: Access) -> Router {
    let loopback = access.is_loopback();
    let router = Router::new()
        .route("/", get(async || assets::answer("index.html").unwrap_or_else(unknown)))
        .route("/assets/{name}", get(async |Path(name): Path<String>| assets::answer(&name).unwrap_or_else(unknown)))
        .route("/api/page/shop", get(shop))
        .route("/api/page/pipeline", get(pipeline))
        .route("/api/page/stream", get(stream))
        .route("/api/page/sql", get(sql))
        .fallback(fallback)
        .with_state(pictures)
        .layer(middleware::from_fn_with_state(access, access::guard));
    let router = if loopback { router.layer(middleware::from_fn(console::only_loopback)) } else { router };
    router.layer(middleware::from_fn(access::careful))
}

fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "not found: the page is at /\n").into_response()
}

async fn fallback(uri: Uri) -> Response {
    if !uri.path().starts_with("/api/") {
        return unknown();
    }
    error(StatusCode::NOT_FOUND, "there are /api/page/shop, /api/page/pipeline, /api/page/stream and /api/page/sql")
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, fresh(), Json(json!({ "error": message }))).into_response()
}

fn fresh() -> [(header::HeaderName, &'static str); 1] {
    [(header::CACHE_CONTROL, "no-store")]
}

async fn shop(State(pictures): State<Arc<Pictures>>) -> Response {
    let seat = pictures.audience.take_seat();
    one(seat, pictures.shop.clone()).await
}

async fn pipeline(State(pictures): State<Arc<Pictures>>) -> Response {
    let seat = pictures.audience.take_seat();
    one(seat, pictures.pipeline.clone()).await
}

async fn sql(State(pictures): State<Arc<Pictures>>) -> Response {
    (fresh(), Json(pictures.statements.files())).into_response()
}

/// The picture as it is, or the first one that there will be.
async fn one(_seat: Seat, mut picture: watch::Receiver<Seen<Value>>) -> Response {
    match tokio::time::timeout(PATIENCE, picture.wait_for(Seen::is_known)).await {
        Ok(Ok(seen)) => match (&seen.figures, &seen.trouble) {
            (Some(figures), _) => (fresh(), Json(dated(figures))).into_response(),
            (None, trouble) => {
                let message = trouble.as_ref().map_or("nothing is known", |trouble| &trouble.message);
                error(StatusCode::SERVICE_UNAVAILABLE, message)
            }
        },
        Ok(Err(_)) => error(StatusCode::SERVICE_UNAVAILABLE, "the page is being stopped"),
        Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "no answer yet: try again"),
    }
}

/// A picture with the time at which it is sent.
fn dated(picture: &Value) -> Value {
    let Value::Object(figures) = picture else { return picture.clone() };
    let mut dated = Map::new();
    dated.insert("now".into(), json_time(Utc::now()).into());
    dated.extend(figures.iter().map(|(key, value)| (key.clone(), value.clone())));
    Value::Object(dated)
}

async fn stream(State(pictures): State<Arc<Pictures>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let viewer = Viewer {
        _seat: pictures.audience.take_seat(),
        shop: Watched::new("shop", pictures.shop.clone()),
        pipeline: Watched::new("pipeline", pictures.pipeline.clone()),
    };
    let events = futures::stream::unfold(viewer, async |mut viewer| {
        let event = viewer.next().await?;
        Some((Ok(event), viewer))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// One who is told what changes.
struct Viewer {
    _seat: Seat,
    shop: Watched,
    pipeline: Watched,
}

/// A picture, and what was last told of it.
struct Watched {
    name: &'static str,
    picture: watch::Receiver<Seen<Value>>,
    told: Option<Arc<Value>>,
}

impl Viewer {
    /// The next event; `None` when there will be no more.
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            event = self.shop.next() => event,
            event = self.pipeline.next() => event,
        }
    }
}

impl Watched {
    fn new(name: &'static str, picture: watch::Receiver<Seen<Value>>) -> Watched {
        Watched { name, picture, told: None }
    }

    /// Cancel-safe: nothing is noted before it is told.
    async fn next(&mut self) -> Option<Event> {
        let told = self.told.clone();
        let is_new = |seen: &Seen<Value>| seen.figures.is_some() && seen.figures != told;
        let figures = self.picture.wait_for(is_new).await.ok()?.figures.clone()?;
        let event = Event::default().event(self.name).data(dated(&figures).to_string());
        self.told = Some(figures);
        Some(event)
    }
}

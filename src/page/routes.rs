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
            // One that will not change any more, such as that there is no shop, does not end the other.
            Some(event) = self.shop.next() => Some(event),
            Some(event) = self.pipeline.next() => Some(event),
            else => None,
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    /// A page with pictures that the test sets.
    struct Shown {
        address: SocketAddr,
        audience: Arc<Audience>,
        shop: watch::Sender<Seen<Value>>,
        pipeline: watch::Sender<Seen<Value>>,
    }

    impl Shown {
        async fn to(token: Option<&str>) -> Shown {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (shop, pipeline) = (watch::Sender::default(), watch::Sender::default());
            let audience = Audience::new();
            let pictures = Pictures {
                audience: Arc::clone(&audience),
                shop: shop.subscribe(),
                pipeline: pipeline.subscribe(),
                statements: Statements::default(),
            };
            let access = Access::new(address, token.map(str::to_owned)).unwrap();
            let router = router(Arc::new(pictures), access);
            tokio::spawn(async { axum::serve(listener, router).await });
            Shown { address, audience, shop, pipeline }
        }

        async fn ask(&self, path: &str, headers: &str) -> BufReader<TcpStream> {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
            let request = format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            BufReader::new(stream)
        }

        async fn get(&self, path: &str, headers: &str) -> String {
            let mut answer = String::new();
            self.ask(path, headers).await.read_to_string(&mut answer).await.unwrap();
            answer
        }
    }

    fn seen(figures: Value) -> Seen<Value> {
        Seen { figures: Some(Arc::new(figures)), trouble: None }
    }

    #[tokio::test]
    async fn the_page_and_its_files_come_with_what_makes_a_browser_careful() {
        let shown = Shown::to(None).await;
        let page = shown.get("/", "").await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/html"), "{page}");
        for path in ["/", "/assets/app.js", "/assets/none.js", "/api/page/sql", "/api/page/none"] {
            let answer = shown.get(path, "").await.to_lowercase();
            assert!(answer.contains("content-security-policy: default-src 'self';"), "{path}: {answer}");
            assert!(answer.contains("x-content-type-options: nosniff"), "{path}: {answer}");
            assert!(!answer.contains("access-control") && !answer.contains("unsafe-inline"), "{path}: {answer}");
        }
        assert!(shown.get("/assets/none.js", "").await.starts_with("HTTP/1.1 404"));
        assert!(shown.get("/assets/../mod.rs", "").await.starts_with("HTTP/1.1 404"));
        let unknown = shown.get("/api/page/none", "").await;
        assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("application/json"), "{unknown}");
        assert!(unknown.contains(r#"{"error":"there are /api/page/shop, /api/page/pipeline"#), "{unknown}");
    }

    #[tokio::test]
    async fn another_host_name_is_turned_away() {
        let shown = Shown::to(None).await;
        let answer = shown.get("/api/page/sql", "Host: evil.example\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(
            answer.ends_with("forbidden: this address answers to localhost, 127.0.0.1 and [::1] only\n"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn a_token_becomes_a_cookie_and_leaves_the_address() {
        let shown = Shown::to(Some(TOKEN)).await;
        for path in ["/", "/assets/app.js", "/api/page/shop", "/api/page/stream", "/api/page/sql", "/none"] {
            let answer = shown.get(path, "").await;
            assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("this page needs a token: open"), "{answer}");
        }
        let wrong = shown.get("/?token=0123456789abcdeX", "").await;
        assert!(wrong.starts_with("HTTP/1.1 401") && wrong.contains("this token is not the page's"), "{wrong}");
        assert!(!wrong.contains(TOKEN) && !wrong.to_lowercase().contains("set-cookie"), "{wrong}");

        let right = shown.get(&format!("/?token={TOKEN}"), "").await;
        assert!(right.starts_with("HTTP/1.1 303") && right.contains("location: /\r\n"), "{right}");
        let cookie = right.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let (pair, flags) = cookie.split_once("; ").unwrap();
        assert_eq!(flags, "Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(pair, format!("acequia_page_{}={TOKEN}", shown.address.port()));
        let known = shown.get("/", &format!("Cookie: other=1; {pair}\r\n")).await;
        assert!(known.starts_with("HTTP/1.1 200"), "{known}");
        assert!(shown.get("/", "Cookie: acequia_page_1=0123456789abcdef\r\n").await.starts_with("HTTP/1.1 401"));
        let bearer = shown.get("/api/page/sql", &format!("Authorization: Bearer {TOKEN}\r\n")).await;
        assert!(bearer.starts_with("HTTP/1.1 200"), "{bearer}");
    }

    #[tokio::test]
    async fn one_who_asks_once_waits_for_the_first_picture_and_hears_what_is_wrong() {
        let shown = Shown::to(None).await;
        let asking = shown.ask("/api/page/shop", "").await;
        shown.audience.arrival().await;
        shown.shop.send_replace(seen(json!({ "interval_ms": 1000 })));
        let mut answer = String::new();
        { asking }.read_to_string(&mut answer).await.unwrap();
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["interval_ms"], 1000);
        assert!(body["now"].as_str().unwrap().ends_with('Z'), "{body}");

        let trouble = super::super::part::Trouble { message: "no way".into(), since: Utc::now() };
        shown.pipeline.send_replace(Seen { figures: None, trouble: Some(trouble) });
        let answer = shown.get("/api/page/pipeline", "").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with(r#"{"error":"no way"}"#), "{answer}");
        // A folder that is not the shop's.
        shown.shop.send_replace(seen(Value::Null));
        assert!(shown.get("/api/page/shop", "").await.ends_with("\r\n\r\nnull"));
    }

    #[tokio::test]
    async fn a_folder_without_a_shop_still_tells_of_its_pipeline() {
        let mut shown = Shown::to(None).await;
        shown.shop.send_replace(seen(Value::Null));
        // It will not change any more.
        shown.shop = watch::Sender::default();
        let mut stream = shown.ask("/api/page/stream", "").await;
        assert_eq!(event(&mut stream).await, ("shop".to_owned(), Value::Null));
        for epoch in [1, 2] {
            shown.pipeline.send_replace(seen(json!({ "epoch": epoch })));
            let (name, data) = event(&mut stream).await;
            assert_eq!((name.as_str(), &data["epoch"]), ("pipeline", &json!(epoch)));
        }
    }

    /// The next event of a stream: its name and its data.
    async fn event(stream: &mut BufReader<TcpStream>) -> (String, Value) {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "the stream has ended");
            if let Some(found) = line.trim_end().strip_prefix("event: ") {
                found.clone_into(&mut name);
            } else if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return (name, serde_json::from_str(data).unwrap());
            }
        }
    }

    #[tokio::test]
    async fn a_stream_tells_both_pictures_and_only_what_is_new() {
        let shown = Shown::to(None).await;
        let mut stream = shown.ask("/api/page/stream", "").await;
        shown.audience.arrival().await;
        shown.shop.send_replace(seen(json!({ "figure": 1 })));
        let (name, data) = event(&mut stream).await;
        assert_eq!((name.as_str(), &data["figure"]), ("shop", &json!(1)));
        shown.pipeline.send_replace(seen(json!({ "epoch": 7 })));
        let (name, data) = event(&mut stream).await;
        assert_eq!((name.as_str(), &data["epoch"]), ("pipeline", &json!(7)));
        shown.shop.send_replace(seen(json!({ "figure": 1 })));
        shown.shop.send_replace(Seen::default());
        tokio::time::sleep(Duration::from_millis(50)).await;
        shown.shop.send_replace(seen(json!({ "figure": 2 })));
        let (_, data) = event(&mut stream).await;
        assert_eq!(data["figure"], 2);
        drop(stream);
        // Who has gone is noticed at the next event.
        let gone = async {
            for figure in 3.. {
                shown.shop.send_replace(seen(json!({ "figure": figure })));
                tokio::time::sleep(Duration::from_millis(20)).await;
                if shown.audience.seats() == 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    }
}

//! The live page: the shop's figures and the pipeline itself in a browser, on port 8501.
//!
//! Every figure is read from where the pipeline has put it: the newest windows from Redis ([`metrics`]), all else from
//! the warehouse ([`warehouse`]), the pipeline from the console's statistics ([`pipeline`]). Each is a [`part`] that is
//! looked at again and again on connections of its own, while somebody looks at the page ([`audience`]) and at no other
//! time; all browsers share what was seen. A part that is away is shown as such, and the others go on. [`routes`]
//! answers the requests of those who may see the page ([`access`]).

pub mod access;
mod assets;
mod audience;
mod dead_letters;
mod kafka;
mod lights;
mod metrics;
mod part;
mod pipeline;
mod routes;
mod shop;
mod statements;
mod warehouse;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::console::{BindError, Console, Listening, listen, listen_or_free};
use crate::dataflow::graph::Graph;
use crate::program::Program;
use access::Access;
use audience::Audience;
use dead_letters::DeadLetters;
use kafka::KafkaPart;
use part::{Part, Seen, watch_part};
use pipeline::PipelinePart;
use routes::Pictures;
use serde_json::Value;
use shop::{Kafka, Places, ShopPart, ShopTables, Views};
use statements::Statements;
use warehouse::Warehouse;
use warehouse::sessions::SessionsPart;
use warehouse::tally::TallyPart;
use warehouse::windows::WindowsPart;

/// Where the page is served when nothing else is said: where the shop's people have always found it.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8501));

const PAGE: Listening = Listening { name: "page", choose: "--page", leave: "--no-page" };

/// Listens on `asked`, or on [`DEFAULT_ADDRESS`] and, if that is taken, on any free port of loopback.
///
/// # Errors
/// When the address cannot be had.
pub async fn bind(asked: Option<SocketAddr>) -> Result<TcpListener, BindError> {
    match asked {
        Some(address) => listen(PAGE, address).await,
        None => listen_or_free(PAGE, DEFAULT_ADDRESS).await,
    }
}

/// A page, ready to be served.
pub struct Page {
    pictures: Arc<Pictures>,
    /// What looks at the parts.
    tasks: JoinSet<()>,
}

impl Page {
    /// The page of a program that was read from `folder` and runs as `graph`, counting in the console's statistics;
    /// embedded databases are in `data_dir`. Must be called within a runtime; asks nothing before somebody looks.
    pub fn new(program: &Program, folder: &Path, graph: &Graph, console: Arc<Console>, data_dir: &Path) -> Page {
        let statements = Statements::of(program, folder);
        let mut watching = Watching { audience: Audience::new(), tasks: JoinSet::new() };
        let pipeline = PipelinePart::new(Arc::clone(&console), graph, &statements, DeadLetters::of(program));
        let pipeline = watching.watch(Some(pipeline));
        let shop = match ShopTables::of(program, data_dir) {
            // A program that is not the shop's.
            None => watch::Sender::new(Seen { figures: Some(Arc::new(Value::Null)), trouble: None }).subscribe(),
            Some(tables) => {
                let (views, places) = watching.tables(tables, program);
                watching.watch(Some(ShopPart::new(views, places, program, graph, console)))
            }
        };
        let Watching { audience, tasks } = watching;
        Page { pictures: Arc::new(Pictures { audience, shop, pipeline, statements }), tasks }
    }

    /// Answers requests until dropped.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(self, listener: TcpListener, access: Access) -> std::io::Result<()> {
        let Page { pictures, tasks } = self;
        let served = axum::serve(listener, routes::router(pictures, access)).await;
        drop(tasks);
        served
    }
}

/// The tasks that look, for one audience.
struct Watching {
    audience: Arc<Audience>,
    tasks: JoinSet<()>,
}

impl Watching {
    /// Has a part looked at. One that the folder does not have is never seen.
    fn watch<P: Part>(&mut self, part: Option<P>) -> watch::Receiver<Seen<P::Figures>> {
        let (sender, receiver) = watch::channel(Seen::default());
        if let Some(part) = part {
            self.tasks.spawn(watch_part(part, Arc::clone(&self.audience), sender));
        }
        receiver
    }

    fn tables(&mut self, tables: ShopTables, program: &Program) -> (Views, Places) {
        let ShopTables { metrics, events, sessions } = tables;
        let kafka = KafkaPart::of(program);
        let places = Places {
            metrics: metrics.as_ref().and_then(metrics::Metrics::place),
            events: events.as_ref().map(|table| table.place.clone()),
            sessions: sessions.as_ref().map(|table| table.place.clone()),
            kafka: Kafka::of(program, kafka.as_ref()),
        };
        let (shown, shows) = watch::channel(None);
        let windows = events.clone().map(|table| WindowsPart::new(Warehouse::new(table), shows));
        let views = Views {
            metrics: self.watch(metrics),
            windows: self.watch(windows),
            tally: self.watch(events.map(|table| TallyPart::new(Warehouse::new(table)))),
            sessions: self.watch(sessions.map(|table| SessionsPart(Warehouse::new(table)))),
            kafka: self.watch(kafka),
            shown,
        };
        (views, places)
    }
}

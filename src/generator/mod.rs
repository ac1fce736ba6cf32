//! The shop at work without people: events of [`crate::shop`] into databases or into Kafka, at a pace.
//!
//! [`feed`] is what `acequia generate` runs, and `run` and `demo` beside a pipeline. In databases it makes tables and
//! base data that are missing and goes on behind what is there; the events themselves come from the seed alone. The
//! clock, which `shop` knows nothing of, comes in here: an event is written when its time has come, and everything that
//! lies in the past at once.

mod base_data;
mod destinations;
mod figures;
mod postgres;
mod rows;
mod sqlite;
mod topics;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

pub use destinations::{DatabasePlace, Destinations};
pub use figures::{Figures, Written};

use self::destinations::{Writer, open_databases};
use self::topics::Topics;
use crate::connectors::ConnectorError;
use crate::shop::{Catalogue, Event, ShopEvents, ShopOptions};

/// Most events of a group: a database writes so many in a fraction of a second.
const GROUP: usize = 2000;

/// How often it is looked whether events are due: ten groups a second look steady and cost nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a group that was begun may take after the stop signal.
const GRACE: Duration = Duration::from_secs(5);

/// What is written, how fast, and when it ends.
#[derive(Clone, Debug)]
pub struct GeneratorOptions {
    /// What the events look like. Its `start` is not looked at.
    pub shop: ShopOptions,
    /// When events begin and when each is written.
    pub pace: Pace,
    /// When there are enough.
    pub end: End,
    /// Counts what has been written.
    pub figures: Arc<Figures>,
}

/// When events happen, and when they are written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// They begin now, and each is written when its time has come.
    Live,
    /// They begin in the past, or in the future. What lies in the past is written as fast as the destination takes it;
    /// then it goes on as [`Pace::Live`].
    From {
        /// When the first one happens, in milliseconds since 1970.
        start: i64,
        /// How many happen in a second of the past; as many as live if it is not said.
        past_events_per_second: Option<f64>,
    },
    /// As fast as the destination takes them; each happens when it is written.
    Unbound,
}

/// When there are enough events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Only the stop signal ends them.
    Never,
    /// After so many.
    Events(u64),
    /// When so much time lies between the first and the next one.
    Duration(Duration),
}

/// Whether a destination must have everything that was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flush {
    Now,
    Later,
}

/// Writes events until there are enough or `stop` is cancelled; groups that were begun are written to their end.
/// Servers that are away are waited for, with log lines.
///
/// # Errors
/// When a destination refuses us or a row; [`ConnectorError::Stopped`] when `stop` was cancelled while events waited for
/// a server.
pub async fn feed(
    destinations: Destinations,
    options: GeneratorOptions,
    stop: CancellationToken,
) -> Result<(), ConnectorError> {
    let give_up = CancellationToken::new();
    let feeding = feed_until(destinations, options, &stop, &give_up);
    let giving_up = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
        give_up.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = feeding => outcome,
        () = giving_up => Ok(()),
    }
}

async fn feed_until(
    destinations: Destinations,
    mut options: GeneratorOptions,
    stop: &CancellationToken,
    give_up: &CancellationToken,
) -> Result<(), ConnectorError> {
    match destinations {
        Destinations::Topics { bootstrap_servers } => {
            let mut generator = Generator::new(Catalogue::new(options.shop.seed), options);
            let topics = Topics::of_servers(&bootstrap_servers, &generator.events, give_up)?;
            generator.run(Writer::Topics(topics), stop).await
        }
        Destinations::EmbeddedTopics { data_dir } => {
            let mut generator = Generator::new(Catalogue::new(options.shop.seed), options);
            let topics = Topics::embedded(&data_dir, &generator.events, give_up).await?;
            generator.run(Writer::Topics(topics), stop).await
        }
        Destinations::Databases { shop, crm } => {
            if crm.is_none() {
                options.shop.interaction_share = 0.0;
            }
            let (catalogue, writer) = open_databases(shop, crm, options.shop.seed, give_up).await?;
            Generator::new(catalogue, options).run(writer, stop).await
        }
    }
}

struct Generator {
    events: ShopEvents,
    pace: Pace,
    end: End,
    figures: Arc<Figures>,
    /// When the first event happens, in milliseconds since 1970.
    start: i64,
    taken: u64,
    live_events_per_second: f64,
    is_live: bool,
}

impl Generator {
    /// Whoever begins now begins with this call.
    fn new(catalogue: Catalogue, options: GeneratorOptions) -> Generator {
        let GeneratorOptions { mut shop, pace, end, figures } = options;
        let live_events_per_second = shop.events_per_second;
        shop.start = now();
        if let Pace::From { start, past_events_per_second } = pace {
            shop.start = start;
            shop.events_per_second = past_events_per_second.unwrap_or(live_events_per_second);
        }
        let start = shop.start;
        let events = ShopEvents::over(catalogue, shop);
        Generator { events, pace, end, figures, start, taken: 0, live_events_per_second, is_live: false }
    }

    async fn run(&mut self, mut writer: Writer, stop: &CancellationToken) -> Result<(), ConnectorError> {
        let mut group = Vec::with_capacity(GROUP);
        while !stop.is_cancelled() && !self.is_over(now()) {
            group.clear();
            self.take_due(now(), &mut group);
            // Who has more to write does not wait for what is on its way.
            let goes_on = self.pace == Pace::Unbound || group.len() == GROUP;
            if !group.is_empty() {
                writer.write(&group, &self.events, if goes_on { Flush::Later } else { Flush::Now }).await?;
                self.figures.add(&group);
            }
            if !goes_on {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        writer.write(&[], &self.events, Flush::Now).await
    }

    /// Whether there are enough events.
    fn is_over(&self, now: i64) -> bool {
        let next = if self.pace == Pace::Unbound { now } else { self.events.next_due() };
        match self.end {
            End::Never => false,
            End::Events(count) => self.taken >= count,
            End::Duration(duration) => next - self.start >= duration.as_millis() as i64,
        }
    }

    /// Takes the events whose time has come, up to a group.
    fn take_due(&mut self, now: i64, group: &mut Vec<(Event, i64)>) {
        while group.len() < GROUP && !self.is_over(now) {
            if self.pace == Pace::Unbound {
                group.push((self.events.happen(), now));
            } else {
                if self.events.next_due() > now {
                    self.go_live();
                    return;
                }
                group.push(self.events.advance());
            }
            self.taken += 1;
        }
    }

    /// The past is over.
    fn go_live(&mut self) {
        if !std::mem::replace(&mut self.is_live, true) {
            self.events.set_pace(self.live_events_per_second);
        }
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or_default()
}

//! The lights: one for each part that the folder has, with a sentence on how it is.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::part::{Seen, Trouble};
use super::pipeline;
use crate::console::{Console, Phase};

/// Records that wait while none is read for so long are worth a look.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// A pipeline makes a checkpoint every second or so.
const OLD_CHECKPOINT: Duration = Duration::from_secs(30);

/// How a part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ok,
    Warn,
    Down,
    Starting,
}

/// A part's light.
pub struct Light {
    part: &'static str,
    state: State,
    detail: String,
}

impl Light {
    fn new(part: &'static str, state: State, detail: impl Into<String>) -> Light {
        Light { part, state, detail: detail.into() }
    }

    /// As the page gets it.
    pub fn shown(&self) -> Value {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Down => "down",
            State::Starting => "starting",
        };
        json!({ "part": self.part, "state": state, "detail": self.detail })
    }
}

/// What is known of a part of which nothing is shown but that it answers.
pub struct Known<'a> {
    /// Whether it was asked yet.
    pub asked: bool,
    /// Why it does not answer.
    pub trouble: Option<&'a Trouble>,
}

impl<'a, F> From<&'a Seen<F>> for Known<'a> {
    fn from(seen: &'a Seen<F>) -> Known<'a> {
        Known { asked: seen.is_known(), trouble: seen.trouble.as_ref() }
    }
}

/// The light of a server, which stands at `place`; `starting` while its tables may still have to be made.
pub fn server(part: &'static str, place: &str, known: &Known<'_>, starting: bool) -> Light {
    match known {
        Known { trouble: Some(trouble), .. } if starting => Light::new(part, State::Starting, &*trouble.message),
        Known { trouble: Some(Trouble { message, since }), .. } => {
            Light::new(part, State::Down, format!("{message} (since {} UTC)", since.format("%H:%M:%S")))
        }
        Known { asked: false, .. } => Light::new(part, State::Starting, format!("{place} has not answered yet")),
        _ => Light::new(part, State::Ok, format!("{place} answers")),
    }
}

/// The light of the brokers.
#[derive(Default)]
pub struct KafkaLight {
    /// Records read, and since when it is that many.
    read: Option<(u64, Instant)>,
}

impl KafkaLight {
    /// Of brokers at `place`; `known` is `None` when they are embedded. `lag` records wait of those that `read` were
    /// read.
    pub fn light(&mut self, place: &str, known: Option<&Known<'_>>, lag: u64, read: u64) -> Light {
        let since = match self.read {
            Some((before, since)) if before == read => since,
            _ => Instant::now(),
        };
        self.read = Some((read, since));
        let mut light = match known {
            Some(known) => server("kafka", place, known, false),
            None => Light::new("kafka", State::Ok, format!("{place} answers")),
        };
        if light.state == State::Ok && lag > 0 {
            light.detail = format!("{place}: {lag} records wait to be read");
            if since.elapsed() >= STUCK_AFTER {
                light.state = State::Warn;
                light.detail = format!("{} and none was for {} s", light.detail, since.elapsed().as_secs());
            }
        }
        light
    }
}

/// The light of the pipeline itself.
pub fn pipeline(console: &Console) -> Light {
    let part = "pipeline";
    let checkpoints = &console.statistics().checkpoints;
    match console.phase() {
        Phase::Starting => Light::new(part, State::Starting, pipeline::phase(console)),
        Phase::Draining => Light::new(part, State::Warn, "stopping: what was read is worked off"),
        Phase::Running => match (console.trouble(), checkpoints.age()) {
            (Some(trouble), _) => Light::new(part, State::Warn, trouble),
            (None, Some(age)) if age > OLD_CHECKPOINT && checkpoints.append.time().is_some() => {
                Light::new(part, State::Warn, format!("the last checkpoint is {} s old", age.as_secs()))
            }
            (None, _) => Light::new(part, State::Ok, "running"),
        },
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};

    use super::*;

    fn shown(light: &Light) -> (&str, State, &str) {
        (light.part, light.state, &light.detail)
    }

    #[test]
    fn a_server_says_since_when_it_does_not_answer() {
        let place = "Redis at localhost:6379";
        let since = Utc.with_ymd_and_hms(2026, 11, 29, 12, 0, 1).unwrap();
        let trouble = Trouble { message: format!("{place}: Connection refused"), since };
        let down = Known { asked: true, trouble: Some(&trouble) };
        assert_eq!(
            shown(&server("redis", place, &down, false)),
            ("redis", State::Down, "Redis at localhost:6379: Connection refused (since 12:00:01 UTC)")
        );
        assert_eq!(server("redis", place, &down, true).state, State::Starting);
        let unasked = server("redis", place, &Known { asked: false, trouble: None }, false);
        assert_eq!(shown(&unasked), ("redis", State::Starting, "Redis at localhost:6379 has not answered yet"));
        let answers = server("redis", place, &Known { asked: true, trouble: None }, false);
        assert_eq!(
            answers.shown(),
            json!({"part": "redis", "state": "ok", "detail": "Redis at localhost:6379 answers"})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_nobody_reads_are_worth_a_look() {
        let place = "embedded Kafka";
        let mut kafka = KafkaLight::default();
        assert_eq!(shown(&kafka.light(place, None, 0, 5)), ("kafka", State::Ok, "embedded Kafka answers"));
        tokio::time::advance(STUCK_AFTER).await;
        let moving = kafka.light(place, None, 7, 6);
        assert_eq!(shown(&moving), ("kafka", State::Ok, "embedded Kafka: 7 records wait to be read"));
        tokio::time::advance(STUCK_AFTER).await;
        let stuck = kafka.light(place, None, 7, 6);
        assert_eq!(
            shown(&stuck),
            ("kafka", State::Warn, "embedded Kafka: 7 records wait to be read and none was for 10 s")
        );
    }
}

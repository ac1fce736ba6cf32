//! What all parts of a simulated world share: one source of chance, one trace, one verdict.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::knobs::Knobs;

/// A handle to the world.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    knobs: Knobs,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    random: ChaCha8Rng,
    trace: Trace,
    violation: Option<String>,
    /// No fault happens any more.
    calm: bool,
    /// Checkpoints are damaged.
    rotten: bool,
}

/// What happened, line by line.
#[derive(Default)]
pub struct Trace {
    pub lines: Vec<String>,
    hasher: std::collections::hash_map::DefaultHasher,
}

impl Trace {
    /// Two runs of a seed must agree in this.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

impl World {
    pub fn new(seed: u64, knobs: Knobs) -> World {
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            trace: Trace::default(),
            violation: None,
            calm: false,
            rotten: false,
        };
        World(Arc::new(Shared { knobs, began: Instant::now(), state: Mutex::new(state) }))
    }

    pub fn knobs(&self) -> &Knobs {
        &self.0.knobs
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        self.0.state.lock().random.random_range(0..limit.max(1))
    }

    /// True once in a while.
    pub fn chance(&self, probability: f64) -> bool {
        self.0.state.lock().random.random_bool(probability)
    }

    /// Whether a fault of this probability strikes now.
    pub fn strikes(&self, probability: f64) -> bool {
        let mut state = self.0.state.lock();
        !state.calm && state.random.random_bool(probability)
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        self.0.state.lock().calm = true;
    }

    /// From now on a run may find its checkpoints damaged.
    pub fn rots(&self) {
        self.0.state.lock().rotten = true;
    }

    pub fn is_rotten(&self) -> bool {
        self.0.state.lock().rotten
    }

    pub fn is_calm(&self) -> bool {
        self.0.state.lock().calm
    }

    /// The time that a call takes.
    pub async fn latency(&self) {
        let most = self.0.knobs.latency;
        match self.below(4) {
            0 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(self.below(most) + 1)).await,
        }
    }

    /// Adds to the trace.
    pub fn note(&self, line: fmt::Arguments<'_>) {
        let at = self.0.began.elapsed().as_millis();
        let line = format!("{at:>7} ms  {line}");
        let mut state = self.0.state.lock();
        line.hash(&mut state.trace.hasher);
        state.trace.lines.push(line);
    }

    /// Something is there that must not be. The first one counts.
    pub fn violate(&self, what: String) {
        self.note(format_args!("VIOLATION {what}"));
        self.0.state.lock().violation.get_or_insert(what);
    }

    pub fn violation(&self) -> Option<String> {
        self.0.state.lock().violation.clone()
    }

    pub fn take_trace(&self) -> Trace {
        std::mem::take(&mut self.0.state.lock().trace)
    }
}

//! What differs from seed to seed: sizes, speeds, and which faults there are how often.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::programs::Kind;

/// Drawn once a seed. Each fault is off in many seeds, so that others are seen alone.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub program: Kind,
    pub splits: usize,
    /// Records of a split, at most.
    pub records: usize,
    /// The input ends; otherwise it is caught up with, and idle.
    pub ends: bool,
    /// Milliseconds between events of a source, at most.
    pub pace: u64,
    /// Milliseconds that a call takes, at most.
    pub latency: u64,
    /// How many times the run is broken off.
    pub troubles: u64,
    /// The store is a local disk, with a lock; otherwise an object store, with none.
    pub disk: bool,
    pub keep: usize,
    pub store_errors: f64,
    pub store_lost_answers: f64,
    pub store_outages: f64,
    /// A request arrives long after its caller has given it up.
    pub store_stragglers: f64,
    pub sink_errors: f64,
    pub sink_lost_answers: f64,
    pub sink_outages: f64,
    /// A server restarts and has forgotten what it had not synced.
    pub sink_restarts: f64,
    /// The machine loses its power, not only the process its life.
    pub power_loss: f64,
    /// A checkpoint is damaged, so that the run may have to go on from an older one, or to stop.
    pub rot: f64,
    /// Files of changes that the log bears before it compacts.
    pub most_files: u64,
    /// A run is stopped for long, and goes on when another has begun.
    pub freezes: f64,
}

impl Knobs {
    pub fn of(seed: u64) -> Knobs {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5EED);
        let random = &mut random;
        fn often(random: &mut ChaCha8Rng, on: f64, most: f64) -> f64 {
            if random.random_bool(on) { random.random_range(0.0..most) } else { 0.0 }
        }
        let program = *Kind::ALL.choose(random).unwrap_or(&Kind::Tumbles);
        Knobs {
            program,
            splits: random.random_range(1..=3),
            records: random.random_range(4..=18),
            ends: program == Kind::Totals || random.random_bool(0.6),
            pace: *[2, 20, 60].choose(random).unwrap_or(&20),
            latency: *[1, 5, 30].choose(random).unwrap_or(&5),
            troubles: random.random_range(0..=4),
            disk: random.random_bool(0.5),
            keep: random.random_range(1..=4),
            store_errors: often(random, 0.3, 0.15),
            store_lost_answers: often(random, 0.3, 0.1),
            store_outages: often(random, 0.2, 0.02),
            store_stragglers: often(random, 0.3, 0.1),
            sink_errors: often(random, 0.4, 0.3),
            sink_lost_answers: often(random, 0.5, 0.3),
            sink_outages: often(random, 0.2, 0.05),
            sink_restarts: often(random, 0.5, 0.3),
            power_loss: often(random, 0.6, 1.0),
            rot: if random.random_bool(0.08) { 0.6 } else { 0.0 },
            most_files: random.random_range(1..8),
            freezes: often(random, 0.5, 0.7),
        }
    }
}

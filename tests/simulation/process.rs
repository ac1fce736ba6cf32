//! A simulated process: one run of the pipeline, which can die or stand still at any of its calls to the outside.
//!
//! Every source, sink and store that a run is given belongs to its process and passes [`Process::step`] on the way in
//! and on the way out. A dead process never gets further, so whatever it was at stays as it was; one that stands still
//! goes on later, when another run may have taken over.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub struct Process {
    pub id: u64,
    state: Mutex<State>,
    died: Notify,
}

#[derive(Default)]
struct State {
    dead: bool,
    stands_still_until: Option<Instant>,
    /// Dies when so many steps have been made.
    steps_left: Option<u64>,
    /// Which run of the pipeline it is, once it knows.
    incarnation: u64,
    /// How many destinations it has opened, and so fenced off from older runs.
    opened: usize,
}

/// Whether a process may go on.
enum Halt {
    No,
    Until(Instant),
    ForEver,
}

impl Process {
    pub fn new(id: u64, steps_left: Option<u64>) -> Arc<Process> {
        let state = State { steps_left, ..State::default() };
        Arc::new(Process { id, state: Mutex::new(state), died: Notify::new() })
    }

    /// Goes on if the process lives and does not stand still.
    pub async fn step(&self) {
        self.count();
        loop {
            match self.halt() {
                Halt::No => return,
                Halt::Until(until) => sleep_until(until).await,
                Halt::ForEver => std::future::pending().await,
            }
        }
    }

    fn count(&self) {
        let mut state = self.state.lock();
        if let Some(left) = &mut state.steps_left {
            *left = left.saturating_sub(1);
            if *left == 0 && !state.dead {
                state.dead = true;
                self.died.notify_one();
            }
        }
    }

    fn halt(&self) -> Halt {
        let state = self.state.lock();
        match state.stands_still_until.filter(|until| *until > Instant::now()) {
            _ if state.dead => Halt::ForEver,
            Some(until) => Halt::Until(until),
            None => Halt::No,
        }
    }

    pub fn set_incarnation(&self, incarnation: u64) {
        self.state.lock().incarnation = incarnation;
    }

    pub fn incarnation(&self) -> u64 {
        self.state.lock().incarnation
    }

    /// It has opened one more destination.
    pub fn has_opened(&self) {
        self.state.lock().opened += 1;
    }

    /// How many destinations it has opened.
    pub fn opened(&self) -> usize {
        self.state.lock().opened
    }

    /// Nothing of it gets further.
    pub fn kill(&self) {
        self.state.lock().dead = true;
    }

    pub fn stand_still(&self, until: Instant) {
        self.state.lock().stands_still_until = Some(until);
    }

    /// Returns when it has died by its own steps.
    pub async fn died(&self) {
        self.died.notified().await;
    }
}

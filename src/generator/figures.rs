//! What has been written so far, for those who watch.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::shop::Event;

/// Counters that grow while events are written.
#[derive(Default, Debug)]
pub struct Figures {
    events: AtomicU64,
    transactions: AtomicU64,
    items: AtomicU64,
    cents: AtomicU64,
    interactions: AtomicU64,
    event_time: AtomicI64,
}

/// [`Figures`] at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    /// All events.
    pub events: u64,
    /// Of them transactions.
    pub transactions: u64,
    /// The transactions' items.
    pub items: u64,
    /// The transactions' sum, in cents.
    pub cents: u64,
    /// Of the events interactions of the CRM.
    pub interactions: u64,
    /// When the last event happened, in milliseconds since 1970.
    pub event_time: i64,
}

impl Written {
    /// Of the events what visitors did.
    pub fn behaviour(&self) -> u64 {
        self.events - self.transactions - self.interactions
    }
}

impl Figures {
    /// Adds events that have been written.
    pub(super) fn add(&self, events: &[(Event, i64)]) {
        let mut group = Written::default();
        for (event, at) in events {
            group.event_time = *at;
            match event {
                Event::Transaction(transaction) => {
                    group.transactions += 1;
                    group.items += transaction.items.len() as u64;
                    group.cents += transaction.total();
                }
                Event::Interaction(_) => group.interactions += 1,
                Event::Behaviour(_) | Event::Search(_) | Event::Cart(_) => {}
            }
        }
        let order = Ordering::Relaxed;
        self.transactions.fetch_add(group.transactions, order);
        self.items.fetch_add(group.items, order);
        self.cents.fetch_add(group.cents, order);
        self.interactions.fetch_add(group.interactions, order);
        self.event_time.store(group.event_time, order);
        // Last, and read first, so that the parts are never less than the whole.
        self.events.fetch_add(events.len() as u64, Ordering::Release);
    }

    /// As they are now.
    pub fn now(&self) -> Written {
        let events = self.events.load(Ordering::Acquire);
        let order = Ordering::Relaxed;
        let transactions = self.transactions.load(order).min(events);
        Written {
            events,
            transactions,
            items: self.items.load(order),
            cents: self.cents.load(order),
            interactions: self.interactions.load(order).min(events - transactions),
            event_time: self.event_time.load(order),
        }
    }
}

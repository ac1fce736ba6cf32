//! The epoch log: what a run must know to go on as if it had never stopped, on a disk or in an object store.
//!
//! At a barrier the dataflow hands over an [`log::EpochRecord`]: where the sources stand, what has changed in each
//! operator, and the rows that sinks have not delivered yet (the outbox). [`log::CheckpointLog`] writes them to a
//! [`store::Store`] and publishes the epoch's manifest last: from then on the epoch is durable, and only then is it
//! delivered. At a start the newest whole manifest is loaded, its state is matched with the operators of today's
//! queries ([`takeover`]), and what the outbox still holds is delivered again as it was.

mod compaction;
mod departure;
mod error;
mod files;
pub mod inspection;
pub mod ledger;
mod local_store;
pub mod log;
pub mod manifest;
mod mirror;
mod object_store;
mod opening;
mod outbox;
mod patience;
mod sealed;
mod sections;
pub mod state;
pub mod store;
pub mod takeover;

#[cfg(test)]
mod tests;

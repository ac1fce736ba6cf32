//! Faults on real processes: the binary, Kafka, PostgreSQL and Redis are killed, stopped, cut off and filled up, and
//! afterwards every destination must hold exactly what PostgreSQL works out from the list of what was written.
//!
//! `scripts/chaos` runs the campaign of kills for as long as one likes.

#[path = "../servers/kafka.rs"]
mod kafka;
#[path = "../servers/pipeline.rs"]
mod pipeline;
#[path = "../servers/proxy.rs"]
mod proxy;
#[path = "../servers/server.rs"]
mod server;

mod chaos;
mod crash_points;
mod damage;
mod destinations;
mod disk;
mod embedded;
mod instances;
mod ledger;
mod network;
mod outages;
mod trial;
mod undisturbed;
mod verdict;

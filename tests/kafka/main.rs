//! The Kafka connector on a real Apache Kafka, which `scripts/kafka.sh` fetches and starts. No engine: these tests drive
//! sources and sinks by hand.

#[path = "../servers/kafka.rs"]
mod cluster;
mod delivery;
mod embedded;
mod positions;
mod reach;
mod sink;
mod source;
mod table;
mod throughput;

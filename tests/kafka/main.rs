//! The Kafka connector on a real Apache Kafka, which `scripts/kafka.sh` fetches and starts. Most of these tests drive
//! sources and sinks by hand, without an engine.

#[path = "../servers/kafka.rs"]
mod cluster;
mod delivery;
mod embedded;
#[path = "../servers/pipeline.rs"]
mod pipeline;
mod positions;
mod reach;
mod silent;
mod sink;
mod source;
mod starts;
mod table;
mod throughput;

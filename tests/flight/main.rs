//! The history over Flight SQL: by the Rust client, by ADBC and by JDBC, against the binary.

mod access;
mod cancelling;
mod certificates;
mod drivers;
mod metadata;
mod running;
mod serving;
mod statements;

#[path = "../servers/pipeline.rs"]
mod pipeline;

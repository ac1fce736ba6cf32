//! Live tables: history and what is not in it yet are together the state at the end of an epoch.

mod history;
#[path = "../restart/parts.rs"]
mod parts;
#[path = "../servers/pipeline.rs"]
mod pipeline;
mod prefix;
mod running;

//! Delta tables as the binary writes them, read by those who do not know Acequia: while it writes, after what the upkeep
//! does, after kill -9 at every point of the work. `scripts/python.sh` installs the readers.

#[path = "../servers/pipeline.rs"]
mod pipeline;

mod alongside;
mod kills;
mod numbers;
mod others;
mod planted;
mod types;

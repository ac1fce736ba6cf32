//! JSON, one object a record.

mod cursor;
mod database;
mod decode;
mod encode;
mod keys;
#[cfg(test)]
mod tests;

pub(crate) use decode::{JsonDecoder, MAX_RECORD_BYTES, too_large};
pub(crate) use encode::{JsonEncoder, holds};
pub(crate) use keys::Keys;

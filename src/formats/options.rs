//! The options that describe a format (`format = 'json'` and those beside it), and the decoder or encoder they ask for.

use arrow::datatypes::SchemaRef;

use super::{Decoder, Encoder, FormatError};
use crate::catalog::TableDefinition;
use crate::catalog::options::Options;

/// How records are read.
#[derive(Clone, PartialEq, Debug)]
pub enum DecodeOptions {
    /// One JSON object a record.
    Json,
}

impl DecodeOptions {
    /// Takes the format's options of a table that is read. Without `format`, records are JSON.
    pub fn take(_table: &TableDefinition, _options: &mut Options) -> DecodeOptions {
        DecodeOptions::Json
    }

    /// A decoder for the columns of `schema`, a subset of the table's physical columns in its order.
    ///
    /// # Errors
    /// When a column's type has no place in the format.
    pub fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>, FormatError> {
        let _ = schema;
        unreachable!()
    }
}

/// How rows are written.
#[derive(Clone, PartialEq, Debug)]
pub enum EncodeOptions {
    /// One JSON object a row.
    Json,
}

impl EncodeOptions {
    /// Takes the format's options of a table that is written. Without `format`, rows are JSON.
    pub fn take(_table: &TableDefinition, _options: &mut Options) -> EncodeOptions {
        EncodeOptions::Json
    }

    /// An encoder for batches of `schema`.
    ///
    /// # Errors
    /// When a column's type has no place in the format.
    pub fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>, FormatError> {
        let _ = schema;
        unreachable!()
    }
}

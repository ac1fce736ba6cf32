//! Records as they are: the whole record is the value of one column of text or bytes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BinaryViewBuilder, LargeBinaryBuilder, LargeStringBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, StringViewBuilder,
};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::cells::{self, Cells};
use super::trouble::type_name;
use super::{BadReason, BadRecord, Decoded, Decoder, EncodedRows, Encoder, FormatError, RawRecords};

/// Whether a column of this type holds text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether a column of this type holds bytes.
pub(crate) fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Decodes `raw_string` (records must be UTF-8) and `raw_bytes`. An empty record is an empty value.
pub(crate) struct RawDecoder {
    schema: SchemaRef,
}

impl RawDecoder {
    /// For a schema of one column, or none if the plan needs no more than the number of records.
    ///
    /// # Errors
    /// When the column is not of the format's type, or there are more.
    pub(crate) fn new(format: &'static str, schema: SchemaRef) -> Result<RawDecoder, FormatError> {
        if !schema.fields().is_empty() {
            check(format, &schema)?;
        }
        Ok(RawDecoder { schema })
    }
}

impl Decoder for RawDecoder {
    fn decode(&mut self, records: &RawRecords) -> Result<Decoded, FormatError> {
        let mut bad = vec![];
        let values = (0..records.len()).map(|row| records.value(row));
        macro_rules! text {
            ($builder:expr) => {{
                let mut builder = $builder;
                for (row, value) in values.enumerate() {
                    match std::str::from_utf8(value) {
                        Ok(text) => builder.append_value(text),
                        Err(error) => bad.push(BadRecord {
                            row,
                            reason: BadReason::Malformed,
                            message: format!("the record is not UTF-8 (byte {})", error.valid_up_to()),
                        }),
                    }
                }
                Some(Arc::new(builder.finish()) as ArrayRef)
            }};
        }
        macro_rules! bytes {
            ($builder:expr) => {{
                let mut builder = $builder;
                values.for_each(|value| builder.append_value(value));
                Some(Arc::new(builder.finish()) as ArrayRef)
            }};
        }
        let (rows, size) = (records.len(), records.bytes.len());
        let column = match self.schema.fields().first().map(|field| field.data_type()) {
            None => None,
            Some(DataType::Utf8) => text!(StringBuilder::with_capacity(rows, size)),
            Some(DataType::LargeUtf8) => text!(LargeStringBuilder::with_capacity(rows, size)),
            Some(DataType::Utf8View) => text!(StringViewBuilder::with_capacity(rows)),
            Some(DataType::Binary) => bytes!(BinaryBuilder::with_capacity(rows, size)),
            Some(DataType::LargeBinary) => bytes!(LargeBinaryBuilder::with_capacity(rows, size)),
            Some(_) => bytes!(BinaryViewBuilder::with_capacity(rows)),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows - bad.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), column.into_iter().collect(), &options);
        let batch = batch.map_err(|source| FormatError::Arrow { context: "decoding raw records".into(), source })?;
        Ok(Decoded { batch, bad })
    }
}

/// Encodes one column of text or bytes. A null is an empty record.
pub(crate) struct RawEncoder {
    format: &'static str,
}

impl RawEncoder {
    /// # Errors
    /// When the schema is not one column of the format's type.
    pub(crate) fn new(format: &'static str, schema: &Schema) -> Result<RawEncoder, FormatError> {
        check(format, schema)?;
        Ok(RawEncoder { format })
    }
}

impl Encoder for RawEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<(), FormatError> {
        check(self.format, batch.schema_ref())?;
        let column = cells::without_dictionary(batch.column(0))?;
        let Some(cells) = Cells::of(&column) else { return check(self.format, batch.schema_ref()) };
        out.all_or_nothing(|out| {
            for row in 0..column.len() {
                let start = out.bytes.len();
                if !cells.is_null(row) {
                    cells.write(row, &mut out.bytes);
                }
                out.push_span(start)?;
            }
            Ok(())
        })
    }
}

fn check(format: &'static str, schema: &Schema) -> Result<(), FormatError> {
    let fits = |data_type: &DataType| if format == "raw_string" { is_text(data_type) } else { is_bytes(data_type) };
    let wanted = if format == "raw_string" { "TEXT" } else { "BYTEA" };
    match schema.fields().as_ref() {
        [field] if fits(field.data_type()) => Ok(()),
        fields => {
            let wrong = fields.iter().find(|field| !fits(field.data_type())).or(fields.last());
            Err(FormatError::UnsupportedType {
                format,
                column: wrong.map(|field| field.name().clone()).unwrap_or_default(),
                data_type: wrong.map(|field| type_name(field.data_type())).unwrap_or_default(),
                hint: format!(": it takes one column of type {wanted}, and there are {}", fields.len()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Field;

    use super::*;
    use crate::formats::{DecodeOptions, EncodeOptions, SplitIndex};

    fn records(values: &[&[u8]]) -> RawRecords {
        let mut records = RawRecords::default();
        for (offset, value) in values.iter().enumerate() {
            records.push(SplitIndex(0), offset as i64, value);
        }
        records
    }

    fn schema(data_type: DataType) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("line", data_type, true)]))
    }

    #[test]
    fn text_and_bytes_come_back() -> Result<(), FormatError> {
        let lines: [&[u8]; 3] = [b"one", b"", "drei \u{1f600} and more than twelve bytes".as_bytes()];
        for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
            let decoded = DecodeOptions::RawString.decoder(schema(data_type.clone()))?.decode(&records(&lines))?;
            let mut out = EncodedRows::default();
            EncodeOptions::RawString.encoder(schema(data_type))?.encode(&decoded.batch, &mut out)?;
            assert_eq!(out.iter().collect::<Vec<_>>(), lines);
        }
        let lines: [&[u8]; 2] = [&[0xff, 0], b"x"];
        for data_type in [DataType::Binary, DataType::LargeBinary, DataType::BinaryView] {
            let decoded = DecodeOptions::RawBytes.decoder(schema(data_type.clone()))?.decode(&records(&lines))?;
            let mut out = EncodedRows::default();
            EncodeOptions::RawBytes.encoder(schema(data_type))?.encode(&decoded.batch, &mut out)?;
            assert_eq!(out.iter().collect::<Vec<_>>(), lines);
        }
        Ok(())
    }

    #[test]
    fn a_record_that_is_no_text_spoils_no_other() -> Result<(), FormatError> {
        let records = records(&[b"a", &[b'x', 0xff], b"b"]);
        let decoded = DecodeOptions::RawString.decoder(schema(DataType::Utf8))?.decode(&records)?;
        assert_eq!(decoded.batch.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), Some("b")]);
        assert_eq!(decoded.bad[0].row, 1);
        assert_eq!(decoded.bad[0].message, "the record is not UTF-8 (byte 1)");
        Ok(())
    }

    #[test]
    fn without_columns_only_the_rows_are_counted() -> Result<(), FormatError> {
        let decoded = DecodeOptions::RawString.decoder(Arc::new(Schema::empty()))?.decode(&records(&[b"a", b"b"]))?;
        assert_eq!(decoded.batch.num_rows(), 2);
        Ok(())
    }

    #[test]
    fn another_type_is_refused() {
        let refused = DecodeOptions::RawString.decoder(schema(DataType::Int32)).err().map(|error| error.to_string());
        let expected = "format 'raw_string' cannot hold column line of type int: it takes one column of type TEXT, and there are 1";
        assert_eq!(refused.as_deref(), Some(expected));
    }
}

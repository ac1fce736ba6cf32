//! Batches to commands: which keys a batch writes, and with what.

use std::time::Duration;

use ahash::AHashMap;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};

use super::key::KeyTemplate;
use super::{RedisOptions, RedisType};
use crate::connectors::ConnectorError;
use crate::connectors::json_column::JsonColumn;
use crate::connectors::refused_rows::RefusedRows;
use crate::connectors::sql_table::arrow_error;
use crate::formats::{EncodedRows, Encoder};

/// One write of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// SET with an optional lifetime.
    Set {
        /// The key.
        key: String,
        /// The row as JSON.
        value: String,
        /// How long it lives.
        ttl: Option<Duration>,
    },
    /// The fields of a hash: those set, and those that are null now and go away.
    Hash {
        /// The key.
        key: String,
        /// Names and values.
        fields: Vec<(String, String)>,
        /// Names.
        absent: Vec<String>,
        /// How long it lives.
        ttl: Option<Duration>,
    },
    /// XADD.
    Add {
        /// The stream's key.
        key: String,
        /// Names and values.
        fields: Vec<(String, String)>,
        /// About how many entries stay.
        max_length: Option<i64>,
    },
    /// PUBLISH.
    Publish {
        /// The channel.
        channel: String,
        /// The row as JSON.
        message: String,
    },
}

/// Makes the commands of batches of one schema.
pub struct Commands {
    key: KeyTemplate,
    data_type: RedisType,
    ttl: Option<Duration>,
    max_length: Option<i64>,
    key_columns: Vec<(usize, TextColumn)>,
    content: Content,
}

enum Content {
    Json(Box<dyn Encoder>),
    Fields(Vec<(String, TextColumn)>),
}

impl Commands {
    /// For batches of `schema`.
    ///
    /// # Errors
    /// When a column's type has no place in JSON.
    pub fn new(options: &RedisOptions, schema: &SchemaRef) -> Result<Commands, ConnectorError> {
        let column = |field: &Field| TextColumn::new(field);
        let key_columns = options
            .key
            .columns()
            .iter()
            .map(|name| {
                let at = schema.index_of(name).map_err(|source| arrow_error("the key", source))?;
                Ok((at, column(schema.field(at))?))
            })
            .collect::<Result<_, ConnectorError>>()?;
        let content = match options.data_type {
            RedisType::String | RedisType::Publish => Content::Json(options.format.encoder(schema.clone())?),
            RedisType::Hash | RedisType::Stream => Content::Fields(
                schema
                    .fields()
                    .iter()
                    .map(|field| Ok((field.name().clone(), column(field)?)))
                    .collect::<Result<_, ConnectorError>>()?,
            ),
        };
        Ok(Commands {
            key: options.key.clone(),
            data_type: options.data_type,
            ttl: options.ttl,
            max_length: options.max_length,
            key_columns,
            content,
        })
    }

    /// The commands of a batch: one for each row, or for the last row of each key where the newest value replaces.
    ///
    /// # Errors
    /// When a row cannot be written and `refused` does not leave it out.
    pub fn of(&mut self, batch: &RecordBatch, refused: &mut RefusedRows) -> Result<Vec<Command>, ConnectorError> {
        let keys = self.keys(batch, refused)?;
        match &mut self.content {
            Content::Json(encoder) => {
                let mut rows = EncodedRows::default();
                encoder.encode(batch, &mut rows)?;
                let texts: Vec<&[u8]> = rows.iter().collect();
                Ok(keys
                    .into_iter()
                    .map(|(row, key)| {
                        let text = String::from_utf8_lossy(texts[row]).into_owned();
                        match self.data_type {
                            RedisType::Publish => Command::Publish { channel: key, message: text },
                            _ => Command::Set { key, value: text, ttl: self.ttl },
                        }
                    })
                    .collect())
            }
            Content::Fields(columns) => {
                let texts = columns
                    .iter_mut()
                    .zip(batch.columns())
                    .map(|((_, column), array)| column.text(array))
                    .collect::<Result<Vec<_>, _>>()?;
                let mut commands = vec![];
                for (row, key) in keys {
                    let (mut fields, mut absent) = (vec![], vec![]);
                    for ((name, _), text) in columns.iter().zip(&texts) {
                        if text.is_valid(row) {
                            fields.push((name.clone(), text.value(row).to_string()));
                        } else {
                            absent.push(name.clone());
                        }
                    }
                    if self.data_type == RedisType::Hash {
                        commands.push(Command::Hash { key, fields, absent, ttl: self.ttl });
                    } else if fields.is_empty() {
                        refused.refuse(batch, row, "a stream's entry needs a value that is not null")?;
                    } else {
                        commands.push(Command::Add { key, fields, max_length: self.max_length });
                    }
                }
                Ok(commands)
            }
        }
    }

    /// The rows to write with their keys, in order.
    fn keys(&mut self, batch: &RecordBatch, refused: &mut RefusedRows) -> Result<Vec<(usize, String)>, ConnectorError> {
        let values = self
            .key_columns
            .iter_mut()
            .map(|(at, column)| column.text(batch.column(*at)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut keys = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            match self.key.key(&values, row) {
                Ok(key) => keys.push((row, key)),
                Err(message) => refused.refuse(batch, row, &message)?,
            }
        }
        if matches!(self.data_type, RedisType::String | RedisType::Hash) {
            let mut last: AHashMap<&str, usize> = AHashMap::with_capacity(keys.len());
            for (row, key) in &keys {
                last.insert(key, *row);
            }
            let newest: Vec<bool> = keys.iter().map(|(row, key)| last.get(key.as_str()) == Some(row)).collect();
            let mut newest = newest.into_iter();
            keys.retain(|_| newest.next().unwrap_or(true));
        }
        Ok(keys)
    }
}

/// A column's values as they stand in JSON, but text without its quotes.
enum TextColumn {
    /// It is text.
    Plain,
    /// By the JSON encoder.
    Json(JsonColumn),
}

impl TextColumn {
    fn new(field: &Field) -> Result<TextColumn, ConnectorError> {
        let data_type = match field.data_type() {
            DataType::Dictionary(_, values) => values,
            other => other,
        };
        Ok(match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TextColumn::Plain,
            _ => TextColumn::Json(JsonColumn::new(field)?),
        })
    }

    fn text(&mut self, array: &ArrayRef) -> Result<StringViewArray, ConnectorError> {
        match self {
            TextColumn::Plain => {
                let text =
                    cast(array, &DataType::Utf8View).map_err(|source| arrow_error("a column as text", source))?;
                Ok(text.as_string_view().clone())
            }
            TextColumn::Json(column) => {
                let json = column.text(array)?;
                Ok(json.iter().map(|value| value.map(unquoted)).collect())
            }
        }
    }
}

/// Dates and times are plain text in quotes; structs and lists begin with a bracket.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::connectors::refused_rows::OnError;
    use crate::connectors::sql_table::tests::{options, table};

    fn commands(more: &[(&str, &str)]) -> Vec<Command> {
        let batch = RecordBatch::try_from_iter([
            ("category", Arc::new(StringArray::from(vec!["a \"q\"", "b", "a \"q\""])) as ArrayRef),
            ("sales", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![1_700_000_000_000; 3]))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]); 3])) as ArrayRef,
            ),
        ])
        .unwrap();
        let schema = batch.schema();
        let columns: Vec<_> =
            schema.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
        let mut pairs = vec![("url", "embedded"), ("key", "k:{category}")];
        pairs.extend(more);
        let mut given = options(&pairs);
        let parsed = RedisOptions::take(&table("t", &columns, &[]), &mut given);
        assert_eq!(given.finish("redis"), []);
        let mut refused = RefusedRows::new(OnError::Fail, "Redis");
        Commands::new(&parsed, &schema).unwrap().of(&batch, &mut refused).unwrap()
    }

    #[test]
    fn a_string_is_the_newest_row_as_json() {
        let commands = commands(&[("ttl", "1 minute")]);
        let ttl = Some(Duration::from_secs(60));
        let row = |category: &str, sales: &str| {
            format!("{{\"category\":{category},\"sales\":{sales},\"at\":\"2023-11-14T22:13:20Z\",\"list\":[1]}}")
        };
        let b = Command::Set { key: "k:b".into(), value: row("\"b\"", "null"), ttl };
        let a = Command::Set { key: "k:a \"q\"".into(), value: row("\"a \\\"q\\\"\"", "3"), ttl };
        assert_eq!(commands, [b, a]);
    }

    #[test]
    fn a_hash_has_plain_text_and_no_nulls() {
        let Command::Hash { fields, absent, .. } = &commands(&[("data_type", "hash")])[0] else {
            panic!("not a hash");
        };
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("category", "b"), ("at", "2023-11-14T22:13:20Z"), ("list", "[1]")]);
        assert_eq!(absent, &["sales"]);
    }

    #[test]
    fn streams_and_channels_get_every_row() {
        assert_eq!(commands(&[("data_type", "stream")]).len(), 3);
        let published = commands(&[("data_type", "publish")]);
        assert_eq!(published.len(), 3);
        assert!(matches!(&published[0], Command::Publish { channel, .. } if channel == "k:a \"q\""));
    }
}

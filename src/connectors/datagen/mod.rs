//! Rows made up from a seed, for trying queries and measuring them without a server.
//!
//! A row's values depend only on the seed, the column and the row's number, so batch size, parallelism and restarts
//! change nothing ([`super::made_up`]).

mod columns;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::made_up::{MadeUp, MadeUpFactory, Numbers, Pace, mix};
use super::{Connector, ConnectorTable, SourceFactory};
use crate::catalog::options::{OptionValue, Options, closest};
use crate::catalog::{ColumnKind, TableDefinition};
use columns::{ColumnOptions, Generator};

/// The connector `datagen`.
///
/// | option | values | default |
/// |---|---|---|
/// | `rows_per_second` | a number; `0` or `max` for as fast as possible | `10` |
/// | `rows` | how many rows there are; without it they never end | |
/// | `seed` | a number | `1` |
/// | `splits` | how many instances may make rows at once | `1` |
/// | `fields.COLUMN.kind` | `random`, `sequence`; for timestamps `now`, `sequence` | `random`, `now` |
/// | `fields.COLUMN.start`, `.end`, `.step` | of a sequence; the rows end with it. A timestamp's step is a length of time | `0`, none, `1` or `1 second` |
/// | `fields.COLUMN.min`, `.max` | of random numbers, both included (floats: below `max`) | `0`, `1000000` or what fits |
/// | `fields.COLUMN.length` | of random text | `16` |
/// | `fields.COLUMN.values` | words to choose from, separated by commas | |
/// | `fields.COLUMN.null_rate` | the share of nulls, from `0` to `1` | `0` |
///
/// Flink's `rows-per-second`, `number-of-rows` and `null-rate` are the same as the ones above.
pub struct DatagenConnector;

/// A datagen table with its options understood.
#[derive(Debug)]
struct Datagen {
    /// `None` for as fast as possible.
    rows_per_second: Option<u64>,
    rows: Option<u64>,
    splits: u64,
    /// One for each physical column, by name.
    columns: Vec<(String, Generator)>,
}

struct DatagenTable(Arc<Datagen>);

impl ConnectorTable for DatagenTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        Some(Arc::new(MadeUpFactory(self.0.clone())))
    }
}

impl MadeUp for Datagen {
    fn connector(&self) -> &'static str {
        "datagen"
    }

    fn describe(&self) -> String {
        let rows = self.rows.map_or("endless rows".into(), |rows| format!("{rows} rows"));
        match self.rows_per_second {
            Some(rate) => format!("datagen, {rows}, {rate} a second"),
            None => format!("datagen, {rows}"),
        }
    }

    fn rows(&self) -> Option<u64> {
        self.rows
    }

    fn end_option(&self) -> &'static str {
        "rows"
    }

    fn pace(&self) -> Option<Pace> {
        self.rows_per_second.map(|rows| Pace { rows, each: Duration::from_secs(1) })
    }

    fn splits(&self) -> u64 {
        self.splits
    }

    fn make(&self, rows: Numbers, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut columns = vec![];
        for field in schema.fields() {
            let generator = self.columns.iter().find(|(name, _)| name == field.name());
            let (_, generator) =
                generator.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {}", field.name())))?;
            columns.push(generator.make(rows)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.count));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options)
    }
}

impl Connector for DatagenConnector {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        let rate_names = ["rows_per_second", "rows-per-second"];
        let rows_per_second = match options.peek(rate_names[0]).or(options.peek(rate_names[1])) {
            Some("max") => {
                options.take(&rate_names);
                None
            }
            _ => match options.integer(&rate_names, 0..=1_000_000_000).unwrap_or(10) {
                0 => None,
                rate => Some(rate as u64),
            },
        };
        let rows = options.integer(&["rows", "number-of-rows"], 0..=i64::MAX).map(|rows| rows as u64);
        let seed = options.integer(&["seed"], 0..=i64::MAX).unwrap_or(1) as u64;
        let splits = options.integer(&["splits"], 1..=1024).unwrap_or(1) as u64;
        let fields = options.prefixed("fields.");
        let columns = columns(table, seed, fields, options);
        let ends = columns.iter().filter_map(|(_, generator)| generator.rows());
        let rows = ends.chain(rows).min();
        Arc::new(DatagenTable(Arc::new(Datagen { rows_per_second, rows, splits, columns })))
    }
}

/// A generator for each physical column, from the options that name it.
fn columns(
    table: &TableDefinition,
    seed: u64,
    mut fields: Vec<OptionValue>,
    options: &mut Options,
) -> Vec<(String, Generator)> {
    let mut generators = vec![];
    for column in table.columns.iter().filter(|column| column.kind == ColumnKind::Physical) {
        let prefix = format!("{}.", column.name);
        let mut settings = ColumnOptions::default();
        fields.retain(|field| match field.key.strip_prefix(&prefix).map(str::to_owned) {
            Some(setting) => {
                settings.set(&setting, field, options);
                false
            }
            None => true,
        });
        // Not the column's place: one more column must not change the others' values.
        let column_seed = column.name.bytes().fold(seed, |hash, byte| mix(hash ^ u64::from(byte)));
        match Generator::new(&column.data_type, column_seed, &settings) {
            Ok(generator) if generator.makes_nulls() && !column.nullable => options.error(
                column.location,
                format!("column {} is NOT NULL but has a null_rate", column.name),
                Some(format!("remove NOT NULL, or 'fields.{}.null_rate'", column.name)),
            ),
            Ok(generator) => generators.push((column.name.clone(), generator)),
            Err(mistake) => {
                let location = mistake.location.unwrap_or(column.location);
                options.error(location, format!("column {}: {}", column.name, mistake.message), Some(mistake.help));
            }
        }
    }
    for field in fields {
        let name = field.key.rsplit_once('.').map_or(field.key.as_str(), |(name, _)| name);
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let help = match closest(name, names.iter().copied()) {
            Some(name) => format!("did you mean 'fields.{name}.…'?"),
            None => format!("it has {}", names.join(", ")),
        };
        let message = format!("table {} makes up no column '{name}'", table.name);
        options.error(field.key_location, message, Some(help));
    }
    generators
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};

    use super::*;
    use crate::catalog::ColumnDefinition;
    use crate::connectors::made_up::testing::rows;
    use crate::connectors::{Boundedness, ConnectorError, SourceContext, SourceEvent};
    use crate::sql::Location;

    fn table() -> TableDefinition {
        let types = [
            ("id", DataType::Int64),
            ("small", DataType::Int8),
            ("share", DataType::Float64),
            ("price", DataType::Decimal128(12, 2)),
            ("flag", DataType::Boolean),
            ("word", DataType::Utf8),
            ("kind", DataType::Utf8View),
            ("at", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ];
        let column = |(name, data_type): (&str, DataType)| ColumnDefinition {
            name: name.into(),
            data_type,
            nullable: true,
            kind: ColumnKind::Physical,
            location: Location::default(),
        };
        TableDefinition {
            name: "t".into(),
            location: Location::default(),
            columns: types.map(column).into(),
            primary_key: vec![],
            watermark: None,
        }
    }

    const FIELDS: [(&str, &str); 12] = [
        ("fields.id.kind", "sequence"),
        ("fields.id.start", "100"),
        ("fields.small.min", "-3"),
        ("fields.small.max", "3"),
        ("fields.price.min", "1.50"),
        ("fields.price.max", "2"),
        ("fields.word.length", "5"),
        ("fields.word.null_rate", "0.5"),
        ("fields.kind.values", "red, green,blue"),
        ("fields.at.kind", "sequence"),
        ("fields.at.start", "2024-01-01T00:00:00Z"),
        ("fields.at.step", "250 ms"),
    ];

    fn options(pairs: &[(&str, &str)]) -> Options {
        let value = |(key, text): &(&str, &str)| OptionValue::new(*key, *text);
        Options::new(Location::default(), pairs.iter().map(value).collect())
    }

    fn factory(more: &[(&str, &str)]) -> Arc<dyn SourceFactory> {
        let mut options = options(&[&FIELDS[..], more].concat());
        let table = DatagenConnector.table(&table(), &mut options);
        assert_eq!(options.finish("datagen"), []);
        table.source().unwrap()
    }

    fn context(batch_size: usize) -> SourceContext {
        SourceContext::alone(table().physical_schema(), batch_size)
    }

    #[tokio::test]
    async fn rows_depend_on_nothing_but_the_seed() {
        let one = factory(&[("rows", "1000"), ("rows_per_second", "max")]);
        assert_eq!(one.boundedness(), Boundedness::Bounded);
        let expected = rows(&one, vec![context(8192)]).await;
        assert_eq!(expected.0, (0..1000).collect::<Vec<i64>>());
        assert_eq!(rows(&one, vec![context(7)]).await, expected);
        let many = factory(&[("number-of-rows", "1000"), ("rows-per-second", "0"), ("splits", "3")]);
        assert_eq!(many.instances(&context(1), 8).await.unwrap(), 3);
        let two = (0..2).map(|instance| SourceContext { instance, instances: 2, ..context(64) }).collect();
        assert_eq!(rows(&many, two).await, expected);
        let other = factory(&[("rows", "1000"), ("rows_per_second", "max"), ("seed", "2")]);
        assert_ne!(rows(&other, vec![context(8192)]).await.1, expected.1);
        // Offset 10 of split 1 was the last that was seen.
        let positions = [("datagen[0]", 10), ("datagen[1]", 11), ("datagen[2]", 9)];
        let positions = positions.map(|(name, position)| (name.to_owned(), position)).into();
        let (offsets, _) = rows(&many, vec![SourceContext { positions, ..context(64) }]).await;
        assert_eq!(offsets[..5], [11, 12, 13, 14, 15]);
        assert_eq!(offsets.len(), 1000 - 11);
    }

    async fn batch(factory: &Arc<dyn SourceFactory>, context: SourceContext) -> RecordBatch {
        let mut source = factory.open(context).await.unwrap();
        loop {
            if let SourceEvent::Rows(batch, _, _) = source.next().await.unwrap() {
                return batch;
            }
        }
    }

    #[tokio::test]
    async fn values_are_what_the_options_say() {
        let batch = batch(&factory(&[("rows_per_second", "max")]), context(1000)).await;
        assert_eq!(batch.num_rows(), 1000);
        let column = |name: &str| batch.column_by_name(name).unwrap();
        assert_eq!(column("id").as_primitive::<Int64Type>().values()[..3], [100, 101, 102]);
        let times = column("at").as_primitive::<TimestampMillisecondType>();
        assert_eq!(times.values()[..2], [1_704_067_200_000, 1_704_067_200_250]);
        let small = column("small").as_primitive::<arrow::datatypes::Int8Type>();
        let seen: std::collections::BTreeSet<i8> = small.values().iter().copied().collect();
        assert_eq!(seen, (-3..=3).collect());
        let price = column("price").as_primitive::<arrow::datatypes::Decimal128Type>();
        assert!(price.values().iter().all(|price| (150..=200).contains(price)));
        let words = column("word").as_string::<i32>();
        assert!((400..600).contains(&words.null_count()));
        assert!(words.iter().flatten().all(|word| word.len() == 5));
        let kinds: std::collections::BTreeSet<&str> = column("kind").as_string_view().iter().flatten().collect();
        assert_eq!(kinds, ["blue", "green", "red"].into());
        assert!((400..600).contains(&column("flag").as_boolean().true_count()));
    }

    #[tokio::test(start_paused = true)]
    async fn rows_come_at_their_rate() {
        let factory = factory(&[("rows_per_second", "100"), ("rows", "301")]);
        let began = tokio::time::Instant::now();
        rows(&factory, vec![context(8192)]).await;
        let took = began.elapsed().as_millis();
        assert!((2990..3100).contains(&took), "{took} ms");
    }

    #[tokio::test]
    async fn what_never_ends_is_refused_in_a_bounded_run_and_stops_when_told() {
        let endless = factory(&[("rows_per_second", "1")]);
        let error = endless.open(SourceContext { bounded: true, ..context(1) }).await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "datagen table t: never ends, so a bounded run would not either: add 'rows' = '1000'"
        );
        let context = context(1);
        let mut source = endless.open(context.clone()).await.unwrap();
        context.stop.cancel();
        let stopped = loop {
            match source.next().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(stopped, ConnectorError::Stopped { .. }));
    }

    #[tokio::test]
    async fn a_sequence_with_an_end_ends_the_rows() {
        let factory = factory(&[("rows_per_second", "max"), ("fields.id.end", "104"), ("rows", "9")]);
        assert_eq!(rows(&factory, vec![context(3)]).await.0, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (pair, message, help) in [
            (
                ("fields.id.kind", "sequenz"),
                "column id: option 'fields.id.kind' does not take 'sequenz'",
                "it takes 'random' or 'sequence' for type Int64",
            ),
            (
                ("fields.small.max", "200"),
                "column small: option 'fields.small.max' does not take '200'",
                "it takes a whole number from -128 to 127",
            ),
            (
                ("fields.small.min", "5000"),
                "column small: option 'fields.small.min' does not take '5000'",
                "it takes a whole number from -128 to 127",
            ),
            (("fields.wrod.length", "5"), "table t makes up no column 'wrod'", "did you mean 'fields.word.…'?"),
            (
                ("fields.word.lenght", "5"),
                "option 'fields.word.lenght': a column has no setting 'lenght'",
                "did you mean 'length'?",
            ),
            (
                ("fields.at.step", "often"),
                "column at: option 'fields.at.step' does not take 'often'",
                "it takes a length of time such as '1 second'",
            ),
            (
                ("fields.id.values", "1,two"),
                "column id: option 'fields.id.values' does not take '1,two'",
                "it takes values of type Int64, separated by commas",
            ),
        ] {
            let mut pairs = vec![pair];
            if pair.0 == "fields.at.step" {
                pairs.push(("fields.at.kind", "sequence"));
            }
            let mut options = options(&pairs);
            DatagenConnector.table(&table(), &mut options);
            let errors = options.finish("datagen");
            assert_eq!((errors.len(), errors[0].message.as_str()), (1, message));
            assert_eq!(errors[0].help.as_deref(), Some(help));
        }
    }
}

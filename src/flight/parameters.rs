//! Parameters of a statement: `?` as JDBC writes them or `$1` as others do, their types, and the values put in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Cast, Placeholder, TryCast};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use thiserror::Error;

use super::plain;

/// More parameters than this are a mistake.
const MOST: usize = 10_000;

/// Why values cannot be put in.
#[derive(Debug, Error)]
pub enum ParameterError {
    /// Both kinds in one text.
    #[error("parameters are written either ? or $1, $2 and so on; this statement has both")]
    Mixed,
    /// A name, or a number that is none.
    #[error("{0} is no parameter: they are written ?, or $1, $2 and so on")]
    NotNumbered(String),
    /// Too few or too many values.
    #[error("the statement takes {wanted} values and got {given}")]
    Count {
        /// So many does the statement have.
        wanted: usize,
        /// So many values have come.
        given: usize,
    },
    /// A text that does not say a value of the parameter's type.
    #[error("parameter ${number} takes a value of type {wanted}: {why}")]
    Value {
        /// Which one, from 1.
        number: usize,
        /// The type that the statement asks for.
        wanted: DataType,
        /// What is wrong with the text.
        why: String,
    },
    /// DataFusion's own.
    #[error(transparent)]
    Engine(#[from] DataFusionError),
}

/// The text with its `?` written `$1`, `$2` and so on, which the planner tells apart.
///
/// # Errors
/// When it has both kinds.
pub fn numbered(sql: &str) -> Result<Cow<'_, str>, ParameterError> {
    // A text that cannot be cut into words has a mistake, and the parser tells it better.
    let Ok(words) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else { return Ok(sql.into()) };
    let mut unnumbered = vec![];
    let mut has_numbers = false;
    for word in words {
        match word.token {
            Token::Placeholder(name) if name == "?" => unnumbered.push(word.span.start),
            Token::Placeholder(_) => has_numbers = true,
            _ => {}
        }
    }
    match (unnumbered.is_empty(), has_numbers) {
        (true, _) => Ok(sql.into()),
        (false, true) => Err(ParameterError::Mixed),
        (false, false) => Ok(with_numbers(sql, &unnumbered).into()),
    }
}

/// Writes `$1`, `$2` and so on over the characters at `places`, which are in order.
fn with_numbers(sql: &str, places: &[Location]) -> String {
    let mut text = String::with_capacity(sql.len() + places.len());
    let mut places = places.iter().zip(1..).peekable();
    let (mut line, mut column) = (1, 1);
    for character in sql.chars() {
        match places.next_if(|(place, _)| place.line == line && place.column == column) {
            Some((_, number)) => text.push_str(&format!("${number}")),
            None => text.push(character),
        }
        column += 1;
        if character == '\n' {
            (line, column) = (line + 1, 1);
        }
    }
    text
}

/// The parameters of a plan in order, each in the type that its surroundings ask for; texts where nothing does.
///
/// # Errors
/// When one has a name instead of a number.
pub fn schema(plan: &LogicalPlan) -> Result<SchemaRef, ParameterError> {
    let mut types: BTreeMap<usize, DataType> = BTreeMap::new();
    for (name, data_type) in placeholders(plan)? {
        let number = name.strip_prefix('$').and_then(|number| number.parse().ok());
        let Some(number) = number.filter(|number| (1..=MOST).contains(number)) else {
            return Err(ParameterError::NotNumbered(name));
        };
        let known = types.entry(number).or_insert(DataType::Null);
        if let Some(data_type) = data_type
            && *known == DataType::Null
        {
            *known = told(&data_type);
        }
    }
    let last = types.last_key_value().map_or(0, |(number, _)| *number);
    let fields = (1..=last).map(|number| {
        let known = types.remove(&number).filter(|known| *known != DataType::Null);
        Field::new(format!("${number}"), known.unwrap_or(DataType::Utf8), true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The type that a client is told. Arrow's JDBC driver sends milliseconds under whatever unit it was told, and they would
/// be taken for microseconds of 1970.
fn told(data_type: &DataType) -> DataType {
    match plain::data_type(data_type) {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time32(TimeUnit::Millisecond),
        other => other,
    }
}

/// The type that a text is read as, which may say more than milliseconds.
fn read_as(told: &DataType) -> DataType {
    match told {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        other => other.clone(),
    }
}

/// Every place of a parameter, with the type that is asked for there.
fn placeholders(plan: &LogicalPlan) -> Result<Vec<(String, Option<DataType>)>, DataFusionError> {
    let mut found = vec![];
    plan.apply_with_subqueries(|node| {
        // LIMIT and OFFSET take numbers.
        let whole = matches!(node, LogicalPlan::Limit(_)).then_some(DataType::Int64);
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                match part {
                    Expr::Placeholder(Placeholder { id, field }) => {
                        let known = field.as_ref().map(|field| field.data_type().clone());
                        found.push((id.clone(), known.or_else(|| whole.clone())));
                    }
                    Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                        if let Expr::Placeholder(Placeholder { id, .. }) = &**expr {
                            found.push((id.clone(), Some(field.data_type().clone())));
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    // Where a type is cast to is known before what stands there.
    Ok(found)
}

/// The values as they will be put in: texts become what the statement asks for, all else is left to its own conversions.
///
/// # Errors
/// When there are too few or too many, or a text does not say such a value.
pub fn checked(values: &RecordBatch, wanted: &Schema) -> Result<RecordBatch, ParameterError> {
    let (wanted_count, given) = (wanted.fields().len(), values.num_columns());
    if wanted_count != given {
        return Err(ParameterError::Count { wanted: wanted_count, given });
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns: Result<Vec<ArrayRef>, ParameterError> = (1..)
        .zip(values.columns())
        .zip(wanted.fields())
        .map(|((number, column), field)| {
            let wanted = read_as(field.data_type());
            if is_text(&wanted) || !is_text(column.data_type()) {
                return Ok(Arc::clone(column));
            }
            let cast = cast_with_options(column, &wanted, &strict);
            cast.map_err(|error| ParameterError::Value { number, wanted, why: error.to_string() })
        })
        .collect();
    let columns = columns?.into_iter().zip(wanted.fields()).map(|(column, field)| (field.name(), column, true));
    RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| DataFusionError::from(error).into())
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The plan with one row of values in the place of its parameters.
///
/// # Errors
/// When the values do not fit.
pub fn bound(plan: LogicalPlan, values: &RecordBatch, row: usize) -> Result<LogicalPlan, ParameterError> {
    let values: Result<Vec<ScalarValue>, DataFusionError> =
        values.columns().iter().map(|column| ScalarValue::try_from_array(column, row)).collect();
    Ok(plan.with_param_values(values?)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::TimestampMicrosecondType;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn question_marks_are_numbered_where_they_are_parameters() {
        let sql = "SELECT 'é?', \"c?\", ? -- why?\n, /* ? */ a FROM t\n  WHERE é = ? AND b IN (?,?)";
        let right = "SELECT 'é?', \"c?\", $1 -- why?\n, /* ? */ a FROM t\n  WHERE é = $2 AND b IN ($3,$4)";
        assert_eq!(numbered(sql).unwrap(), right);
        for same in ["SELECT $1, $2", "SELECT '?'", "SELECT 'open", ""] {
            assert_eq!(numbered(same).unwrap(), same);
        }
        assert!(numbered("SELECT ?, $1").unwrap_err().to_string().contains("has both"));
    }

    async fn plan(sql: &str) -> LogicalPlan {
        let context = SessionContext::new();
        context.sql("CREATE TABLE t (id BIGINT, name TEXT, price DECIMAL(12, 2), at TIMESTAMP)").await.unwrap();
        context.state().create_logical_plan(sql).await.unwrap()
    }

    async fn types(sql: &str) -> Vec<String> {
        let schema = schema(&plan(sql).await).unwrap();
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    }

    #[tokio::test]
    async fn types_come_from_where_a_parameter_stands() {
        let sql = "SELECT id + $5 FROM t WHERE price > $2 AND name = $1 AND at < $3 LIMIT $4";
        let found = types(sql).await;
        assert_eq!(found, ["$1 Utf8", "$2 Decimal128(12, 2)", "$3 Timestamp(ms)", "$4 Int64", "$5 Int64"]);
        assert_eq!(types("SELECT CAST($1 AS BIGINT), $3").await, ["$1 Int64", "$2 Utf8", "$3 Utf8"]);
        let inner = "SELECT id FROM t WHERE price = (SELECT max(price) FROM t WHERE id = $1)";
        assert_eq!(types(inner).await, ["$1 Int64"]);
        assert_eq!(types("SELECT 1").await, Vec::<String>::new());
        let named = schema(&plan("SELECT id FROM t WHERE id = $first").await).unwrap_err();
        assert!(named.to_string().starts_with("$first is no parameter"), "{named}");
    }

    #[tokio::test]
    async fn texts_become_what_is_asked_for_and_others_are_left_alone() {
        let plan = plan("SELECT $2 FROM t WHERE id = $1").await;
        let wanted = schema(&plan).unwrap();
        let batch = |id: ArrayRef| RecordBatch::try_from_iter([("0", id.clone()), ("1", id)]).unwrap();
        let texts = checked(&batch(Arc::new(StringArray::from(vec![Some("7"), None]))), &wanted).unwrap();
        assert_eq!(texts.schema().field(0).data_type(), &DataType::Int64);
        assert_eq!(texts.schema().field(1).data_type(), &DataType::Utf8);
        let numbers = checked(&batch(Arc::new(Int64Array::from(vec![7]))), &wanted).unwrap();
        assert_eq!(numbers.schema().field(1).data_type(), &DataType::Int64);
        let moment = Schema::new(vec![Field::new("$1", DataType::Timestamp(TimeUnit::Millisecond, None), true)]);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["2026-11-29T12:00:00.123456"]));
        let exact = checked(&RecordBatch::try_from_iter([("0", text)]).unwrap(), &moment).unwrap();
        assert_eq!(exact.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_795_953_600_123_456);
        let wrong = checked(&batch(Arc::new(StringArray::from(vec!["seven"]))), &wanted).unwrap_err().to_string();
        assert!(wrong.contains("parameter $1 takes a value of type Int64") && wrong.contains("seven"), "{wrong}");
        let few = RecordBatch::try_from_iter([("0", Arc::new(Int64Array::from(vec![7])) as ArrayRef)]).unwrap();
        assert_eq!(checked(&few, &wanted).unwrap_err().to_string(), "the statement takes 2 values and got 1");
        let bound = bound(plan, &numbers, 0).unwrap().to_string();
        assert!(bound.contains("id = Int64(7)"), "{bound}");
    }
}

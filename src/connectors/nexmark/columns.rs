//! Which columns a table declares, and how each is made.

use arrow::datatypes::{DataType, Fields};

use super::house::{Value, date_time, fields};
use super::sequence::Kind;
use crate::catalog::options::{Options, closest};
use crate::catalog::{ColumnDefinition, ColumnKind, TableDefinition};

/// A column of a table.
#[derive(Clone)]
pub(super) enum Column {
    /// A field that every event of the table has.
    Field(Value),
    /// All fields of an event of this kind, or null for another one.
    Event(Kind, Vec<Value>),
    /// The time at which the row was made.
    MadeAt,
}

/// The columns of a table of events of `kind`, or of all, by name. Mistakes are noted.
pub(super) fn columns(table: &TableDefinition, kind: Option<Kind>, options: &mut Options) -> Vec<(String, Column)> {
    let mut columns = vec![];
    for column in table.columns.iter().filter(|column| column.kind == ColumnKind::Physical) {
        match of(column, kind) {
            Ok(made) => columns.push((column.name.clone(), made)),
            Err((message, help)) => options.error(column.location, message, Some(help)),
        }
    }
    columns
}

/// A column, or what is wrong and what would be right.
fn of(column: &ColumnDefinition, kind: Option<Kind>) -> Result<Column, (String, String)> {
    let name = plain(&column.name);
    let found = Kind::ALL.iter().find(|(word, _)| kind.is_none() && *word == name);
    if let Some((word, kind)) = found {
        let DataType::Struct(parts) = &column.data_type else {
            return Err((wrong_type(&column.name, &column.data_type), format!("it is a STRUCT<{}>", listed(*kind))));
        };
        if !column.nullable {
            let message = format!("column {} is NOT NULL, and events of another kind have no {word}", column.name);
            return Err((message, "remove NOT NULL, or read the events of one kind: events_of".into()));
        }
        return Ok(Column::Event(*kind, of_fields(column, parts, *kind)?));
    }
    if name == "madeat" {
        return match column.data_type {
            DataType::Timestamp(..) => Ok(Column::MadeAt),
            _ => Err((wrong_type(&column.name, &column.data_type), "it is TIMESTAMP".into())),
        };
    }
    let value = match name.as_str() {
        "eventtype" => Some(Value::Number(|_, event| event.kind.number())),
        "datetime" => Some(Value::Time(date_time)),
        _ => kind.and_then(|kind| field(kind, &name)),
    };
    let Some(value) = value else {
        let mut known = vec!["event_type", "date_time", "made_at"];
        match kind {
            Some(kind) => known.extend(fields(kind).iter().map(|field| field.name)),
            None => known.extend(Kind::ALL.iter().map(|(word, _)| *word)),
        }
        return Err((format!("connector 'nexmark' makes no column '{}'", column.name), help(&column.name, known)));
    };
    checked(value, &column.name, &column.data_type).map(Column::Field)
}

/// The fields of a struct, in its order.
fn of_fields(column: &ColumnDefinition, parts: &Fields, kind: Kind) -> Result<Vec<Value>, (String, String)> {
    let mut values = vec![];
    for part in parts {
        let name = format!("{}.{}", column.name, part.name());
        let Some(value) = field(kind, &plain(part.name())) else {
            let known = fields(kind).iter().map(|field| field.name).collect();
            return Err((format!("connector 'nexmark' makes no field '{name}'"), help(part.name(), known)));
        };
        values.push(checked(value, &name, part.data_type())?);
    }
    Ok(values)
}

fn field(kind: Kind, plain_name: &str) -> Option<Value> {
    fields(kind).iter().find(|field| plain(field.name) == plain_name).map(|field| field.value)
}

/// The value if the column's type can hold it.
fn checked(value: Value, name: &str, data_type: &DataType) -> Result<Value, (String, String)> {
    let (fits, right) = match value {
        Value::Number(_) => (matches!(data_type, DataType::Int32 | DataType::Int64), "BIGINT"),
        Value::Time(_) => (matches!(data_type, DataType::Timestamp(..)), "TIMESTAMP(3)"),
        Value::Text(_) => (*data_type == DataType::Utf8, "TEXT"),
    };
    if fits { Ok(value) } else { Err((wrong_type(name, data_type), format!("it is {right}"))) }
}

fn wrong_type(name: &str, data_type: &DataType) -> String {
    format!("connector 'nexmark' makes no values of type {data_type} for column {name}")
}

fn help(name: &str, known: Vec<&str>) -> String {
    match closest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => format!("it makes {}", known.join(", ")),
    }
}

/// The fields of an event as SQL declares them.
fn listed(kind: Kind) -> String {
    let fields = fields(kind).iter().map(|field| {
        let data_type = match field.value {
            Value::Number(_) => "BIGINT",
            Value::Time(_) => "TIMESTAMP(3)",
            Value::Text(_) => "TEXT",
        };
        format!("{} {data_type}", field.name)
    });
    fields.collect::<Vec<String>>().join(", ")
}

/// A name without what tells Flink's `dateTime`, Arroyo's `datetime` and `date_time` apart.
fn plain(name: &str) -> String {
    name.chars().filter(|letter| *letter != '_').flat_map(char::to_lowercase).collect()
}

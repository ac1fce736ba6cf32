//! The table as the database has it, read once, and whether our columns fit it.

use arrow::datatypes::{DataType, Schema};
use sqlx::{PgConnection, Row};

use super::copy::{Wire, wire};
use crate::connectors::sql_table::create::{Dialect, column_type};
use crate::connectors::sql_table::{SqlTableOptions, missing_column, quoted_list};

/// A table in the database's catalog.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Target {
    /// Its columns in order.
    pub columns: Vec<TargetColumn>,
    /// The columns of each unique index that covers all rows.
    pub unique: Vec<Vec<String>>,
}

/// A column in the database's catalog.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TargetColumn {
    /// Its name.
    pub name: String,
    /// The name of its type (of the type below, for a domain), such as `int4`.
    pub type_name: String,
    /// Its type as a person writes it, such as `numeric(12,2)`.
    pub type_text: String,
    /// Whether the type is an enum.
    pub is_enum: bool,
    /// `NOT NULL`.
    pub required: bool,
    /// Whether the database fills it in when it is not written.
    pub has_default: bool,
    /// `GENERATED ALWAYS`: it cannot be written.
    pub generated: bool,
}

/// Reads the table, or `None` if there is none.
///
/// # Errors
/// The database's.
pub async fn read(connection: &mut PgConnection, table: &SqlTableOptions) -> Result<Option<Target>, sqlx::Error> {
    let name = table.quoted_name();
    let (found,): (bool,) =
        sqlx::query_as("SELECT to_regclass($1) IS NOT NULL").bind(&name).fetch_one(&mut *connection).await?;
    if !found {
        return Ok(None);
    }
    let columns = sqlx::query(
        "SELECT a.attname::text, COALESCE(base.typname, t.typname)::text, format_type(a.atttypid, a.atttypmod), \
                COALESCE(base.typtype, t.typtype) = 'e', a.attnotnull OR t.typnotnull, \
                a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, \
                a.attgenerated <> '' OR a.attidentity = 'a' \
         FROM pg_attribute a \
         JOIN pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_type base ON t.typtype = 'd' AND base.oid = t.typbasetype \
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY a.attnum",
    )
    .bind(&name)
    .fetch_all(&mut *connection)
    .await?;
    let columns = columns
        .iter()
        .map(|row| {
            Ok(TargetColumn {
                name: row.try_get(0)?,
                type_name: row.try_get(1)?,
                type_text: row.try_get(2)?,
                is_enum: row.try_get(3)?,
                required: row.try_get(4)?,
                has_default: row.try_get(5)?,
                generated: row.try_get(6)?,
            })
        })
        .collect::<Result<Vec<TargetColumn>, sqlx::Error>>()?;
    let unique: Vec<(Vec<String>,)> = sqlx::query_as(
        "SELECT array_agg(a.attname::text) \
         FROM pg_index i \
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid \
           AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts \
         GROUP BY i.indexrelid",
    )
    .bind(&name)
    .fetch_all(&mut *connection)
    .await?;
    Ok(Some(Target { columns, unique: unique.into_iter().map(|(columns,)| columns).collect() }))
}

/// How each column of `schema` is written, or everything that does not fit, one line each.
///
/// # Errors
/// The lines.
pub fn fit(target: &Target, table: &SqlTableOptions, schema: &Schema) -> Result<Vec<Wire>, Vec<String>> {
    let mut wires = vec![];
    let mut wrong = vec![];
    for field in schema.fields() {
        let name = field.name();
        let Some(column) = target.columns.iter().find(|column| column.name == *name) else {
            wrong.push(missing_column(name, target.columns.iter().map(|column| column.name.as_str())));
            continue;
        };
        if column.generated {
            wrong
                .push(format!("column {name} is GENERATED ALWAYS and cannot be written; leave it out of CREATE TABLE"));
            continue;
        }
        match wire(field.data_type(), &column.type_name, column.is_enum) {
            Some(wire) => wires.push(wire),
            None => wrong.push(does_not_fit(name, field.data_type(), &column.type_text)),
        }
    }
    for column in &target.columns {
        let written = schema.fields().iter().any(|field| *field.name() == column.name);
        if column.required && !column.has_default && !column.generated && !written {
            wrong.push(format!(
                "column {} is NOT NULL without a default, but is not written; add it to CREATE TABLE as {}",
                column.name, column.type_text
            ));
        }
    }
    if !table.key.is_empty() && !has_unique(target, &table.key) {
        let key = quoted_list(table.key.iter().map(String::as_str));
        wrong.push(format!(
            "PRIMARY KEY ({}) needs a unique index there: CREATE UNIQUE INDEX ON {} ({key})",
            table.key.join(", "),
            table.quoted_name()
        ));
    }
    if wrong.is_empty() { Ok(wires) } else { Err(wrong) }
}

fn has_unique(target: &Target, key: &[String]) -> bool {
    target.unique.iter().any(|index| index.len() == key.len() && key.iter().all(|column| index.contains(column)))
}

fn does_not_fit(name: &str, ours: &DataType, theirs: &str) -> String {
    let ours = column_type(Dialect::Postgres, ours);
    format!("column {name} is {theirs} there and {ours} here; declare it as a type that fits, and CAST in the query")
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;
    use crate::connectors::sql_table::tests::{options, table};

    fn column(name: &str, type_name: &str) -> TargetColumn {
        TargetColumn {
            name: name.into(),
            type_name: type_name.into(),
            type_text: type_name.into(),
            ..Default::default()
        }
    }

    fn fit_columns(target: &Target, fields: Vec<Field>, key: &[&str]) -> Result<Vec<Wire>, Vec<String>> {
        let table = SqlTableOptions::take("postgres", &table("t", &[], key), &mut options(&[]));
        fit(target, &table, &Schema::new(fields))
    }

    #[test]
    fn all_that_does_not_fit_is_said_at_once() {
        let target = Target {
            columns: vec![
                column("id", "int4"),
                column("name", "text"),
                TargetColumn { required: true, type_text: "date".into(), ..column("day", "date") },
                TargetColumn { generated: true, ..column("total", "int8") },
            ],
            unique: vec![],
        };
        let fields = vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("nmae", DataType::Utf8, true),
            Field::new("total", DataType::Int64, true),
        ];
        assert_eq!(
            fit_columns(&target, fields, &["id"]).unwrap_err(),
            [
                "column id is int4 there and text here; declare it as a type that fits, and CAST in the query",
                "column nmae is not there; did you mean name?",
                "column total is GENERATED ALWAYS and cannot be written; leave it out of CREATE TABLE",
                "column day is NOT NULL without a default, but is not written; add it to CREATE TABLE as date",
                "PRIMARY KEY (id) needs a unique index there: CREATE UNIQUE INDEX ON \"t\" (\"id\")",
            ]
        );
    }

    #[test]
    fn columns_with_defaults_may_be_left_out_and_index_order_does_not_matter() {
        let target = Target {
            columns: vec![
                TargetColumn { required: true, has_default: true, ..column("id", "int4") },
                column("a", "int4"),
                column("b", "text"),
            ],
            unique: vec![vec!["id".into()], vec!["b".into(), "a".into()]],
        };
        let fields = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)];
        assert_eq!(fit_columns(&target, fields, &["a", "b"]).unwrap(), [Wire::Int4, Wire::Text]);
    }
}

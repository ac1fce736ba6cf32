//! What a plan computes, over what: the text by which checkpoints know an operator with state from run to run.
//!
//! Every column is traced down to the tables, so names of queries, views, subqueries and columns on the way do not show,
//! nor do columns that nobody needs, nor how WHERE is divided among subqueries. The text is made before DataFusion's
//! optimizer has seen the plan, and of one query alone: what other queries of the folder read cannot change it.
//!
//! It does change with the window, groups and aggregates in their order, filters, the tables that are read, their event
//! time and watermark, and with what DataFusion calls its functions. Long parts are cut, with a hash in place of the rest.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, Result, internal_err};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Operator, Unnest};
use datafusion::scalar::ScalarValue;

use super::functions::human;
use super::per_window_node::PerWindowNode;
use super::scans::TableExpressions;
use super::streaming::join_conditions;
use super::tables::SourceColumns;
use super::window_node::WindowAggregateNode;
use crate::checkpoint::takeover::{FIRST_PHASE, Fingerprint, shortened};
use crate::operators::per_window::Grouping;
use crate::operators::window::{EVENT_TIME, ROW_WATERMARK, WindowKind};

/// A column's text is cut at this length.
const LONGEST_COLUMN: usize = 300;
/// What stands for the rows of a whole plan is cut at this length where another plan reads them.
const LONGEST_INPUT: usize = 900;

/// What a plan's rows and columns are.
struct Meaning {
    from: String,
    filters: BTreeSet<String>,
    columns: Vec<String>,
}

impl Meaning {
    /// The rows: where they are from, and which of them.
    fn rows(&self) -> String {
        let filters: Vec<&str> = self.filters.iter().map(String::as_str).collect();
        let all = match filters.as_slice() {
            [] => self.from.clone(),
            filters => format!("{} where {}", self.from, filters.join(" and ")),
        };
        shortened(&all, LONGEST_INPUT)
    }

    /// The rows of an operator, with these columns.
    fn of(text: &str, columns: Vec<String>) -> Meaning {
        Meaning { from: format!("[{}]", shortened(text, LONGEST_INPUT)), filters: BTreeSet::new(), columns }
    }

    fn text(&self, expr: &Expr, schema: &DFSchema) -> Result<String> {
        text_of(expr, &|column| Ok(self.columns[schema.index_of_column(column)?].clone()))
    }

    fn texts(&self, exprs: &[Expr], schema: &DFSchema) -> Result<Vec<String>> {
        exprs.iter().map(|expr| self.text(expr, schema)).collect()
    }
}

/// The identity of an operator: what it computes, and the columns in which it keeps its state.
pub fn fingerprint(meaning: &str, state: &[&Schema]) -> Fingerprint {
    let kept = state.iter().map(|schema| {
        let columns = schema.fields().iter().map(|field| {
            let null = if field.is_nullable() { "" } else { " not null" };
            format!("{}{null}", field.data_type())
        });
        format!("({})", columns.collect::<Vec<_>>().join(", "))
    });
    Fingerprint::new(&format!("{meaning}, kept as {}", kept.collect::<Vec<_>>().join(" and ")))
}

/// The identity of the first phase of an aggregation, which keeps nothing but its watermark.
pub fn first_phase(meaning: &str) -> Fingerprint {
    Fingerprint::new(&format!("{FIRST_PHASE}{meaning}"))
}

/// What a windowed aggregation computes.
///
/// # Errors
/// When a column of the plan is not there, which is a defect.
pub fn of_aggregate(node: &WindowAggregateNode, tables: &[TableExpressions]) -> Result<String> {
    Ok(aggregate(node, tables)?.0)
}

/// What an operator computes that runs `node` by window.
///
/// # Errors
/// As for [`of_aggregate`].
pub fn of_per_window(node: &LogicalPlan, grouping: Grouping, tables: &[TableExpressions]) -> Result<String> {
    Ok(per_window(node, grouping, tables)?.0)
}

/// What the step before a sink keeps that shows the newest row of each key: `plan` is what it reads, `keys` are columns
/// of it.
///
/// # Errors
/// As for [`of_aggregate`].
pub fn of_newest(plan: &LogicalPlan, keys: &[usize], tables: &[TableExpressions]) -> Result<String> {
    let input = meaning(plan, tables)?;
    let keys: Vec<&str> = keys.iter().map(|key| input.columns[*key].as_str()).collect();
    let keys = if keys.is_empty() { "all rows".to_string() } else { format!("each {}", keys.join(", ")) };
    Ok(format!("newest window of {keys} from {}", input.rows()))
}

fn meaning(plan: &LogicalPlan, tables: &[TableExpressions]) -> Result<Meaning> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Some((index, names)) = SourceColumns::of(scan) else { return internal_err!("not a source") };
            let table = &tables[index];
            let columns = names.iter().map(|name| table_column(table, name)).collect::<Result<_>>()?;
            Ok(Meaning { from: table.table.definition.name.clone(), filters: BTreeSet::new(), columns })
        }
        LogicalPlan::Projection(projection) => {
            let input = meaning(&projection.input, tables)?;
            let columns = input.texts(&projection.expr, projection.input.schema())?;
            Ok(Meaning { columns, ..input })
        }
        LogicalPlan::Filter(filter) => {
            let mut input = meaning(&filter.input, tables)?;
            for condition in split_conjunction(&filter.predicate) {
                let text = input.text(condition, filter.input.schema())?;
                input.filters.insert(text);
            }
            Ok(input)
        }
        LogicalPlan::SubqueryAlias(alias) => meaning(&alias.input, tables),
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| meaning(input, tables)).collect::<Result<Vec<_>>>()?;
            let column = |at: usize| {
                let parts: Vec<&str> = inputs.iter().map(|input| input.columns[at].as_str()).collect();
                // The branches mostly say the same of a table; what differs is told apart.
                let alike = parts.windows(2).all(|pair| pair[0] == pair[1]);
                shortened(
                    &if alike { parts[0].to_string() } else { format!("({})", parts.join(" | ")) },
                    LONGEST_COLUMN,
                )
            };
            let columns = (0..union.schema.fields().len()).map(column).collect();
            let branches: Vec<String> = inputs.iter().map(Meaning::rows).collect();
            Ok(Meaning::of(&branches.join(" union all "), columns))
        }
        LogicalPlan::Unnest(unnest) => unnested(unnest, tables),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            let (text, columns) = if let Some(node) = node.downcast_ref::<WindowAggregateNode>() {
                aggregate(node, tables)?
            } else if let Some(PerWindowNode { node, grouping, .. }) = node.downcast_ref() {
                per_window(node, *grouping, tables)?
            } else {
                return internal_err!("unknown plan node {}", extension.node.name());
            };
            Ok(Meaning::of(&text, columns))
        }
        other => internal_err!("no meaning for {}", other.display()),
    }
}

fn table_column(table: &TableExpressions, name: &str) -> Result<String> {
    let time = table.time().and_then(|(event_time, watermark)| match name {
        EVENT_TIME => Some(event_time),
        ROW_WATERMARK => Some(watermark),
        _ => None,
    });
    let definition = &table.table.definition;
    let own = |name: &str| match definition.column(name).map(|column| &column.kind) {
        Some(crate::catalog::ColumnKind::Metadata(key)) => format!("{}.METADATA({key:?})", definition.name),
        _ => format!("{}.{name}", definition.name),
    };
    match time {
        Some(expr) => text_of(expr, &|column| Ok(own(&column.name))),
        None => Ok(own(name)),
    }
}

fn unnested(unnest: &Unnest, tables: &[TableExpressions]) -> Result<Meaning> {
    let input = meaning(&unnest.input, tables)?;
    let lists = unnest.list_type_columns.iter().map(|(column, list)| (*column, list.depth));
    let structs = unnest.struct_type_columns.iter().map(|column| (*column, 0));
    let parts: BTreeSet<(usize, usize)> = lists.chain(structs).collect();
    let mut seen = vec![0; input.columns.len()];
    let mut columns = vec![];
    for &from in &unnest.dependency_indices {
        let text = &input.columns[from];
        let taken_apart = parts.iter().any(|(column, _)| *column == from);
        columns.push(if taken_apart { format!("unnest({text}).{}", seen[from]) } else { text.clone() });
        seen[from] += 1;
    }
    let parts: Vec<String> =
        parts.iter().map(|(column, depth)| format!("{} to {depth}", input.columns[*column])).collect();
    let nulls = unnest.options.null_handling;
    let text = format!("unnest {} ({nulls:?}) in {}", parts.join(", "), input.rows());
    Ok(Meaning::of(&text, columns))
}

fn aggregate(node: &WindowAggregateNode, tables: &[TableExpressions]) -> Result<(String, Vec<String>)> {
    let input = meaning(&node.input, tables)?;
    let schema = node.input.schema();
    let mut text = match node.window {
        WindowKind::Tumble { width } => format!("tumble({})", human(width)),
        WindowKind::Hop { slide, width } => format!("hop({}, {})", human(slide), human(width)),
        WindowKind::Session { gap } => format!("session({})", human(gap)),
        WindowKind::Instant => "each window".into(),
        WindowKind::Global => "all rows".into(),
    };
    if node.window.has_window_column() {
        for hidden in &node.hidden {
            match hidden.try_as_col().map(|column| column.name.as_str()) {
                Some(EVENT_TIME) => text += &format!(" over {}", input.text(hidden, schema)?),
                Some(ROW_WATERMARK) => text += &format!(", watermark {}", input.text(hidden, schema)?),
                // Late rows go their own way.
                _ => {}
            }
        }
    }
    let groups = input.texts(&node.groups, schema)?;
    let aggregates = input.texts(&node.aggregates, schema)?;
    if !groups.is_empty() {
        text += &format!(", by {}", groups.join(", "));
    }
    // DataFusion's word for it.
    text += &format!(": {} from {}", aggregates.join(", ").replace("count(Int64(1))", "count(*)"), input.rows());
    let mut columns = vec![];
    if node.window.has_window_column() {
        columns.push("window".to_string());
    }
    columns.extend(groups);
    columns.extend(aggregates);
    columns.push("window time".into());
    Ok((text, columns))
}

fn per_window(node: &LogicalPlan, grouping: Grouping, tables: &[TableExpressions]) -> Result<(String, Vec<String>)> {
    let inputs = node.inputs().into_iter().map(|input| meaning(input, tables)).collect::<Result<Vec<_>>>()?;
    // All columns of the inputs are state.
    let kept = inputs.iter().map(|input| format!("({}) from {}", input.columns.join(", "), input.rows()));
    let kept = kept.collect::<Vec<_>>().join(" with ");
    let (what, columns) = match (node, inputs.as_slice()) {
        (LogicalPlan::Join(join), [left, right]) => joined(join, left, right)?,
        (LogicalPlan::Window(window), [input]) => {
            let calls = input.texts(&window.window_expr, window.input.schema())?;
            let columns = input.columns.iter().cloned().chain(calls.iter().cloned()).collect();
            (calls.join(", "), columns)
        }
        (LogicalPlan::Sort(sort), [input]) => {
            let key = |key: &datafusion::logical_expr::SortExpr| -> Result<String> {
                let text = input.text(&key.expr, sort.input.schema())?;
                Ok(format!("{text} ascending {} nulls first {}", key.asc, key.nulls_first))
            };
            let keys = sort.expr.iter().map(key).collect::<Result<Vec<_>>>()?;
            let fetch = sort.fetch.map(|rows| format!(" first {rows}")).unwrap_or_default();
            (format!("sort by {}{fetch}", keys.join(", ")), input.columns.clone())
        }
        (LogicalPlan::Limit(limit), [input]) => {
            let part = |expr: &Option<Box<Expr>>| match expr {
                Some(expr) => input.text(expr, limit.input.schema()),
                None => Ok("none".into()),
            };
            (format!("limit {} after {}", part(&limit.fetch)?, part(&limit.skip)?), input.columns.clone())
        }
        _ => return internal_err!("{} does not run by window", node.display()),
    };
    let of = match grouping {
        Grouping::EventTime => "in each window of",
        Grouping::Everything => "over all of",
    };
    Ok((format!("{what} {of} {kept}"), columns))
}

fn joined(join: &Join, left: &Meaning, right: &Meaning) -> Result<(String, Vec<String>)> {
    let side = |name: &str, side: &Meaning| -> Vec<String> {
        side.columns.iter().map(|column| shortened(&format!("{name} {column}"), LONGEST_COLUMN)).collect()
    };
    let (left_columns, right_columns) = (side("left", left), side("right", right));
    let schema = join.left.schema().join(join.right.schema())?;
    let both: Vec<String> = left_columns.iter().chain(&right_columns).cloned().collect();
    let column = |column: &Column| Ok(both[schema.index_of_column(column)?].clone());
    let mut conditions = BTreeSet::new();
    for (a, b) in join_conditions(join) {
        let mut sides = [text_of(&a, &column)?, text_of(&b, &column)?];
        sides.sort_unstable();
        conditions.insert(sides.join(" = "));
    }
    let equality = |condition: &Expr| matches!(condition, Expr::BinaryExpr(binary) if binary.op == Operator::Eq);
    for condition in join.filter.iter().flat_map(split_conjunction).filter(|condition| !equality(condition)) {
        conditions.insert(text_of(condition, &column)?);
    }
    let conditions: Vec<String> = conditions.into_iter().collect();
    let mut columns = match join.join_type {
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right_columns,
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left_columns,
        _ => both,
    };
    columns.resize(join.schema.fields().len(), "mark".into());
    let text = format!("{} join on {} ({:?})", join.join_type, conditions.join(" and "), join.null_equality);
    Ok((text, columns))
}

/// An expression without aliases, its columns replaced by what `column` says they are. Whatever has parts in it and no
/// brackets of its own gets some.
fn text_of(expr: &Expr, column: &dyn Fn(&Column) -> Result<String>) -> Result<String> {
    let named = |text: String| Transformed::yes(Expr::Column(Column::new_unqualified(text)));
    let replaced = expr.clone().transform_up(|part| {
        Ok(match part {
            Expr::Column(own) => named(column(&own)?),
            Expr::Alias(alias) => Transformed::yes(*alias.expr),
            Expr::Literal(ScalarValue::DurationNanosecond(Some(length @ 0..)), _) => named(human(length)),
            Expr::Literal(..) => Transformed::no(part),
            Expr::BinaryExpr(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Between(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::InList(_) => named(format!("({part})")),
            other => named(other.to_string()),
        })
    })?;
    let text = match &replaced.data {
        Expr::Column(column) => column.name.clone(),
        literal => literal.to_string(),
    };
    Ok(shortened(&text, LONGEST_COLUMN))
}

//! Intervals of a fixed length as durations: `ts - INTERVAL '10 seconds'` is then a subtraction of integers, where an
//! interval, which may hold months, takes Arrow through a calendar for every row.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// The same expression with durations where intervals without months and days are added to timestamps or subtracted
/// from them. `expr` has its types coerced.
///
/// # Errors
/// When a part of the expression has no type.
pub fn with_durations(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let rewritten = expr.transform_up(|part| {
        let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) = &part else {
            return Ok(Transformed::no(part));
        };
        let duration = match (right.as_ref(), left.get_type(schema)?) {
            (Expr::Literal(interval, _), DataType::Timestamp(unit, _)) => duration(interval, unit),
            _ => None,
        };
        Ok(match duration {
            Some(duration) => {
                let right = Box::new(Expr::Literal(duration, None));
                Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: left.clone(), op: *op, right }))
            }
            None => Transformed::no(part),
        })
    })?;
    Ok(rewritten.data)
}

/// The interval in whole units, if it is that.
fn duration(interval: &ScalarValue, unit: TimeUnit) -> Option<ScalarValue> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = interval else { return None };
    // A day may have 23 hours where there are time zones.
    if interval.months != 0 || interval.days != 0 {
        return None;
    }
    let in_units = |nanoseconds: i64| {
        (interval.nanoseconds % nanoseconds == 0).then_some(Some(interval.nanoseconds / nanoseconds))
    };
    Some(match unit {
        TimeUnit::Second => ScalarValue::DurationSecond(in_units(1_000_000_000)?),
        TimeUnit::Millisecond => ScalarValue::DurationMillisecond(in_units(1_000_000)?),
        TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(in_units(1_000)?),
        TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(in_units(1)?),
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, IntervalMonthDayNano, Schema};
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn rewritten(unit: TimeUnit, months: i32, days: i32, nanoseconds: i64) -> String {
        let fields = vec![Field::new("ts", DataType::Timestamp(unit, None), true)];
        let schema = DFSchema::try_from(Schema::new(fields)).unwrap();
        let interval = IntervalMonthDayNano::new(months, days, nanoseconds);
        let expr = col("ts") - lit(ScalarValue::IntervalMonthDayNano(Some(interval)));
        let rewritten = with_durations(expr.clone(), &schema).unwrap();
        assert_eq!(rewritten.get_type(&schema).unwrap(), expr.get_type(&schema).unwrap());
        rewritten.to_string()
    }

    #[test]
    fn a_fixed_interval_becomes_a_duration_in_the_unit_of_its_timestamp() {
        assert_eq!(rewritten(TimeUnit::Nanosecond, 0, 0, 10_000_000_000), "ts - DurationNanosecond(\"10000000000\")");
        assert_eq!(rewritten(TimeUnit::Millisecond, 0, 0, 10_000_000_000), "ts - DurationMillisecond(\"10000\")");
    }

    #[test]
    fn other_intervals_stay() {
        for (months, days, nanoseconds) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let text = rewritten(TimeUnit::Millisecond, months, days, nanoseconds);
            assert!(text.contains("IntervalMonthDayNano"), "{text}");
        }
    }
}

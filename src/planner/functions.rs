//! `tumble`, `hop` and `session`: marks in a GROUP BY that the planner turns into windowed aggregations.
//!
//! DataFusion sees scalar functions that give a `window` struct, so names, aliases and `window.start` resolve as in
//! any other query; nothing ever calls them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::operators::window::{WindowKind, window_type};

/// The three functions, by how many lengths they take.
const FUNCTIONS: [(&str, usize, &str); 3] = [
    ("tumble", 1, "tumble(INTERVAL '30 seconds')"),
    ("hop", 2, "hop(INTERVAL '10 seconds', INTERVAL '1 minute')"),
    ("session", 1, "session(INTERVAL '30 minutes')"),
];

/// One of the window functions, as DataFusion's planner knows it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(window_type())
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("{}() belongs in GROUP BY", self.name)
    }
}

/// Makes the functions known to a session.
///
/// # Errors
/// When the registry takes no functions.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for (name, ..) in FUNCTIONS {
        // Volatile, so that nothing evaluates it as a constant. Any number, so that ours is the word on a wrong one.
        let function = WindowFunction { name, signature: Signature::variadic_any(Volatility::Volatile) };
        registry.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    Ok(())
}

/// The name of the window function that `expr` calls, if it calls one.
pub fn window_function(expr: &Expr) -> Option<&'static str> {
    let Expr::ScalarFunction(call) = expr else { return None };
    FUNCTIONS.iter().find(|(name, ..)| *name == call.func.name()).map(|(name, ..)| *name)
}

/// The window that `expr` asks for, if it calls a window function.
///
/// # Errors
/// When a length is not a constant, not above zero, in months, or a hop's width is not a multiple of its slide.
pub fn window_kind(expr: &Expr) -> Result<Option<WindowKind>> {
    let Expr::ScalarFunction(call) = expr else { return Ok(None) };
    let Some((name, wanted, example)) = FUNCTIONS.iter().find(|(name, ..)| *name == call.func.name()) else {
        return Ok(None);
    };
    if call.args.len() > *wanted && matches!(call.args[0], Expr::Column(_)) {
        return plan_err!("{name}() takes no column: the time is the one of the table's WATERMARK. Write {example}");
    }
    let lengths = call.args.iter().map(|length| nanoseconds(name, length, example)).collect::<Result<Vec<i64>>>()?;
    match (*name, lengths.as_slice()) {
        ("tumble", [width]) => Ok(Some(WindowKind::Tumble { width: *width })),
        ("session", [gap]) => Ok(Some(WindowKind::Session { gap: *gap })),
        ("hop", [slide, width]) if width % slide == 0 => Ok(Some(WindowKind::Hop { slide: *slide, width: *width })),
        ("hop", [slide, width]) => plan_err!(
            "hop() takes the slide first and a width that is a multiple of it: {} is no multiple of {}",
            human(*width),
            human(*slide)
        ),
        _ => plan_err!("{name}() is written {example}"),
    }
}

/// A length of time in nanoseconds.
fn nanoseconds(name: &str, expr: &Expr, example: &str) -> Result<i64> {
    let Expr::Literal(value, _) = expr else {
        return plan_err!("{name}() takes a constant length, not {expr}: write {example}");
    };
    const MILLISECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400_000 * MILLISECOND;
    let length = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months != 0 => {
            return plan_err!("{name}() cannot take months or years, which differ in length: use days");
        }
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            i64::from(interval.days).checked_mul(DAY).and_then(|days| days.checked_add(interval.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => i64::from(interval.days)
            .checked_mul(DAY)
            .and_then(|days| days.checked_add(i64::from(interval.milliseconds) * MILLISECOND)),
        ScalarValue::DurationNanosecond(Some(length)) => Some(*length),
        _ => return plan_err!("{name}() takes an INTERVAL, not {expr}: write {example}"),
    };
    match length {
        Some(length) if length > 0 => Ok(length),
        _ => plan_err!("{name}() takes a length above zero: write {example}"),
    }
}

/// A length as a person writes it: `1m 30s`.
pub fn human(nanoseconds: i64) -> String {
    humantime::format_duration(std::time::Duration::from_nanos(nanoseconds.unsigned_abs())).to_string()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::IntervalMonthDayNano;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn call(name: &str, seconds: &[i64]) -> Expr {
        let lengths = seconds
            .iter()
            .map(|s| ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, s * 1_000_000_000))))
            .map(|value| Expr::Literal(value, None))
            .collect();
        call_with(name, lengths)
    }

    fn call_with(name: &str, arguments: Vec<Expr>) -> Expr {
        let mut session = SessionContext::new();
        register(&mut session).unwrap();
        session.udf(name).unwrap().call(arguments)
    }

    fn message(expr: &Expr) -> String {
        window_kind(expr).unwrap_err().strip_backtrace()
    }

    #[test]
    fn lengths_become_nanoseconds() {
        assert_eq!(window_kind(&call("tumble", &[30])).unwrap(), Some(WindowKind::Tumble { width: 30_000_000_000 }));
        let hop = WindowKind::Hop { slide: 10_000_000_000, width: 60_000_000_000 };
        assert_eq!(window_kind(&call("hop", &[10, 60])).unwrap(), Some(hop));
        assert_eq!(window_kind(&call("session", &[1])).unwrap(), Some(WindowKind::Session { gap: 1_000_000_000 }));
        let days = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 2, 0)));
        let kind = window_kind(&call_with("tumble", vec![Expr::Literal(days, None)])).unwrap();
        assert_eq!(kind, Some(WindowKind::Tumble { width: 2 * 86_400_000_000_000 }));
    }

    #[test]
    fn wrong_lengths_say_what_would_be_right() {
        assert!(
            message(&call("tumble", &[0]))
                .ends_with("tumble() takes a length above zero: write tumble(INTERVAL '30 seconds')")
        );
        assert!(
            message(&call("hop", &[60, 10])).ends_with(
                "hop() takes the slide first and a width that is a multiple of it: 10s is no multiple of 1m"
            )
        );
        let month = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(1, 0, 0)));
        assert!(
            message(&call_with("tumble", vec![Expr::Literal(month, None)]))
                .ends_with("tumble() cannot take months or years, which differ in length: use days")
        );
        let number = Expr::Literal(ScalarValue::Int64(Some(30)), None);
        assert!(
            message(&call_with("session", vec![number]))
                .ends_with("session() takes an INTERVAL, not Int64(30): write session(INTERVAL '30 minutes')")
        );
    }
}

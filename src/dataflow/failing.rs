//! What an expression that fails on a row means for whoever wrote it.

use datafusion::error::DataFusionError;

/// What DataFusion and Arrow say, and what to write so that such rows do not stop the pipeline.
const ADVICE: [(&str, &str); 4] = [
    ("Divide by zero", "write NULLIF(divisor, 0) where the divisor may be zero"),
    ("Cast error", "TRY_CAST(... AS ...) gives NULL where a value does not fit"),
    ("Cannot cast", "TRY_CAST(... AS ...) gives NULL where a value does not fit"),
    ("verflow", "compute in a wider type, for instance CAST(... AS DECIMAL(38, 0))"),
];

/// The error in its own words, and the advice that belongs to it.
pub fn explained(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    match ADVICE.iter().find(|(said, _)| text.contains(said)) {
        Some((_, advice)) => format!("{text}: {advice}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;

    use super::*;

    #[test]
    fn a_failing_expression_is_told_how_to_go_on() {
        let shown = |error: ArrowError| explained(&error.into());
        assert_eq!(
            shown(ArrowError::DivideByZero),
            "Arrow error: Divide by zero error: write NULLIF(divisor, 0) where the divisor may be zero"
        );
        assert_eq!(
            shown(ArrowError::CastError("Cannot cast string 'b' to value of Int32 type".into())),
            "Arrow error: Cast error: Cannot cast string 'b' to value of Int32 type: TRY_CAST(... AS ...) gives NULL where a value \
             does not fit"
        );
        let other = DataFusionError::Execution("column k is NOT NULL".into());
        assert_eq!(explained(&other), "Execution error: column k is NOT NULL");
    }
}

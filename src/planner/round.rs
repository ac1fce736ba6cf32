//! `round` with decimal places, whose result's type hangs on them.
//!
//! DataFusion's own takes 32-bit decimal places. A literal is wrapped in a cast to that, the planner then no longer sees
//! how many places it says, and declares another type than the function gives once the cast is computed. Ours takes what
//! a literal is.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::types::{NativeType, logical_float32, logical_float64, logical_int64};
use datafusion::common::{Result, internal_err};
use datafusion::execution::FunctionRegistry;
use datafusion::functions::math::round::RoundFunc;
use datafusion::logical_expr::{
    Coercion, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    TypeSignatureClass, Volatility,
};

/// DataFusion's function with other types in front of it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Round {
    inner: RoundFunc,
    signature: Signature,
}

/// Makes it known to a session, in place of DataFusion's.
///
/// # Errors
/// When the registry takes no functions.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let number = [
        Coercion::new_exact(TypeSignatureClass::Decimal),
        Coercion::new_exact(TypeSignatureClass::Integer),
        Coercion::new_exact(TypeSignatureClass::Native(logical_float32())),
        Coercion::new_implicit(
            TypeSignatureClass::Native(logical_float64()),
            vec![TypeSignatureClass::Numeric],
            NativeType::Float64,
        ),
    ];
    let places = Coercion::new_implicit(
        TypeSignatureClass::Native(logical_int64()),
        vec![TypeSignatureClass::Integer],
        NativeType::Int64,
    );
    let forms = number.into_iter().flat_map(|number| {
        let alone = TypeSignature::Coercible(vec![number.clone()]);
        [TypeSignature::Coercible(vec![number, places.clone()]), alone]
    });
    let signature = Signature::one_of(forms.collect(), Volatility::Immutable);
    registry.register_udf(Arc::new(ScalarUDF::from(Round { inner: RoundFunc::new(), signature })))?;
    Ok(())
}

impl ScalarUDFImpl for Round {
    fn name(&self) -> &str {
        "round"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("its type hangs on its arguments")
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [_, places] = arguments.args.as_mut_slice() {
            *places = places.cast_to(&DataType::Int32, None)?;
        }
        self.inner.invoke_with_args(arguments)
    }
}

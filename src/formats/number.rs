//! Numbers as text, read without losing a digit.
//!
//! One pass over the bytes gives the digits as an integer and a power of ten; what almost every number needs is then
//! an integer operation. Numbers of more than 19 digits take a slower road over their text.

use arrow::datatypes::i256;

/// A number as it stands in text: `mantissa × 10^exponent`, negated if `negative`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Whether it begins with `-`.
    pub negative: bool,
    /// The digits before and after the point, if there are at most 19 of them.
    pub mantissa: Option<u64>,
    /// The power of ten.
    pub exponent: i32,
    /// Whether the text has zeros in front of its first digit, which JSON forbids.
    pub leading_zeros: bool,
}

/// Why a number does not fit a type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Misfit {
    /// It has digits behind the point that the type cannot hold.
    Fraction,
    /// It is too large or too small.
    Range,
}

/// The greatest mantissa that a double holds exactly.
const EXACT_F64: u64 = 1 << 53;
const EXACT_F32: u64 = 1 << 24;
/// Powers of ten that a double holds exactly.
const TENS_F64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
const TENS_F32: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
const TENS: [i128; 39] = {
    let mut tens = [1i128; 39];
    let mut i = 1;
    while i < 39 {
        tens[i] = tens[i - 1] * 10;
        i += 1;
    }
    tens
};

/// No text has so many digits that a greater exponent could be made up for by them.
const LONGEST: i32 = 100_000_000;

impl<'a> Number<'a> {
    /// Reads a number at the beginning of `bytes`: a sign, digits, a fraction, an exponent, as in JSON but for leading
    /// zeros. `None` if there is none or it breaks off.
    #[inline]
    pub(crate) fn prefix(bytes: &'a [u8]) -> Option<Number<'a>> {
        let digit = |at: usize| bytes.get(at).map_or(255, |byte| byte.wrapping_sub(b'0'));
        let negative = bytes.first() == Some(&b'-');
        let first = usize::from(negative);
        let mut at = first;
        let mut mantissa = 0u64;
        while digit(at) < 10 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit(at)));
            at += 1;
        }
        let mut digits = at - first;
        if digits == 0 {
            return None;
        }
        let leading_zeros = digits > 1 && digit(first) == 0;
        let mut exponent = 0i32;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            let fraction = at;
            while digit(at) < 10 {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit(at)));
                at += 1;
            }
            if at == fraction {
                return None;
            }
            digits += at - fraction;
            exponent = -((at - fraction).min(LONGEST as usize) as i32);
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let (power, length) = power_of_ten(&bytes[at + 1..])?;
            exponent += power;
            at += 1 + length;
        }
        let mantissa = (digits <= 19).then_some(mantissa);
        Some(Number { text: &bytes[..at], negative, mantissa, exponent, leading_zeros })
    }

    /// Reads a text that is a number and nothing else.
    #[inline]
    pub(crate) fn whole(bytes: &'a [u8]) -> Option<Number<'a>> {
        Number::prefix(bytes).filter(|number| number.text.len() == bytes.len())
    }

    /// The number as an integer.
    #[inline]
    pub(crate) fn integer(&self) -> Result<i128, Misfit> {
        match self.mantissa {
            Some(mantissa) if self.exponent == 0 => {
                Ok(if self.negative { -i128::from(mantissa) } else { i128::from(mantissa) })
            }
            _ => self.decimal128(38, 0),
        }
    }

    /// The number as units of `10^-scale`, of at most `precision` digits.
    #[inline]
    pub(crate) fn decimal128(&self, precision: u8, scale: i8) -> Result<i128, Misfit> {
        let shift = i32::from(scale) + self.exponent;
        if let (Some(mantissa), 0..=18) = (self.mantissa, shift) {
            // Below 2^64 · 10^18, which an i128 holds.
            let value = i128::from(mantissa) * TENS[shift as usize];
            if value >= TENS[usize::from(precision.min(38))] {
                return Err(Misfit::Range);
            }
            return Ok(if self.negative { -value } else { value });
        }
        // At most 38 digits came back, which an i128 holds.
        self.decimal_of_any_length(precision.min(38), scale)?.to_i128().ok_or(Misfit::Range)
    }

    /// As [`Number::decimal128`], for up to 76 digits.
    pub(crate) fn decimal256(&self, precision: u8, scale: i8) -> Result<i256, Misfit> {
        self.decimal_of_any_length(precision.min(76), scale)
    }

    /// Works on the digits themselves, whatever their number.
    #[cold]
    fn decimal_of_any_length(&self, precision: u8, scale: i8) -> Result<i256, Misfit> {
        let digits = self.text.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(|b| b.is_ascii_digit());
        // The value is `significant` · 10^(exponent + trailing).
        let (mut significant, mut stored, mut trailing) = (0usize, [0u8; 80], 0usize);
        for digit in digits.map(|byte| byte - b'0').skip_while(|digit| *digit == 0) {
            if digit == 0 {
                trailing += 1;
                continue;
            }
            // The zeros since the last other digit are significant after all; `stored` holds zeros already.
            significant += trailing;
            trailing = 0;
            if let Some(slot) = stored.get_mut(significant) {
                *slot = digit;
            }
            significant += 1;
        }
        if significant == 0 {
            return Ok(i256::ZERO);
        }
        let shift = i64::from(self.exponent) + trailing as i64 + i64::from(scale);
        if shift < 0 {
            return Err(Misfit::Fraction);
        }
        if significant as i64 + shift > i64::from(precision) {
            return Err(Misfit::Range);
        }
        let ten = i256::from(10);
        let value = stored[..significant].iter().map(|digit| i256::from(i32::from(*digit)));
        let value = value.fold(i256::ZERO, |value, digit| value.wrapping_mul(ten).wrapping_add(digit));
        let value = (0..shift).fold(value, |value, _| value.wrapping_mul(ten));
        Ok(if self.negative { value.wrapping_neg() } else { value })
    }

    /// The nearest double.
    #[inline]
    pub(crate) fn float64(&self) -> Result<f64, Misfit> {
        // Both operands are exact, so that IEEE 754 rounds once and rightly (Clinger's fast path).
        if let (Some(mantissa @ 0..=EXACT_F64), -22..=22) = (self.mantissa, self.exponent) {
            let power = TENS_F64[self.exponent.unsigned_abs() as usize];
            let value = if self.exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power };
            return Ok(if self.negative { -value } else { value });
        }
        let value = std::str::from_utf8(self.text).ok().and_then(|text| text.parse::<f64>().ok());
        value.filter(|value| value.is_finite()).ok_or(Misfit::Range)
    }

    /// The nearest single-precision float.
    pub(crate) fn float32(&self) -> Result<f32, Misfit> {
        if let (Some(mantissa @ 0..=EXACT_F32), -10..=10) = (self.mantissa, self.exponent) {
            let power = TENS_F32[self.exponent.unsigned_abs() as usize];
            let value = if self.exponent < 0 { mantissa as f32 / power } else { mantissa as f32 * power };
            return Ok(if self.negative { -value } else { value });
        }
        let value = std::str::from_utf8(self.text).ok().and_then(|text| text.parse::<f32>().ok());
        value.filter(|value| value.is_finite()).ok_or(Misfit::Range)
    }
}

/// The exponent behind an `e`, and its length in bytes.
fn power_of_ten(bytes: &[u8]) -> Option<(i32, usize)> {
    let signed = matches!(bytes.first(), Some(b'+' | b'-'));
    let digits = bytes[usize::from(signed)..].iter().take_while(|byte| byte.is_ascii_digit());
    let (mut power, mut length) = (0i32, 0);
    for digit in digits {
        power = (power * 10 + i32::from(digit - b'0')).min(LONGEST);
        length += 1;
    }
    if length == 0 {
        return None;
    }
    Some((if bytes[0] == b'-' { -power } else { power }, usize::from(signed) + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number<'_> {
        Number::whole(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(number("149.97").decimal128(12, 2), Ok(14997));
        assert_eq!(number("-0.50").decimal128(12, 2), Ok(-50));
        assert_eq!(number("1.500").decimal128(12, 2), Ok(150));
        assert_eq!(number("1.505").decimal128(12, 2), Err(Misfit::Fraction));
        assert_eq!(number("1e3").decimal128(12, 2), Ok(100_000));
        assert_eq!(number("9999999999.99").decimal128(12, 2), Ok(999_999_999_999));
        assert_eq!(number("10000000000").decimal128(12, 2), Err(Misfit::Range));
        assert_eq!(number("12345678901234567890123456789012345678").decimal128(38, 0).map(|v| v % 1000), Ok(678));
        assert_eq!(number("0e999999999").decimal128(38, 0), Ok(0));
        assert_eq!(number("100000000000000000000.00").decimal128(38, 0), Ok(100_000_000_000_000_000_000));
        let nines = "9".repeat(76);
        assert_eq!(number(&nines).decimal256(76, 0).map(|v| v.to_string()), Ok(nines));
        assert_eq!(number(&"9".repeat(77)).decimal256(76, 0), Err(Misfit::Range));
    }

    #[test]
    fn integers_may_be_written_with_a_point() {
        assert_eq!(number("12.0").integer(), Ok(12));
        assert_eq!(number("1.5").integer(), Err(Misfit::Fraction));
        assert_eq!(number("-18446744073709551615").integer(), Ok(-18_446_744_073_709_551_615));
        assert_eq!(number("18446744073709551616").integer(), Ok(18_446_744_073_709_551_616));
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", "-", "+1", ".5", "1.", "1e", "1e+", "abc", "1x", "--1", "1.2.3", "NaN"] {
            assert!(Number::whole(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn floats_beyond_range_do_not_become_infinite() {
        assert_eq!(number("1e400").float64(), Err(Misfit::Range));
        assert_eq!(number("1e39").float32(), Err(Misfit::Range));
        assert_eq!(number("1e-400").float64(), Ok(0.0));
    }

    proptest! {
        #[test]
        fn floats_are_read_as_the_standard_library_reads_them(text in "-?[0-9]{1,22}(\\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?") {
            let expected: f64 = text.parse().unwrap_or(f64::NAN);
            match number(&text).float64() {
                Ok(value) => prop_assert_eq!(value.to_bits(), expected.to_bits()),
                Err(_) => prop_assert!(expected.is_infinite()),
            }
            let expected: f32 = text.parse().unwrap_or(f32::NAN);
            match number(&text).float32() {
                Ok(value) => prop_assert_eq!(value.to_bits(), expected.to_bits()),
                Err(_) => prop_assert!(expected.is_infinite()),
            }
        }

        #[test]
        fn a_decimal_is_read_as_it_was_printed(value in any::<i128>(), scale in 0usize..=38) {
            let value = value % TENS[38];
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let point = if scale > 0 { "." } else { "" };
            let text = format!("{}{whole}{point}{fraction}", if value < 0 { "-" } else { "" });
            prop_assert_eq!(number(&text).decimal128(38, scale as i8), Ok(value));
            prop_assert_eq!(number(&text).decimal256(76, scale as i8), Ok(i256::from_i128(value)));
        }
    }
}

//! PostgreSQL's binary `numeric`: groups of four decimal digits, as `numeric_send` documents in its source.
//!
//! Layout, all 16 bits and big-endian: number of groups, weight of the first group (powers of 10,000), sign, number of
//! digits after the point, then the groups.

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// Appends `value / 10^scale`, with its length in front.
pub fn put_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let sign = if value < 0 { NEGATIVE } else { 0 };
    let magnitude = value.unsigned_abs();
    let digits_after_point = u16::try_from(scale).unwrap_or(0);
    let pad = u32::from((4 - digits_after_point % 4) % 4);
    let shift = if scale < 0 { u32::from(scale.unsigned_abs()) } else { pad };
    // Nearly every value fits 64 bits, where division is cheap.
    let aligned = u64::try_from(magnitude).ok().zip(10_u64.checked_pow(shift)).and_then(|(m, by)| m.checked_mul(by));
    let Some(mut rest) = aligned else {
        return put_text(&decimal_text(value, scale), out);
    };
    let mut groups = [0_u16; 5];
    let mut first = groups.len();
    while rest > 0 {
        first -= 1;
        groups[first] = (rest % 10_000) as u16;
        rest /= 10_000;
    }
    let groups_after_point = (u32::from(digits_after_point) + pad) as i16 / 4;
    let weight = (groups.len() - first) as i16 - groups_after_point - 1;
    put(&groups[first..], weight, sign, digits_after_point, out);
}

/// Appends the number that `text` spells (`-12.5`, `1e20`, `NaN`, `inf`), with its length in front. The caller gives
/// only what Arrow or Rust printed, so there is nothing to refuse.
pub fn put_text(text: &str, out: &mut Vec<u8>) {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (NEGATIVE, rest),
        None => (0, text),
    };
    match text {
        "NaN" => return put(&[], 0, NAN, 0, out),
        "inf" => return put(&[], 0, if sign == 0 { INFINITY } else { NEGATIVE_INFINITY }, 0, out),
        _ => {}
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte.wrapping_sub(b'0')).collect();
    // The point stands before the digit with this index.
    let mut point = whole.len() as i32 + exponent;
    if point < 0 {
        digits.splice(0..0, std::iter::repeat_n(0, point.unsigned_abs() as usize));
        point = 0;
    }
    if point as usize > digits.len() {
        digits.resize(point as usize, 0);
    }
    let digits_after_point = (digits.len() as i32 - point) as u16;
    let lead = (4 - point % 4) % 4;
    digits.splice(0..0, std::iter::repeat_n(0, lead as usize));
    digits.resize(digits.len().next_multiple_of(4), 0);
    let groups: Vec<u16> =
        digits.chunks(4).map(|group| group.iter().fold(0, |all, digit| all * 10 + u16::from(*digit))).collect();
    let weight = ((point + lead) / 4 - 1) as i16;
    let skip = groups.iter().take_while(|group| **group == 0).count();
    put(&groups[skip..], weight - skip as i16, sign, digits_after_point, out);
}

fn put(groups: &[u16], weight: i16, sign: u16, digits_after_point: u16, out: &mut Vec<u8>) {
    let kept = groups.iter().rposition(|group| *group != 0).map_or(0, |last| last + 1);
    // Zero has no sign and no weight.
    let (weight, sign) = if kept == 0 && sign < NAN { (0, 0) } else { (weight, sign) };
    out.extend((8 + 2 * kept as i32).to_be_bytes());
    out.extend((kept as u16).to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(digits_after_point.to_be_bytes());
    for group in &groups[..kept] {
        out.extend(group.to_be_bytes());
    }
}

fn decimal_text(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    if scale <= 0 {
        return format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs())));
    }
    let scale = scale as usize;
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the layout back, by the definition: the sum of group × 10000^(weight − index).
    fn read(bytes: &[u8]) -> String {
        let word = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(i32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
        let (count, weight, sign, after) = (word(4), word(6), word(8) as u16, word(10) as usize);
        assert_eq!(bytes.len(), 12 + 2 * count as usize);
        let group = |power: i16| {
            let index = weight - power;
            if (0..count).contains(&index) { word(12 + 2 * index as usize) } else { 0 }
        };
        let whole: String = (0..=weight.max(0)).rev().map(|power| format!("{:04}", group(power))).collect();
        let fraction: String = (1..=after.div_ceil(4) as i16).map(|power| format!("{:04}", group(-power))).collect();
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let sign = if sign == NEGATIVE { "-" } else { "" };
        if after == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{}", &fraction[..after]) }
    }

    fn decimal(value: i128, scale: i8) -> String {
        let mut out = vec![];
        put_decimal(value, scale, &mut out);
        read(&out)
    }

    fn text(text: &str) -> String {
        let mut out = vec![];
        put_text(text, &mut out);
        read(&out)
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal(0, 2), "0.00");
        assert_eq!(decimal(-1, 2), "-0.01");
        assert_eq!(decimal(1_234_567, 2), "12345.67");
        assert_eq!(decimal(10_000, 0), "10000");
        assert_eq!(decimal(12, -3), "12000");
        assert_eq!(decimal(i128::MAX, 38), "1.70141183460469231731687303715884105727");
        assert_eq!(decimal(i128::MIN, 0), "-170141183460469231731687303715884105728");
    }

    #[test]
    fn text_keeps_every_digit() {
        assert_eq!(text("0.1"), "0.1");
        assert_eq!(text("-12.5"), "-12.5");
        assert_eq!(text("1e20"), "100000000000000000000");
        assert_eq!(text("1.5e-7"), "0.00000015");
        assert_eq!(text("0"), "0");
    }

    proptest! {
        #[test]
        fn both_ways_agree(value: i128, scale in 0_i8..=38) {
            let (mut a, mut b) = (vec![], vec![]);
            put_decimal(value, scale, &mut a);
            put_text(&decimal_text(value, scale), &mut b);
            prop_assert_eq!(&a, &b);
            prop_assert_eq!(read(&a), decimal_text(value, scale));
        }

        #[test]
        fn small_ones_too(value: i32, scale in 0_i8..=12) {
            prop_assert_eq!(decimal(value.into(), scale), decimal_text(value.into(), scale));
        }
    }
}

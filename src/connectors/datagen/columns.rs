//! The values of one column: a function of its seed and the row's number.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::{parse_decimal, string_to_datetime};
use arrow::datatypes::{DataType, Decimal128Type};
use arrow::error::ArrowError;
use chrono::Utc;

use crate::catalog::options::{OptionValue, Options, closest, parse_duration};
use crate::connectors::made_up::{Numbers, mix};
use crate::sql::Location;

/// What the options say about one column.
#[derive(Default)]
pub(super) struct ColumnOptions {
    kind: Option<OptionValue>,
    start: Option<OptionValue>,
    end: Option<OptionValue>,
    step: Option<OptionValue>,
    min: Option<OptionValue>,
    max: Option<OptionValue>,
    length: Option<OptionValue>,
    values: Option<OptionValue>,
    null_rate: Option<OptionValue>,
}

const SETTINGS: [&str; 9] = ["kind", "start", "end", "step", "min", "max", "length", "values", "null_rate"];

impl ColumnOptions {
    /// Notes `fields.COLUMN.setting`.
    pub(super) fn set(&mut self, setting: &str, value: &OptionValue, options: &mut Options) {
        let place = match setting {
            "kind" => &mut self.kind,
            "start" => &mut self.start,
            "end" => &mut self.end,
            "step" => &mut self.step,
            "min" => &mut self.min,
            "max" => &mut self.max,
            "length" => &mut self.length,
            "values" => &mut self.values,
            "null_rate" | "null-rate" => &mut self.null_rate,
            _ => {
                let help = match closest(setting, SETTINGS) {
                    Some(known) => format!("did you mean '{known}'?"),
                    None => format!("it takes {}", SETTINGS.join(", ")),
                };
                let message = format!("option 'fields.{}': a column has no setting '{setting}'", value.key);
                return options.error(value.key_location, message, Some(help));
            }
        };
        *place = Some(value.clone());
    }
}

/// What is wrong with a column's options, and what would be right.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The option's place; `None` is the column's.
    pub(super) location: Option<Location>,
    pub(super) message: String,
    pub(super) help: String,
}

/// Makes the values of a column.
#[derive(Debug)]
pub(super) struct Generator {
    data_type: DataType,
    seed: u64,
    /// In 2⁻³² steps.
    null_rate: u64,
    values: Values,
    rows: Option<u64>,
}

/// What the values are, before they are cast to the column's type. Times are in nanoseconds.
#[derive(Debug)]
enum Values {
    Sequence { start: i64, step: i64 },
    RandomInteger { min: i64, max: i64 },
    RandomFloat { min: f64, max: f64 },
    RandomDecimal { min: i128, max: i128, precision: u8, scale: i8 },
    RandomBoolean,
    RandomText { length: usize },
    OneOf(Vec<String>),
    Now,
}

impl Generator {
    /// A generator for a column of this type.
    pub(super) fn new(data_type: &DataType, seed: u64, options: &ColumnOptions) -> Result<Generator, Mistake> {
        let kinds: &[&str] = match data_type {
            DataType::Timestamp(..) => &["now", "sequence"],
            DataType::Boolean | DataType::Decimal128(..) | DataType::Float32 | DataType::Float64 => &["random"],
            _ if data_type.is_integer() || is_text(data_type) => &["random", "sequence"],
            _ => {
                return Err(Mistake {
                    location: None,
                    message: format!("connector 'datagen' makes no values of type {data_type}"),
                    help: "it makes integers, floats, decimals, booleans, text and timestamps".into(),
                });
            }
        };
        let kind = match &options.kind {
            Some(kind) if !kinds.contains(&kind.text.as_str()) => {
                return Err(mistake(kind, &format!("'{}' for type {data_type}", kinds.join("' or '"))));
            }
            Some(kind) => kind.text.as_str(),
            None => kinds[0],
        };
        let (values, rows) = match (&options.values, kind) {
            (Some(words), "random") => {
                (Values::OneOf(words.text.split(',').map(|word| word.trim().to_owned()).collect()), None)
            }
            (_, "sequence") => sequence(data_type, options)?,
            (_, "now") => (Values::Now, None),
            _ => (random(data_type, options)?, None),
        };
        let null_rate = number(&options.null_rate, 0.0, "a share from 0 to 1", |rate| (0.0..=1.0).contains(rate))?;
        let null_rate = (null_rate * (1_u64 << 32) as f64) as u64;
        let generator = Generator { data_type: data_type.clone(), seed, null_rate, values, rows };
        if let (Some(words), Values::OneOf(list)) = (&options.values, &generator.values) {
            let strict = arrow::compute::CastOptions { safe: false, ..Default::default() };
            if arrow::compute::cast_with_options(&StringArray::from(list.clone()), data_type, &strict).is_err() {
                return Err(mistake(words, &format!("values of type {data_type}, separated by commas")));
            }
        }
        Ok(generator)
    }

    /// How many rows there are, if the column is a sequence with an end.
    pub(super) fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// Whether some values are null.
    pub(super) fn makes_nulls(&self) -> bool {
        self.null_rate > 0
    }

    /// The values of these rows.
    pub(super) fn make(&self, rows: Numbers) -> Result<ArrayRef, ArrowError> {
        let rows = rows.iter();
        let is_null = |row: u64| mix(self.seed ^ mix(!row)) >> 32 < self.null_rate;
        let dice = |row: u64| mix(self.seed ^ mix(row));
        let array: ArrayRef = match &self.values {
            Values::Sequence { start, step } => {
                let value = |row| start.wrapping_add(step.wrapping_mul(row as i64));
                Arc::new(rows.map(|row| (!is_null(row)).then(|| value(row))).collect::<Int64Array>())
            }
            Values::RandomInteger { min, max } => {
                let width = (i128::from(*max) - i128::from(*min) + 1) as u128;
                let value = |row| (i128::from(*min) + ((u128::from(dice(row)) * width) >> 64) as i128) as i64;
                Arc::new(rows.map(|row| (!is_null(row)).then(|| value(row))).collect::<Int64Array>())
            }
            Values::RandomFloat { min, max } => {
                let value = |row| min + (dice(row) >> 11) as f64 / (1_u64 << 53) as f64 * (max - min);
                Arc::new(rows.map(|row| (!is_null(row)).then(|| value(row))).collect::<Float64Array>())
            }
            Values::RandomDecimal { min, max, precision, scale } => {
                let width = (max - min) as u128 + 1;
                let value = |row| min + (u128::from(dice(row)) % width) as i128;
                let array: Decimal128Array = rows.map(|row| (!is_null(row)).then(|| value(row))).collect();
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Values::RandomBoolean => {
                Arc::new(rows.map(|row| (!is_null(row)).then(|| dice(row) >> 63 == 1)).collect::<BooleanArray>())
            }
            Values::RandomText { length } => {
                let mut text = String::new();
                Arc::new(
                    rows.map(|row| {
                        (!is_null(row)).then(|| {
                            letters(dice(row), *length, &mut text);
                            text.clone()
                        })
                    })
                    .collect::<StringArray>(),
                )
            }
            Values::OneOf(words) => {
                let word = |row| &words[((u128::from(dice(row)) * words.len() as u128) >> 64) as usize];
                Arc::new(rows.map(|row| (!is_null(row)).then(|| word(row))).collect::<StringArray>())
            }
            Values::Now => {
                let now = Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
                Arc::new(rows.map(|row| (!is_null(row)).then_some(now)).collect::<Int64Array>())
            }
        };
        match &self.data_type {
            DataType::Timestamp(..) if !matches!(self.values, Values::OneOf(_)) => {
                let nanos = cast(&array, &DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None))?;
                cast(&nanos, &self.data_type)
            }
            data_type => cast(&array, data_type),
        }
    }
}

fn sequence(data_type: &DataType, options: &ColumnOptions) -> Result<(Values, Option<u64>), Mistake> {
    let (start, step, end) = if matches!(data_type, DataType::Timestamp(..)) {
        let time = |option: &Option<OptionValue>| match option {
            None => Ok(None),
            Some(option) => string_to_datetime(&Utc, &option.text)
                .ok()
                .and_then(|time| time.timestamp_nanos_opt())
                .map(Some)
                .ok_or_else(|| mistake(option, "a time such as '2024-01-01T00:00:00Z'")),
        };
        let step = match &options.step {
            None => Duration::from_secs(1),
            Some(step) => parse_duration(&step.text)
                .filter(|step| !step.is_zero())
                .ok_or_else(|| mistake(step, "a length of time such as '1 second'"))?,
        };
        let step = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX);
        (time(&options.start)?.unwrap_or(0), step, time(&options.end)?)
    } else {
        let end = match &options.end {
            None => None,
            end => Some(number(end, 0_i64, "a whole number", |_| true)?),
        };
        let start = number(&options.start, 0_i64, "a whole number", |_| true)?;
        (start, number(&options.step, 1_i64, "a whole number above 0", |step| *step > 0)?, end)
    };
    let rows = end.map(|end| ((i128::from(end) - i128::from(start)) / i128::from(step) + 1).max(0) as u64);
    Ok((Values::Sequence { start, step }, rows.filter(|_| end >= Some(start)).or(end.map(|_| 0))))
}

fn random(data_type: &DataType, options: &ColumnOptions) -> Result<Values, Mistake> {
    let values = match data_type {
        DataType::Boolean => Values::RandomBoolean,
        DataType::Float32 | DataType::Float64 => {
            let expected = "a number";
            let (min, max) =
                (number(&options.min, 0.0, expected, |_| true)?, number(&options.max, 1e6, expected, |_| true)?);
            Values::RandomFloat { min, max }
        }
        DataType::Decimal128(precision, scale) => {
            let parse = |option: &Option<OptionValue>, default: i128| match option {
                None => Ok(default),
                Some(option) => parse_decimal::<Decimal128Type>(&option.text, *precision, *scale)
                    .map_err(|_| mistake(option, &format!("a number that fits {data_type}"))),
            };
            let largest = 10_i128.pow(u32::from(*precision)) - 1;
            let million = 10_i128.saturating_pow(6 + u32::from(scale.unsigned_abs()));
            let (min, max) = (parse(&options.min, 0)?, parse(&options.max, million.min(largest))?);
            Values::RandomDecimal { min, max, precision: *precision, scale: *scale }
        }
        _ if is_text(data_type) => {
            let length = number(&options.length, 16_usize, "a number from 1 to 65536", |n| (1..=65536).contains(n))?;
            Values::RandomText { length }
        }
        _ => {
            let (lowest, highest) = limits(data_type);
            let expected = format!("a whole number from {lowest} to {highest}");
            let fits = |number: &i64| (lowest..=highest).contains(number);
            let min = number(&options.min, 0_i64, &expected, fits)?;
            let max = number(&options.max, highest.min(1_000_000), &expected, fits)?;
            Values::RandomInteger { min, max }
        }
    };
    let in_order = match &values {
        Values::RandomInteger { min, max } => min <= max,
        Values::RandomFloat { min, max } => min <= max,
        Values::RandomDecimal { min, max, .. } => min <= max,
        _ => true,
    };
    match options.max.as_ref().or(options.min.as_ref()) {
        Some(option) if !in_order => Err(mistake(option, "a 'min' that is not above 'max'")),
        _ => Ok(values),
    }
}

/// What an integer type holds, as far as 64 bits with a sign go.
fn limits(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn number<T: std::str::FromStr>(
    option: &Option<OptionValue>,
    default: T,
    expected: &str,
    fits: impl Fn(&T) -> bool,
) -> Result<T, Mistake> {
    let Some(option) = option else { return Ok(default) };
    option.text.trim().parse().ok().filter(fits).ok_or_else(|| mistake(option, expected))
}

fn mistake(option: &OptionValue, expected: &str) -> Mistake {
    Mistake {
        location: Some(option.location),
        message: format!("option 'fields.{}' does not take '{}'", option.key, option.text),
        help: format!("it takes {expected}"),
    }
}

fn letters(dice: u64, length: usize, text: &mut String) {
    text.clear();
    let mut rest = dice;
    for place in 0..length {
        // 64 bits are enough for 12 letters.
        if place % 12 == 0 {
            rest = mix(dice.wrapping_add(place as u64));
        }
        text.push(char::from(b'a' + (rest % 26) as u8));
        rest /= 26;
    }
}

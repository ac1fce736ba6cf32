//! What windows and aggregates mean, row by row in plain Rust: the operators must agree with this.

use std::collections::BTreeMap;

use crate::operators::window::WindowKind;

/// An input row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) key: Option<String>,
    pub(super) value: Option<i64>,
    pub(super) weight: Option<f64>,
    pub(super) text: Option<String>,
    pub(super) flag: Option<bool>,
    pub(super) time: i64,
    /// The watermark that the row is judged by.
    pub(super) watermark: i64,
}

/// A window of a group, with its rows.
type Windows = BTreeMap<(i64, i64, Option<String>), Vec<Row>>;

/// Puts rows into windows; returns the ids of the late ones too.
pub(super) fn windows(window: WindowKind, grouped: bool, rows: &[Row]) -> (Windows, Vec<i64>) {
    let key = |row: &Row| if grouped { row.key.clone() } else { None };
    if let WindowKind::Session { gap } = window {
        return sessions(gap, key, rows);
    }
    let (mut windows, mut late) = (Windows::new(), vec![]);
    for row in rows {
        let mut open = 0;
        for (start, end) in spans(window, row.time) {
            let closes_at = match window {
                WindowKind::Instant => row.time,
                WindowKind::Global => i64::MAX,
                _ => end - 1,
            };
            if closes_at > row.watermark {
                open += 1;
                windows.entry((start, end, key(row))).or_default().push(row.clone());
            }
        }
        if open == 0 {
            late.push(row.id);
        }
    }
    (windows, late)
}

fn spans(window: WindowKind, time: i64) -> Vec<(i64, i64)> {
    match window {
        WindowKind::Tumble { width } => spans(WindowKind::Hop { slide: width, width }, time),
        WindowKind::Hop { slide, width } => ((time - width - slide)..=time)
            .filter(|start| start.rem_euclid(slide) == 0 && *start + width > time)
            .map(|start| (start, start + width))
            .collect(),
        WindowKind::Instant => vec![(time, time)],
        WindowKind::Global => vec![(0, 0)],
        WindowKind::Session { .. } => unreachable!("sessions have no fixed spans"),
    }
}

/// One stream in order of the rows' watermarks, session by session: the definition for a single split.
fn sessions(gap: i64, key: impl Fn(&Row) -> Option<String>, rows: &[Row]) -> (Windows, Vec<i64>) {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.watermark);
    let mut open: Vec<(i64, i64, Option<String>, Vec<Row>)> = vec![];
    let (mut done, mut late) = (vec![], vec![]);
    for row in rows {
        let (closed, still): (Vec<_>, Vec<_>) = open.into_iter().partition(|session| session.1 - 1 <= row.watermark);
        done.extend(closed);
        open = still;
        if row.time + gap - 1 <= row.watermark {
            late.push(row.id);
            continue;
        }
        let mut new = (row.time, row.time + gap, key(&row), vec![row]);
        let (met, others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|old| old.2 == new.2 && old.0 < new.1 && new.0 < old.1);
        for old in met {
            new = (new.0.min(old.0), new.1.max(old.1), new.2, [new.3, old.3].concat());
        }
        open = others;
        open.push(new);
    }
    done.extend(open);
    (done.into_iter().map(|(start, end, key, rows)| ((start, end, key), rows)).collect(), late)
}

/// The results of `super::harness::aggregates` for one group's rows, as text.
pub(super) fn results(rows: &[Row]) -> Vec<String> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.id);
    let mut values: Vec<i64> = rows.iter().filter_map(|row| row.value).collect();
    let weights: Vec<f64> = rows.iter().filter_map(|row| row.weight).collect();
    let texts: Vec<&String> = rows.iter().filter_map(|row| row.text.as_ref()).collect();
    let flagged: Vec<i64> = rows.iter().filter(|row| row.flag == Some(true)).filter_map(|row| row.value).collect();
    let all_values: Vec<String> = {
        let mut all: Vec<String> = rows.iter().map(|row| show(row.value)).collect();
        all.sort();
        all
    };
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut columns = vec![
        values.len().to_string(),
        show((!values.is_empty()).then(|| values.iter().sum::<i64>())),
        show(values.iter().min()),
        show(values.iter().max()),
        show((!flagged.is_empty()).then(|| flagged.iter().sum::<i64>())),
    ];
    values.sort_unstable();
    values.dedup();
    columns.push(values.len().to_string());
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    columns.push(show_float((!weights.is_empty()).then_some(mean)));
    let spread = weights.iter().map(|weight| (weight - mean).powi(2)).sum::<f64>() / (weights.len() as f64 - 1.0);
    columns.push(show_float((weights.len() > 1).then(|| spread.sqrt())));
    columns.push(show_float(median(weights)));
    columns.push(show(texts.iter().min()));
    columns.push(show(texts.iter().max()));
    let mut distinct = texts.clone();
    distinct.sort_unstable();
    distinct.dedup();
    columns.push(distinct.len().to_string());
    columns.push(format!("[{}]", all_values.join(", ")));
    columns.push(format!("{ids:?}"));
    columns.push(show(ids.last()));
    columns.push(show(ids.get(1)));
    columns.push(show((!texts.is_empty()).then(|| texts.iter().map(|text| text.as_str()).collect::<String>())));
    columns
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

pub(super) fn show<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

pub(super) fn show_float(value: Option<f64>) -> String {
    show(value.map(|value| format!("{:.6}", if value == 0.0 { 0.0 } else { value })))
}

//! Where the splits of an embedded topic are read from and to, and whether what a checkpoint says of them still holds.

use std::path::Path;
use std::sync::Arc;

use super::cursor::Cursor;
use super::topic::{Extent, Topic};
use super::{PARTITIONS, what};
use crate::connectors::kafka::options::Start;
use crate::connectors::kafka::origin::{self, Origin, WAY_OUT};
use crate::connectors::kafka::splits::{self, BEGINNING, Range, SplitId};
use crate::connectors::{ConnectorError, SourceContext};

/// For each split of the topic that this instance reads, where to begin, and where to end if it is bounded. `origin` is
/// that of the folder, with this topic in it.
///
/// # Errors
/// [`ConnectorError::Mismatch`] when the checkpoint's positions mean nothing here, and that is not accepted.
pub(super) fn ranges(
    topic: &Arc<Topic>,
    folder: &Path,
    start: &Start,
    origin: &Origin,
    context: &SourceContext,
) -> Result<Vec<Range>, ConnectorError> {
    let positions = &context.positions;
    let is_known = positions.keys().filter_map(|name| SplitId::parse(name)).any(|split| split.topic == topic.name);
    let has_offsets = splits::offsets(positions).any(|(split, _)| split.topic == topic.name);
    let before = Origin::parse(context.origin.as_deref().unwrap_or_default());
    let mismatch = origin.mismatch(&before, &topic.name).filter(|_| has_offsets);
    if let Some(message) = &mismatch {
        let what = what(folder);
        if !context.accept_lost_input {
            return Err(ConnectorError::Mismatch { what, message: message.clone() });
        }
        tracing::warn!("{what}: {message}: accepted");
    }
    let extent = topic.extent();
    let mut ranges = vec![];
    for partition in 0..PARTITIONS {
        let split = SplitId { topic: topic.name.clone(), partition: partition as i32 };
        if !split.belongs_to(context.instance, context.instances) {
            continue;
        }
        let start = match splits::restored(positions, &split) {
            _ if mismatch.is_some() => BEGINNING,
            Some(BEGINNING) => BEGINNING,
            Some(position) => nearest(&split, position, &extent, folder, context.accept_lost_input)?,
            // An older version's checkpoint, which has no position of partitions without records.
            None if before.is_new(&split, is_known) => BEGINNING,
            None => match start {
                Start::Earliest => BEGINNING,
                Start::Latest => extent.next[partition],
                Start::Offsets(offsets) => match offsets.get(&(partition as i32)) {
                    Some(offset) => nearest(&split, *offset, &extent, folder, context.accept_lost_input)?,
                    None => BEGINNING,
                },
                Start::Timestamp(millis) => {
                    let first = extent.first()[partition];
                    let found = Cursor::new(Arc::clone(topic), partition, first).find_time(&extent, *millis)?;
                    found.unwrap_or(extent.next[partition])
                }
            },
        };
        ranges.push(Range { split, start, end: context.bounded.then_some(extent.next[partition]) });
    }
    Ok(ranges)
}

/// `next` if the partition has it, or what is nearest if that is accepted.
///
/// # Errors
/// [`ConnectorError::Mismatch`] when it is not.
pub(super) fn nearest(
    split: &SplitId,
    next: i64,
    extent: &Extent,
    folder: &Path,
    accept_lost_input: bool,
) -> Result<i64, ConnectorError> {
    let partition = split.partition as usize;
    let Some(gap) = origin::gap(split, next, extent.first()[partition], extent.next[partition]) else {
        return Ok(next);
    };
    let (what, message) = (what(folder), gap.message);
    if !accept_lost_input {
        return Err(ConnectorError::Mismatch { what, message: format!("{message}. {WAY_OUT}") });
    }
    tracing::warn!("{what}: {message}; going on without them, as --accept-lost-input says");
    Ok(gap.nearest)
}

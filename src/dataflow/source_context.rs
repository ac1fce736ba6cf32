//! What a source is told when it opens, and how many instances of it there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::graph::{Graph, NodeId, NodeKind, SourceNode};
use super::{RunError, RunOptions};
use crate::catalog::{BadRows, MetadataKey};
use crate::checkpoint::state::{EpochState, SourceState};
use crate::connectors::SourceContext;

/// Asks all sources at once how many instances each is worth.
///
/// # Errors
/// What a source says.
pub async fn source_instances(
    graph: &Graph,
    options: &RunOptions,
    stop: &CancellationToken,
    start: Option<&EpochState>,
) -> Result<BTreeMap<NodeId, usize>, RunError> {
    let asked = graph.nodes.iter().enumerate().filter_map(|(index, node)| {
        let NodeKind::Source(source) = &node.kind else { return None };
        let context = source_context(source, &node.name, options, stop, (0, 1), start, false);
        Some(async move {
            let instances = source.factory.instances(&context, options.parallelism.max(1)).await;
            let instances = instances.map_err(|source| RunError::Connector { node: node.name.clone(), source })?;
            Ok::<_, RunError>((NodeId(index), instances.max(1)))
        })
    });
    Ok(try_join_all(asked).await?.into_iter().collect())
}

/// What instance `instance` of `instances` of a source is told when it opens.
pub fn source_context(
    node: &SourceNode,
    name: &str,
    options: &RunOptions,
    stop: &CancellationToken,
    (instance, instances): (usize, usize),
    start: Option<&EpochState>,
    accept_lost_input: bool,
) -> SourceContext {
    let known = restored(name, start);
    let letters = node.dead_letters.as_ref().filter(|_| matches!(node.settings.bad_rows, BadRows::Table(_)));
    let wants = |key: MetadataKey, name: &str| {
        node.metadata.iter().any(|(used, _)| *used == key)
            || letters.is_some_and(|letters| letters.column_with_name(name).is_some())
    };
    SourceContext {
        table: node.table.clone(),
        pipeline: options.pipeline.clone(),
        instance,
        instances,
        bounded: options.bounded,
        schema: Arc::clone(&node.physical),
        wants_keys: wants(MetadataKey::Key, "key"),
        wants_timestamps: wants(MetadataKey::Timestamp, "timestamp"),
        wants_headers: wants(MetadataKey::Headers, "headers"),
        batch_size: options.batch_size.max(1),
        positions: known.map(|source| source.positions.clone()).unwrap_or_default(),
        origin: known.and_then(|source| source.origin.clone()),
        split_origins: known.map(|source| source.split_origins.clone()).unwrap_or_default(),
        accept_lost_input,
        data_dir: options.data_dir.clone(),
        stop: stop.clone(),
    }
}

/// Where a source stood.
pub fn restored<'a>(name: &str, start: Option<&'a EpochState>) -> Option<&'a SourceState> {
    start.and_then(|start| start.sources.get(name))
}

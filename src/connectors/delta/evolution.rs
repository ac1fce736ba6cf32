//! The columns that the SQL wants and those that a Delta table has: how a new table is described, and what must be added
//! to one that is there.
//!
//! Columns that are new in the SQL are added, and may be null: the older files have none. Nothing is ever taken away. A
//! table that others have given rules that this sink does not keep, such as generated columns, is refused.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake_core::kernel::{Action, Metadata, MetadataExt, Protocol, StructType, new_metadata};
use serde_json::{Value, json};

use super::options::UpkeepOptions;
use super::types::{is_same, sql_name};
use super::upkeep::COMMITS_KEPT;

/// Features of a table that change nothing for a writer that only appends.
const HARMLESS: &[&str] = &[
    "appendOnly",
    "invariants",
    "changeDataFeed",
    "timestampNtz",
    "deletionVectors",
    "domainMetadata",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "checkConstraints",
    "generatedColumns",
    "identityColumns",
    "columnMapping",
];

/// The log speaks of files that were taken out for so long after the retention: long enough for the upkeep to remove them.
const UNTIL_VACUUMED: Duration = Duration::from_secs(24 * 3600);

/// What the SQL wants of a table.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Every column, with the types that are stored.
    pub(super) schema: SchemaRef,
    pub(super) partition_by: Vec<String>,
    pub(super) upkeep: UpkeepOptions,
    /// The property that names the checkpoint log; none without checkpoints.
    pub(super) log: Option<(String, String)>,
}

/// What must be committed so that a table is as wanted.
#[derive(Default, Debug)]
pub(super) struct Change {
    pub(super) metadata: Option<Metadata>,
    pub(super) protocol: Option<Protocol>,
}

impl Change {
    /// Whether nothing need be done.
    pub(super) fn is_empty(&self) -> bool {
        self.metadata.is_none() && self.protocol.is_none()
    }

    /// The change as actions of a commit.
    pub(super) fn actions(self) -> impl Iterator<Item = Action> {
        self.protocol.map(Action::Protocol).into_iter().chain(self.metadata.map(Action::Metadata))
    }
}

impl Wanted {
    /// A table that is not there yet.
    ///
    /// # Errors
    /// What a Delta table cannot hold.
    pub(super) fn new_table(&self) -> Result<Change, String> {
        let columns = kernel_schema(&self.schema)?;
        let metadata = new_metadata(&columns, &self.partition_by, self.properties());
        let metadata = metadata.map_err(|error| error.to_string())?;
        let protocol = if has_ntz(&self.schema) {
            json!({
                "minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
            })
        } else {
            json!({"minReaderVersion": 1, "minWriterVersion": 2})
        };
        let protocol = serde_json::from_value(protocol).map_err(|error| error.to_string())?;
        Ok(Change { metadata: Some(metadata), protocol: Some(protocol) })
    }

    /// What a table lacks that is there.
    ///
    /// # Errors
    /// Why it cannot be made fit, with what would be right.
    pub(super) fn change_of(&self, metadata: &Metadata, protocol: &Protocol) -> Result<Change, String> {
        let description = Description::of(metadata)?;
        refuse_foreign_rules(&description, protocol)?;
        let here = description.partitions();
        if here != self.partition_by {
            return Err(format!(
                "it is partitioned by {}, but 'partition_by' says {}: a table keeps its partitions. Write 'partition_by' \
                 as it is there, or name another 'path'",
                shown(&here),
                shown(&self.partition_by)
            ));
        }
        let found = description.schema()?;
        let added = self.columns_to_add(&found)?;
        let mut changed = None;
        if !added.is_empty() {
            let schema = description.columns_with(&kernel_schema(&Schema::new(added))?)?;
            changed = Some(metadata.clone().with_schema(&schema).map_err(|error| error.to_string())?);
        }
        for (key, value) in self.properties() {
            if metadata.configuration().get(&key) != Some(&value) {
                let base = changed.take().unwrap_or_else(|| metadata.clone());
                changed = Some(base.add_config_key(key, value).map_err(|error| error.to_string())?);
            }
        }
        Ok(Change { metadata: changed, protocol: self.protocol_for_ntz(protocol)? })
    }

    /// The fields to add; checks those that are there.
    fn columns_to_add(&self, found: &Schema) -> Result<Vec<Field>, String> {
        let mut added = vec![];
        for field in self.schema.fields() {
            let Some(here) = found.fields().iter().find(|here| here.name().eq_ignore_ascii_case(field.name())) else {
                added.push(Field::new(field.name(), field.data_type().clone(), true));
                continue;
            };
            if here.name() != field.name() {
                return Err(format!("its column is named '{}', not '{}': write it so", here.name(), field.name()));
            }
            if !is_same(here.data_type(), field.data_type()) {
                let (name, is) = (field.name(), sql_name(here.data_type()));
                return Err(format!(
                    "its column '{name}' is of type {is}, not {}: a column keeps its type. Declare \"{name}\" {is}, give \
                     the new one another name, or name another 'path'",
                    sql_name(field.data_type())
                ));
            }
            if field.is_nullable() && !here.is_nullable() {
                return Err(format!(
                    "its column '{}' is NOT NULL, the one declared may be null: declare it NOT NULL, and leave rows \
                     without it out",
                    field.name()
                ));
            }
        }
        let lacks = |here: &&Arc<Field>| !here.is_nullable() && self.schema.field_with_name(here.name()).is_err();
        if let Some(here) = found.fields().iter().find(lacks) {
            let (name, data_type) = (here.name(), sql_name(here.data_type()));
            return Err(format!(
                "its column '{name}' is NOT NULL and not declared: declare \"{name}\" {data_type} NOT NULL, and write it"
            ));
        }
        Ok(added)
    }

    /// The protocol with the feature that TIMESTAMP needs, if it lacks it.
    fn protocol_for_ntz(&self, protocol: &Protocol) -> Result<Option<Protocol>, String> {
        if !has_ntz(&self.schema) {
            return Ok(None);
        }
        let mut value = serde_json::to_value(protocol).map_err(|error| error.to_string())?;
        let mut changed = false;
        let legacy = legacy_features(&value);
        for (features, version, at_least) in
            [("readerFeatures", "minReaderVersion", 3), ("writerFeatures", "minWriterVersion", 7)]
        {
            let mut names: Vec<String> = match value[features].as_array() {
                Some(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                None if features == "writerFeatures" => legacy.iter().map(|name| (*name).to_owned()).collect(),
                None => vec![],
            };
            if !names.iter().any(|name| name == "timestampNtz") {
                names.push("timestampNtz".into());
                value[features] = json!(names);
                value[version] = json!(at_least);
                changed = true;
            }
        }
        match changed {
            true => serde_json::from_value(value).map(Some).map_err(|error| error.to_string()),
            false => Ok(None),
        }
    }

    /// The table's properties, as those who read and tidy Delta tables know them.
    fn properties(&self) -> Vec<(String, String)> {
        let interval = |length: Duration| format!("interval {} seconds", length.as_secs().max(1));
        let retention = self.upkeep.retention;
        let mut properties = vec![
            ("delta.checkpointInterval".to_owned(), self.upkeep.checkpoint_every.to_string()),
            // A file that the log does not speak of any more cannot be told from one that is about to come into it.
            ("delta.deletedFileRetentionDuration".to_owned(), interval(retention.saturating_add(UNTIL_VACUUMED))),
            ("delta.logRetentionDuration".to_owned(), interval(retention.max(COMMITS_KEPT))),
        ];
        properties.extend(self.log.clone());
        properties
    }
}

/// A table's metadata, as its log has it.
struct Description(Value);

impl Description {
    fn of(metadata: &Metadata) -> Result<Description, String> {
        serde_json::to_value(metadata).map(Description).map_err(|error| error.to_string())
    }

    fn schema_text(&self) -> &str {
        self.0["schemaString"].as_str().unwrap_or_default()
    }

    fn kernel_schema(&self) -> Result<StructType, String> {
        serde_json::from_str(self.schema_text()).map_err(|error| error.to_string())
    }

    fn schema(&self) -> Result<Schema, String> {
        (&self.kernel_schema()?).try_into_arrow().map_err(|error| error.to_string())
    }

    /// The columns as they are, and others after them.
    fn columns_with(&self, added: &StructType) -> Result<StructType, String> {
        let here = self.kernel_schema()?;
        StructType::try_new(here.fields().chain(added.fields()).cloned()).map_err(|error| error.to_string())
    }

    fn partitions(&self) -> Vec<String> {
        let columns = self.0["partitionColumns"].as_array();
        columns.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// Rules that this sink would not keep.
fn refuse_foreign_rules(description: &Description, protocol: &Protocol) -> Result<(), String> {
    let protocol = serde_json::to_value(protocol).map_err(|error| error.to_string())?;
    let features = protocol["writerFeatures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let unknown: Vec<&str> = features.filter(|feature| !HARMLESS.contains(feature)).collect();
    let schema = description.schema_text();
    let properties = description.0["configuration"].as_object();
    let property =
        |wanted: &str| properties.into_iter().flatten().any(|(key, value)| key.starts_with(wanted) && value != "none");
    let rule = if !unknown.is_empty() {
        unknown.join(", ")
    } else if schema.contains("delta.generationExpression") {
        "generated columns".into()
    } else if schema.contains("delta.invariants") {
        "invariants".into()
    } else if schema.contains("delta.identity") {
        "identity columns".into()
    } else if property("delta.constraints.") {
        "constraints".into()
    } else if property("delta.columnMapping.mode") {
        "column mapping".into()
    } else {
        return Ok(());
    };
    Err(format!("others have given it {rule}, which this sink does not keep: name another 'path'"))
}

/// The features that a writer version from before the lists of features stands for, as far as the table may use them.
fn legacy_features(protocol: &Value) -> &'static [&'static str] {
    match protocol["minWriterVersion"].as_i64() {
        Some(2) => &["appendOnly", "invariants"],
        Some(3) => &["appendOnly", "invariants", "checkConstraints"],
        Some(4..=6) => &["appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns"],
        _ => &[],
    }
}

fn kernel_schema(schema: &Schema) -> Result<StructType, String> {
    schema.try_into_kernel().map_err(|error: arrow::error::ArrowError| error.to_string())
}

/// Whether there is a TIMESTAMP without a time zone among the columns, which is a feature of its own.
fn has_ntz(schema: &Schema) -> bool {
    fn is_ntz(data_type: &DataType) -> bool {
        match data_type {
            DataType::Timestamp(_, None) => true,
            DataType::List(item) => is_ntz(item.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| is_ntz(field.data_type())),
            _ => false,
        }
    }
    schema.fields().iter().any(|field| is_ntz(field.data_type()))
}

fn shown(columns: &[String]) -> String {
    if columns.is_empty() { "nothing".into() } else { format!("'{}'", columns.join(", ")) }
}

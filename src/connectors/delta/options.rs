//! The options of a Delta table, taken once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use object_store::aws::AmazonS3ConfigKey;
use url::Url;

use super::place::DeltaPlace;
use super::{HISTORY_FOLDER, types};
use crate::catalog::options::{OptionValue, Options, closest};
use crate::catalog::{TableDefinition, TableName};
use crate::connectors::ConnectorError;
use crate::sql::names::fold_text;

/// What the `WITH` of a Delta table says.
#[derive(Clone, Debug)]
pub(super) struct DeltaOptions {
    pub(super) path: Path,
    /// Columns, in the order of the folders.
    pub(super) partition_by: Vec<String>,
    pub(super) history_of: Option<TableName>,
    pub(super) commit: CommitRule,
    pub(super) upkeep: UpkeepOptions,
}

/// Where the option `path` says that the table lies.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Path {
    /// Nowhere: below the data folder, by the table's name.
    DataFolder(String),
    /// In a folder; a relative one starts at the working directory.
    Folder(PathBuf),
    /// In an object store, with what the options say of its access, by object_store's names.
    Bucket(Url, BTreeMap<String, String>),
}

/// When the epochs that are gathered are committed: at whichever comes first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CommitRule {
    /// The first of them is so old.
    pub(super) interval: Duration,
    /// They have so many rows.
    pub(super) rows: u64,
    /// They have so many bytes as Parquet, about.
    pub(super) bytes: u64,
}

impl Default for CommitRule {
    fn default() -> CommitRule {
        CommitRule { interval: Duration::from_secs(10), rows: 1_000_000, bytes: 128 << 20 }
    }
}

/// How the table is kept small and quick to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpkeepOptions {
    /// A file is not made larger than this, about; small ones are put together up to it.
    pub target_file_size: u64,
    /// Whether small files are put together.
    pub compaction: bool,
    /// How often they are looked for.
    pub compaction_interval: Duration,
    /// How long a file stays that the newest version does not need any more: so far back reaches time travel.
    pub retention: Duration,
    /// After so many commits what the log says is written down in one file.
    pub checkpoint_every: u64,
}

impl Default for UpkeepOptions {
    fn default() -> UpkeepOptions {
        UpkeepOptions {
            target_file_size: 128 << 20,
            compaction: true,
            compaction_interval: Duration::from_secs(600),
            retention: Duration::from_secs(7 * 24 * 3600),
            checkpoint_every: 100,
        }
    }
}

impl DeltaOptions {
    pub(super) fn take(table: &TableDefinition, options: &mut Options) -> DeltaOptions {
        if !table.primary_key.is_empty() {
            options.error(
                table.location,
                format!("a Delta table keeps every row that it is given, but table {} has a PRIMARY KEY", table.name),
                Some("remove PRIMARY KEY, or write to a connector that replaces rows, such as 'postgres'".into()),
            );
        }
        types::check_columns(table, options);
        let default = CommitRule::default();
        let commit = CommitRule {
            interval: options.duration(&["commit_interval"]).unwrap_or(default.interval),
            rows: options.integer(&["commit_rows"], 1..=i64::MAX).map_or(default.rows, |rows| rows as u64),
            bytes: options.size(&["commit_bytes"]).unwrap_or(default.bytes),
        };
        DeltaOptions {
            path: take_path(table, options),
            partition_by: take_partitions(table, options),
            history_of: take_history_of(table, options),
            commit,
            upkeep: take_upkeep(options),
        }
    }
}

impl DeltaOptions {
    /// Where the table lies, when embedded parts are in `data_dir`.
    pub(super) fn place(&self, data_dir: &std::path::Path) -> Result<DeltaPlace, ConnectorError> {
        match &self.path {
            Path::DataFolder(table) => DeltaPlace::folder(data_dir.join(HISTORY_FOLDER).join(table)),
            Path::Folder(folder) => DeltaPlace::folder(folder),
            Path::Bucket(url, access) => Ok(DeltaPlace::bucket(url, access.clone())),
        }
    }

    /// What to call it in a message, as far as the options say.
    pub(super) fn describe(&self) -> String {
        match &self.path {
            Path::DataFolder(table) => format!("Delta table {HISTORY_FOLDER}/{table} in the data folder"),
            Path::Folder(folder) => format!("Delta table {}", folder.display()),
            Path::Bucket(url, _) => format!("Delta table {}", url.as_str().trim_end_matches('/')),
        }
    }
}

fn take_upkeep(options: &mut Options) -> UpkeepOptions {
    let default = UpkeepOptions::default();
    let every = options.integer(&["checkpoint_every"], 1..=i64::from(u32::MAX));
    UpkeepOptions {
        target_file_size: options.size(&["target_file_size"]).unwrap_or(default.target_file_size),
        compaction: options.boolean(&["compaction"]).unwrap_or(default.compaction),
        compaction_interval: options.duration(&["compaction_interval"]).unwrap_or(default.compaction_interval),
        retention: options.duration(&["retention"]).unwrap_or(default.retention),
        checkpoint_every: every.map_or(default.checkpoint_every, |commits| commits as u64),
    }
}

/// Takes `path` and, for an object store, `s3.*`.
fn take_path(table: &TableDefinition, options: &mut Options) -> Path {
    let access = options.prefixed("s3.");
    let option = options.take(&["path"]);
    let text = option.as_ref().map(|option| option.text.trim()).filter(|text| !text.is_empty());
    let (Some(option), Some(text)) = (&option, text) else {
        refuse_access(&access, options);
        return Path::DataFolder(table.name.clone());
    };
    let folder = match text.split_once("://") {
        None => PathBuf::from(text),
        Some(("s3" | "s3a", place)) => {
            let place = place.trim_end_matches('/');
            let bucket = place.split('/').next().unwrap_or_default();
            if let Ok(url) = Url::parse(&format!("s3://{place}"))
                && !bucket.is_empty()
            {
                return Path::Bucket(url, take_access(&access, options));
            }
            let message = format!("option 'path' does not take {}: it names no bucket", option.shown());
            options.error(option.location, message, Some("write 's3://bucket/folder'".into()));
            return Path::DataFolder(table.name.clone());
        }
        Some(("file", place)) => PathBuf::from(place),
        Some((scheme, _)) => {
            let message = format!("option 'path' does not take {}: there is no store for {scheme}://", option.shown());
            let help = "it takes a folder, or 's3://bucket/folder' for S3 and what speaks its protocol";
            options.error(option.location, message, Some(help.into()));
            return Path::DataFolder(table.name.clone());
        }
    };
    refuse_access(&access, options);
    Path::Folder(folder)
}

/// The keys of an object store's access, checked.
fn take_access(access: &[OptionValue], options: &mut Options) -> BTreeMap<String, String> {
    let mut taken = BTreeMap::new();
    for option in access {
        let key = format!("aws_{}", option.key);
        if key.parse::<AmazonS3ConfigKey>().is_ok() {
            taken.insert(key, option.text.clone());
            continue;
        }
        let known = ["endpoint", "region", "access_key_id", "secret_access_key", "session_token", "allow_http"];
        let help = match closest(&option.key, known) {
            Some(meant) => format!("did you mean 's3.{meant}'?"),
            None => "it takes 's3.endpoint', 's3.region', 's3.access_key_id', 's3.secret_access_key', \
                     's3.session_token', 's3.allow_http' and others as object_store names them; what is not given comes \
                     from AWS_ENDPOINT, AWS_REGION and their like"
                .into(),
        };
        options.error(option.key_location, format!("connector 'delta' has no option 's3.{}'", option.key), Some(help));
    }
    taken
}

/// A folder needs no access.
fn refuse_access(access: &[OptionValue], options: &mut Options) {
    for option in access {
        let message = format!("option 's3.{}' has no meaning for a folder", option.key);
        options.error(option.key_location, message, Some("remove it, or write 'path' = 's3://bucket/folder'".into()));
    }
}

fn take_partitions(table: &TableDefinition, options: &mut Options) -> Vec<String> {
    let Some(option) = options.take(&["partition_by"]) else { return vec![] };
    let mut columns: Vec<String> = vec![];
    let writable = table.writable_schema();
    for name in option.text.split(',').map(fold_text) {
        let wrong = match writable.field_with_name(&name) {
            Err(_) => {
                let known: Vec<&str> = writable.fields().iter().map(|field| field.name().as_str()).collect();
                let help = match closest(&name, known.iter().copied()) {
                    Some(meant) => format!("did you mean '{meant}'?"),
                    None => format!("table {} has the columns {}", table.name, known.join(", ")),
                };
                Some((format!("'partition_by' names a column '{name}', which is not there"), help))
            }
            Ok(field) if !types::can_partition(field.data_type()) => Some((
                format!("column '{name}' is of type {}, which makes no folders", types::sql_name(field.data_type())),
                "'partition_by' takes columns of text, numbers without fractions, BOOLEAN, DATE and TIMESTAMP".into(),
            )),
            Ok(_) if columns.contains(&name) => {
                Some((format!("'partition_by' names column '{name}' twice"), "leave one out".into()))
            }
            Ok(_) => None,
        };
        match wrong {
            Some((message, help)) => options.error(option.location, message, Some(help)),
            None => columns.push(name),
        }
    }
    if !columns.is_empty() && columns.len() == writable.fields().len() {
        let message = "'partition_by' names every column, so that nothing is left to be in the files".to_owned();
        options.error(option.location, message, Some("leave out a column".into()));
    }
    columns
}

fn take_history_of(table: &TableDefinition, options: &mut Options) -> Option<TableName> {
    let option = options.take(&["history_of"])?;
    let name = fold_text(&option.text);
    if name == table.name {
        let message = format!("'history_of' of table '{name}' is the table itself");
        options.error(option.location, message, Some("name the table whose rows it records".into()));
        return None;
    }
    Some(TableName { name, location: option.location })
}

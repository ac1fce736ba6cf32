//! Files that a statement names by their path, `FROM 'logs/*.jsonl'`: which they are, and how they are read.
//!
//! Not DataFusion's own tables by URL: those look for the files of a pattern in one folder only, leave files in folders
//! below out without a word, know no `.jsonl`, and read every file in the folder of a Delta table, those too that a
//! compaction has replaced.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use deltalake_core::logstore::object_store::ObjectStoreExt;
use deltalake_core::{ObjectMeta, ObjectStore};
use url::Url;
use walkdir::WalkDir;

/// The folder of a Delta table's log.
const DELTA_LOG: &str = "_delta_log";

/// The endings of the files that can be read, with DataFusion's names of their formats.
const ENDINGS: [(&str, &str); 6] = [
    ("parquet", "parquet"),
    ("csv", "csv"),
    ("json", "json"),
    ("jsonl", "json"),
    ("ndjson", "json"),
    ("arrow", "arrow"),
];

/// The endings behind those of texts that are compressed.
const COMPRESSIONS: [&str; 4] = ["gz", "zst", "bz2", "xz"];

const KNOWN_ENDINGS: &str = ".parquet, .csv, .json, .jsonl, .ndjson or .arrow; behind .csv and the JSON ones .gz, .zst, \
                             .bz2 or .xz may stand";

/// What is at a path.
#[derive(Debug)]
pub(super) enum Found {
    /// A Delta table: its folder.
    Delta(PathBuf),
    /// Files of one kind.
    Files(Files),
}

/// Why a path is no table: what is wrong, and what would be right.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct NotATable {
    pub message: String,
    pub help: String,
}

impl NotATable {
    fn new(message: impl Into<String>, help: impl Into<String>) -> NotATable {
        NotATable { message: message.into(), help: help.into() }
    }
}

/// How a file's rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind {
    format: &'static str,
    compression: Option<&'static str>,
}

/// Files with the same kind of rows.
#[derive(Debug)]
pub(super) struct Files {
    kind: Kind,
    /// With whole paths, in order.
    paths: Vec<PathBuf>,
    /// The folder that was named, if its `name=value` folders give columns.
    partitioned: Option<Partitioned>,
}

#[derive(Debug)]
struct Partitioned {
    folder: PathBuf,
    columns: Vec<String>,
    /// What the names of all its files end with.
    ending: String,
}

/// Whether a name that is no path looks like one.
pub(super) fn looks_like_file(name: &str) -> bool {
    name.contains('/') || Kind::of(Path::new(name)).is_some()
}

/// What is at `path`: a file, a folder or a pattern.
///
/// # Errors
/// When there is nothing, or nothing that can be read as one table.
pub(super) fn find(path: &str) -> std::result::Result<Found, NotATable> {
    let named = match path.contains("://") {
        true => Url::parse(path).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok()),
        false => Some(PathBuf::from(path)),
    };
    let Some(named) = named else {
        let help =
            "a table in a bucket is declared in the folder: CREATE TABLE ... WITH (connector = 'delta', path = ...)";
        return Err(NotATable::new(format!("'{path}' is no path of this machine, and no others are read"), help));
    };
    if named.is_dir() {
        return match is_delta(&named) {
            true => Ok(Found::Delta(named)),
            false => in_folder(&named).map(Found::Files),
        };
    }
    if named.is_file() {
        return Files::of(vec![named]).map(Found::Files);
    }
    if path.contains(['*', '?', '[']) {
        return fitting(&named).map(Found::Files);
    }
    Err(NotATable::new(format!("there is no file '{path}'"), "a relative path begins at the working directory"))
}

/// The files of a folder and of those below it. What begins with a dot or an underscore is left out, as everywhere
/// where folders are tables, and so is what has no known ending.
fn in_folder(folder: &Path) -> std::result::Result<Files, NotATable> {
    if let Some(table) = delta_around(folder) {
        return Err(part_of_delta(folder, &table));
    }
    let (mut paths, mut hidden) = (vec![], vec![]);
    // Links are followed, as by a pattern.
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            NotATable::new(format!("the folder cannot be read: {error}"), "who asks must be allowed to read it")
        })?;
        if entry.file_type().is_dir() && is_delta(entry.path()) {
            let message = format!("there are Delta tables in '{}', and each is read by its own path", folder.display());
            return Err(NotATable::new(message, format!("write FROM '{}'", entry.path().display())));
        }
        if entry.file_type().is_dir() || Kind::of(entry.path()).is_none() {
            continue;
        }
        let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        match below.iter().any(|name| name.to_string_lossy().starts_with(['.', '_'])) {
            true => hidden.push(entry.into_path()),
            false => paths.push(entry.into_path()),
        }
    }
    if paths.is_empty() {
        let message = format!("there is no file in the folder '{}' that can be read", folder.display());
        return Err(NotATable::new(message, format!("files are read that end with {KNOWN_ENDINGS}")));
    }
    let partitioned = Partitioned::of(folder, &paths, &hidden)?;
    Ok(Files { partitioned, ..Files::of(paths)? })
}

/// The files that fit a pattern: `*` and `?` stand for what is in one name, `**` for folders.
fn fitting(pattern: &Path) -> std::result::Result<Files, NotATable> {
    let shown = pattern.display();
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let found = glob::glob_with(&pattern.to_string_lossy(), options).map_err(|error| {
        NotATable::new(
            format!("'{shown}' is no pattern: {error}"),
            "write it as in 'logs/*.json' or 'logs/**/*.parquet'",
        )
    })?;
    let (mut paths, mut folder) = (vec![], None);
    for found in found {
        let found = found.map_err(|error| {
            NotATable::new(format!("not all of '{shown}' can be read: {error}"), "who asks must be allowed to read it")
        })?;
        match found.is_dir() {
            true => folder = folder.or(Some(found)),
            false => paths.push(found),
        }
    }
    if paths.is_empty() {
        return Err(match folder {
            Some(folder) => NotATable::new(
                format!("'{shown}' fits folders only, and a pattern is one of files"),
                format!("a folder is read by its path: FROM '{}'", folder.display()),
            ),
            None => {
                let help = "a relative path begins at the working directory, and '**' stands for any folders";
                NotATable::new(format!("no file fits '{shown}'"), help)
            }
        });
    }
    let mut known = HashMap::new();
    for file in &paths {
        let parent = file.parent().unwrap_or(file);
        if let Some(table) = known.entry(parent).or_insert_with(|| delta_around(parent)) {
            return Err(part_of_delta(pattern, table));
        }
    }
    Files::of(paths)
}

fn part_of_delta(path: &Path, table: &Path) -> NotATable {
    let message =
        format!("'{}' means files of a Delta table, among which may be some that others have replaced", path.display());
    NotATable::new(message, format!("the table as its log has it is FROM '{}'", table.display()))
}

/// Whether a folder is a Delta table.
fn is_delta(folder: &Path) -> bool {
    folder.join(DELTA_LOG).is_dir()
}

/// The Delta table whose files lie in `folder`, if it is one's; its log may be read as files.
fn delta_around(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let table = folder.ancestors().find(|folder| is_delta(folder))?;
    let is_log = folder.strip_prefix(table).is_ok_and(|below| below.starts_with(DELTA_LOG));
    (!is_log).then(|| table.to_path_buf())
}

impl Kind {
    /// What the name of a file says.
    fn of(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (before, last) = name.rsplit_once('.')?;
        let format = |ending: &str| ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format);
        match COMPRESSIONS.iter().find(|known| **known == last) {
            None => Some(Kind { format: format(last)?, compression: None }),
            Some(compression) => {
                let format = format(before.rsplit_once('.')?.1)?;
                // The others compress their columns themselves.
                matches!(format, "csv" | "json").then_some(Kind { format, compression: Some(compression) })
            }
        }
    }

    fn format(self, state: &SessionState) -> Result<Arc<dyn FileFormat>> {
        let factory = state.get_file_format_factory(self.format);
        let factory = factory.ok_or_else(|| DataFusionError::Internal(format!("no format {}", self.format)))?;
        let compression = self.compression.map(|name| ("format.compression".to_owned(), name.to_owned()));
        factory.create(state, &compression.into_iter().collect())
    }
}

impl Files {
    /// The files, which must be of one kind.
    fn of(paths: Vec<PathBuf>) -> std::result::Result<Files, NotATable> {
        let mut first: Option<(Kind, &Path)> = None;
        for path in &paths {
            let Some(kind) = Kind::of(path) else {
                let message = format!("the ending of '{}' does not say what is in the file", path.display());
                return Err(NotATable::new(message, format!("files are read that end with {KNOWN_ENDINGS}")));
            };
            let (known, other) = *first.get_or_insert((kind, path));
            if kind != known {
                let message = format!("'{}' and '{}' are of two kinds", other.display(), path.display());
                return Err(NotATable::new(message, "name files of one kind, such as FROM 'logs/**/*.json'"));
            }
        }
        match first {
            Some((kind, _)) => Ok(Files { kind, paths, partitioned: None }),
            None => Err(NotATable::new("there are no files", "name some")),
        }
    }

    /// The files as one table, whose columns are those of all files together.
    ///
    /// # Errors
    /// When a file cannot be read, or two do not fit each other.
    pub async fn table(&self, state: &SessionState) -> Result<Arc<dyn TableProvider>> {
        let format = self.kind.format(state)?;
        let mut urls = vec![];
        for path in &self.paths {
            urls.push(url(path, false)?);
        }
        let store: Arc<dyn ObjectStore> = state.runtime_env().object_store(&urls[0])?;
        let mut files = vec![];
        for url in &urls {
            let file = store.head(url.prefix()).await.map_err(DataFusionError::from)?;
            // One without anything in it has no columns.
            if file.size > 0 {
                files.push(file);
            }
        }
        let schema = format.infer_schema(state, &store, &files).await?;
        if self.kind.format == "csv" {
            self.must_have_the_same_columns(state, format.as_ref(), &store, &files).await?;
        }
        let mut options = ListingOptions::new(format).with_file_extension("");
        if let Some(Partitioned { folder, columns, ending }) = &self.partitioned {
            urls = vec![url(folder, true)?];
            let text = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
            let columns = columns.iter().map(|name| (name.clone(), text.clone())).collect();
            options = options.with_file_extension(ending).with_table_partition_cols(columns);
        }
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(schema);
        Ok(Arc::new(ListingTable::try_new(config)?))
    }

    /// CSV is read by places: a file with other columns, or in another order, would give wrong rows.
    async fn must_have_the_same_columns(
        &self,
        state: &SessionState,
        format: &dyn FileFormat,
        store: &Arc<dyn ObjectStore>,
        files: &[ObjectMeta],
    ) -> Result<()> {
        let mut first: Option<(Vec<String>, &ObjectMeta)> = None;
        for file in files {
            let schema = format.infer_schema(state, store, std::slice::from_ref(file)).await?;
            let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            let (known, other) = first.get_or_insert_with(|| (columns.clone(), file));
            if columns != *known {
                return Err(DataFusionError::Execution(format!(
                    "'/{}' has the columns {} and '/{}' has {}: CSV files are one table if they have the same columns in \
                     the same order",
                    other.location,
                    known.join(", "),
                    file.location,
                    columns.join(", ")
                )));
            }
        }
        Ok(())
    }
}

/// The URL of a path, whatever characters are in it; stores know no `..`.
fn url(path: &Path, is_folder: bool) -> Result<ListingTableUrl> {
    let path = path.canonicalize().map_err(DataFusionError::IoError)?;
    let url = if is_folder { Url::from_directory_path(&path) } else { Url::from_file_path(&path) };
    let url = url.map_err(|()| DataFusionError::Execution(format!("{} makes no URL", path.display())))?;
    ListingTableUrl::try_new(url, None)
}

impl Partitioned {
    /// The columns that the folders between `folder` and its files give, if they do. Such a folder is listed once more
    /// when it is read, by the ending of its files: so they have one ending, and nothing `hidden` has it.
    fn of(folder: &Path, files: &[PathBuf], hidden: &[PathBuf]) -> std::result::Result<Option<Partitioned>, NotATable> {
        let columns_of = |file: &Path| -> Vec<String> {
            let below = file.parent().and_then(|parent| parent.strip_prefix(folder).ok()).unwrap_or(Path::new(""));
            let folders = below.iter().map(|name| name.to_string_lossy());
            folders.filter_map(|name| Some(name.split_once('=')?.0.to_owned())).collect()
        };
        let (first, columns) = (&files[0], columns_of(&files[0]));
        if let Some(other) = files.iter().find(|file| columns_of(file) != columns) {
            let message = format!("the folders of '{}' and '{}' give other columns", first.display(), other.display());
            return Err(NotATable::new(message, "name a folder in which all folders give the same, such as day=..."));
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let ending_of = |file: &Path| file.extension().map(|ending| format!(".{}", ending.to_string_lossy()));
        let ending = ending_of(first).unwrap_or_default();
        if let Some(other) = files.iter().find(|file| ending_of(file).as_ref() != Some(&ending)) {
            let message = format!("'{}' and '{}' have two endings", first.display(), other.display());
            return Err(NotATable::new(message, "a folder whose folders give columns has files of one ending"));
        }
        if let Some(other) = hidden.iter().find(|file| ending_of(file).as_ref() == Some(&ending)) {
            let message = format!("'{}' is hidden among files that are read", other.display());
            return Err(NotATable::new(message, "remove it, or move it to a folder of its own"));
        }
        Ok(Some(Partitioned { folder: folder.to_path_buf(), columns, ending }))
    }
}

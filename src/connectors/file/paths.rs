//! Which files a path names.

use std::path::{Path, PathBuf};

use super::{ConnectorError, Content, io_error, packed, refused};
use crate::catalog::options::closest;

/// The files that `path` names, sorted: itself, those of a folder, or those that a pattern fits.
///
/// In a folder, files count whose extension fits the content; hidden ones never do, nor does anything in a folder
/// below. A pattern (`*`, `?`, `[a-z]`, `**`) takes every file that it fits. With `may_be_empty`, a folder or a
/// pattern without files is no error: files may come later.
pub(super) fn list(path: &str, content: &Content, may_be_empty: bool) -> Result<Vec<PathBuf>, ConnectorError> {
    let place = Path::new(path);
    let (mut files, wanted) = match std::fs::metadata(place) {
        Ok(metadata) if metadata.is_dir() => (in_folder(place, content)?, format!("holds no {}", kinds(content))),
        Ok(_) => return Ok(vec![place.to_owned()]),
        Err(_) if path.contains(['*', '?', '[']) => (by_pattern(path)?, "fits no file".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(place)),
        Err(error) => return Err(io_error(place, "read", &error)),
    };
    files.sort();
    if files.is_empty() && !may_be_empty {
        return Err(refused(place, format!("{wanted}{}", seen_from(place))));
    }
    Ok(files)
}

fn in_folder(folder: &Path, content: &Content) -> Result<Vec<PathBuf>, ConnectorError> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).map_err(|error| io_error(folder, "read", &error))? {
        let path = entry.map_err(|error| io_error(folder, "read", &error))?.path();
        if counts(&path, content) && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// Whether a file in a folder counts, by its name.
fn counts(path: &Path, content: &Content) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']));
    let extensions = extensions(content);
    let fits = || extensions.contains(&packed::extension(path).unwrap_or_default());
    !hidden && (extensions.is_empty() || fits())
}

/// Whether `file`, which is there, is one of those that `path` names.
pub(super) fn is_named(path: &str, content: &Content, file: &Path) -> bool {
    let place = Path::new(path);
    if place.is_dir() {
        return file.parent() == Some(place) && counts(file, content);
    }
    place == file || glob::Pattern::new(path).is_ok_and(|pattern| pattern.matches_path(file))
}

fn by_pattern(pattern: &str) -> Result<Vec<PathBuf>, ConnectorError> {
    let paths = glob::glob(pattern).map_err(|error| {
        refused(Path::new(pattern), format!("is not a pattern: {} at character {}", error.msg, error.pos + 1))
    })?;
    let mut files = vec![];
    for path in paths {
        let path = path.map_err(|error| io_error(error.path(), "read", error.error()))?;
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// The extensions that count in a folder; none means all.
fn extensions(content: &Content) -> &'static [&'static str] {
    match content {
        Content::Parquet => &["parquet"],
        Content::Lines(lines) if lines.csv.is_some() => &["csv", "tsv"],
        Content::Lines(lines) if lines.format == "json" => &["jsonl", "json", "ndjson"],
        Content::Lines(_) => &[],
    }
}

fn kinds(content: &Content) -> String {
    let extensions: Vec<String> = extensions(content).iter().map(|extension| format!(".{extension} ")).collect();
    format!("{}file", extensions.join("or "))
}

fn missing(path: &Path) -> ConnectorError {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return refused(path, format!("no such file, and no folder {}{}", folder.display(), seen_from(path)));
    };
    let names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let hint = match closest(&name, names.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean {}?", path.with_file_name(name).display()),
        None => seen_from(path),
    };
    refused(path, format!("no such file{hint}"))
}

/// Where a relative path starts: the usual surprise when one is not found.
fn seen_from(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => format!(" (seen from {})", folder.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::file::tests::content_of as content;

    fn json() -> Content {
        content("data.jsonl", &[])
    }

    fn names(paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_and_a_pattern_give_their_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.jsonl", "a.json", "c.csv", ".hidden.jsonl", "_temporary.jsonl"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let path = folder.path().to_str().unwrap();
        assert_eq!(names(&list(path, &json(), false).unwrap()), ["a.json", "b.jsonl"]);
        assert_eq!(names(&list(path, &Content::Parquet, true).unwrap()), [""; 0]);
        assert_eq!(names(&list(&format!("{path}/[bc].*"), &json(), false).unwrap()), ["b.jsonl", "c.csv"]);
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("clicks.jsonl"), "").unwrap();
        let message = |path: &str, content: &Content| list(path, content, false).unwrap_err().to_string();
        assert_eq!(
            message(&format!("{path}/click.jsonl"), &json()),
            format!("{path}/click.jsonl: no such file; did you mean {path}/clicks.jsonl?")
        );
        assert_eq!(
            message(&format!("{path}/none/x.jsonl"), &json()),
            format!("{path}/none/x.jsonl: no such file, and no folder {path}/none")
        );
        assert_eq!(message(path, &Content::Parquet), format!("{path}: holds no .parquet file"));
        assert_eq!(message(&format!("{path}/*.csv"), &json()), format!("{path}/*.csv: fits no file"));
        assert_eq!(
            message(&format!("{path}/[a"), &json()),
            format!("{path}/[a: is not a pattern: invalid range pattern at character {}", path.len() + 2)
        );
        let from = std::env::current_dir().unwrap();
        assert_eq!(
            message("no-such-thing.jsonl", &json()),
            format!("no-such-thing.jsonl: no such file (seen from {})", from.display())
        );
    }
}

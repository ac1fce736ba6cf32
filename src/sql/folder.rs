//! The `*.sql` files of a folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{SourceFiles, SqlError};

/// More than this is no SQL that a person wrote, and places in it must fit 32 bits.
const LARGEST_FILE: u64 = 64 << 20;

/// Reads every `*.sql` file below `folder` in the order of their paths, or the one file that `folder` names. Hidden
/// folders are left out, and folders named `tests`, which hold a program's test cases.
///
/// Gives what could be read and what could not.
pub fn read(folder: &Path) -> (SourceFiles, Vec<SqlError>) {
    let mut files = SourceFiles::default();
    let mut errors = vec![];
    for path in paths(folder, &mut errors) {
        match text(&path) {
            Ok(text) => {
                files.add(path, text);
            }
            Err(error) => errors.push(error),
        }
    }
    (files, errors)
}

/// The other `*.sql` files of the folder in which `file` is, and of those below it; what cannot be read is left out.
pub fn beside(file: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let itself = std::fs::canonicalize(file).ok();
    let others = paths(folder, &mut vec![]).into_iter().filter(move |path| std::fs::canonicalize(path).ok() != itself);
    others.filter_map(|path| text(&path).ok().map(|text| (path, text)))
}

fn paths(folder: &Path, errors: &mut Vec<SqlError>) -> Vec<PathBuf> {
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("there is no folder {}", folder.display());
            errors.push(SqlError::nowhere(message).help("name a folder with *.sql files, or one such file"));
            return vec![];
        }
        Err(error) => {
            errors.push(unreadable(folder, &error.to_string()));
            return vec![];
        }
        Ok(metadata) if metadata.is_file() => return vec![folder.to_path_buf()],
        Ok(_) => {}
    }
    let mut paths = vec![];
    // Links are followed: Kubernetes mounts the files of a config map as links.
    for entry in WalkDir::new(folder).follow_links(true).into_iter().filter_entry(belongs) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_sql(entry.path()) => paths.push(entry.into_path()),
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                let reason = error.io_error().map_or_else(|| error.to_string(), |io| io.to_string());
                errors.push(unreadable(&path, &reason));
            }
        }
    }
    paths.sort();
    if paths.is_empty() && errors.is_empty() {
        let message = format!("there is no .sql file in {}", folder.display());
        errors.push(SqlError::nowhere(message).help("put the program's statements into files that end in .sql"));
    }
    paths
}

fn belongs(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    entry.depth() == 0 || !(name.starts_with('.') || (name == "tests" && entry.file_type().is_dir()))
}

fn is_sql(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|extension| extension.eq_ignore_ascii_case("sql"))
}

fn text(path: &Path) -> Result<String, SqlError> {
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error.to_string()))?.len();
    if size > LARGEST_FILE {
        let message = format!("{} is too large: {} MB", path.display(), size >> 20);
        return Err(SqlError::nowhere(message).help("a .sql file has at most 64 MB"));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = format!("{} is not UTF-8: line {line} has a byte that cannot be", path.display());
        SqlError::nowhere(message).help("save the file as UTF-8")
    })
}

fn unreadable(path: &Path, reason: &str) -> SqlError {
    SqlError::nowhere(format!("cannot read {}: {reason}", path.display())).help("check that it exists and may be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(files: &SourceFiles, folder: &Path) -> Vec<String> {
        let name = |file| files.path(file).strip_prefix(folder).unwrap().display().to_string();
        (0..files.len() as u32).map(name).collect()
    }

    #[test]
    fn reads_sql_files_in_path_order_without_tests_and_hidden_ones() {
        let folder = folder(&[
            ("z.sql", b"SELECT 1"),
            ("a/b.SQL", b"SELECT 2"),
            ("a.txt", b"no"),
            (".git/x.sql", b"no"),
            ("a/.x.sql", b"no"),
            ("tests/case/x.sql", b"no"),
        ]);
        let (files, errors) = read(folder.path());
        assert_eq!(errors, []);
        assert_eq!(names(&files, folder.path()), ["a/b.SQL", "z.sql"]);
        let (file, errors) = read(&folder.path().join("z.sql"));
        assert_eq!((file.text(0), errors), ("SELECT 1", vec![]));
    }

    #[test]
    fn a_folder_named_tests_can_itself_be_read() {
        let folder = folder(&[("tests/x.sql", b"SELECT 1")]);
        assert_eq!(read(&folder.path().join("tests")).0.len(), 1);
    }

    #[test]
    fn says_what_cannot_be_read() {
        let (_, errors) = read(Path::new("/nowhere/at all"));
        assert_eq!(errors[0].message, "there is no folder /nowhere/at all");
        let empty = folder(&[("readme.md", b"")]);
        let (_, errors) = read(empty.path());
        assert_eq!(errors[0].message, format!("there is no .sql file in {}", empty.path().display()));
        let latin = folder(&[("a.sql", b"SELECT 1;\n-- \xe9\n"), ("b.sql", b"SELECT 2")]);
        let (files, errors) = read(latin.path());
        assert_eq!(files.len(), 1);
        let path = latin.path().join("a.sql");
        let expected = format!("{} is not UTF-8: line 2 has a byte that cannot be", path.display());
        assert_eq!(errors[0].message, expected);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let folder = folder(&[("a.sql", b"SELECT 1")]);
        std::os::unix::fs::symlink("/nowhere.sql", folder.path().join("b.sql")).unwrap();
        let (files, errors) = read(folder.path());
        assert_eq!(files.len(), 1);
        let start = format!("cannot read {}: ", folder.path().join("b.sql").display());
        assert!(errors[0].message.starts_with(&start), "{}", errors[0].message);
    }
}

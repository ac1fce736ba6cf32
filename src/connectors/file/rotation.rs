//! Where a file went when another one took its name.

use std::path::{Path, PathBuf};

use super::packed::Packing;
use super::trace::Trace;

/// Numbers of more digits are dates.
const COUNTER_DIGITS: usize = 4;

/// The file beside `path` that has what was read, and behind it those that were moved away after it, oldest first, such as
/// `app.log.3`, `app.log.2`, `app.log.1`. Empty if there is none, or one of them is not there any more.
///
/// Files that the table reads anyway (`is_own`) do not count: they are splits of their own.
pub(super) fn moved_away(path: &Path, trace: &Trace, is_own: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    if trace.bytes == 0 {
        return vec![];
    }
    let mut beside = beside(path);
    beside.retain(|file| !is_own(file) && Packing::of(file).is_none());
    let fits = |file: &&PathBuf| std::fs::File::open(file).and_then(|file| trace.fits(&file)).unwrap_or(false);
    let Some(first) = beside.iter().find(fits).cloned() else { return vec![] };
    let Some((form, number)) = numbered(path, &first) else { return vec![first] };
    let others = beside.iter().filter_map(|file| Some((numbered(path, file)?, file)));
    let mut later: Vec<(u64, PathBuf)> = others
        .filter(|((other, at), _)| *other == form && if form.is_date { *at > number } else { *at < number })
        .map(|((_, at), file)| (at, file.clone()))
        .collect();
    later.sort();
    if !form.is_date {
        later.reverse();
        let whole = (0..number).rev().zip(&later).all(|(wanted, (at, _))| wanted == *at);
        // They count from 0 or from 1.
        if !whole || later.len() + 1 < number as usize {
            return vec![];
        }
    }
    std::iter::once(first).chain(later.into_iter().map(|(_, file)| file)).collect()
}

/// The other files of the folder whose names begin as this one's.
fn beside(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stem = path.file_stem().unwrap_or_default().as_encoded_bytes();
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(stem))
        .map(|entry| path.with_file_name(entry.file_name()))
        .filter(|file| file != path && file.is_file())
        .collect();
    files.sort();
    files
}

/// How rotated files are named.
#[derive(PartialEq, Eq)]
struct Form {
    /// `app.log.1`; otherwise `app-1.log`.
    behind: bool,
    /// `app.log-20261130`: later ones have higher numbers. Counters have lower ones.
    is_date: bool,
}

/// The number that `file` has in its name and `path` has not.
fn numbered(path: &Path, file: &Path) -> Option<(Form, u64)> {
    let (name, other) = (path.file_name()?.to_str()?, file.file_name()?.to_str()?);
    let (behind, number) = match other.strip_prefix(name) {
        Some(number) => (true, number),
        None => {
            let (stem, extension) = name.rsplit_once('.')?;
            (false, other.strip_prefix(stem)?.strip_suffix(extension)?.strip_suffix('.')?)
        }
    };
    let digits = number.strip_prefix(['.', '-'])?;
    let form = Form { behind, is_date: digits.len() > COUNTER_DIGITS };
    digits.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    Some((form, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of what follows the file that holds `text`, of which `read` bytes were read.
    fn found(names: &[(&str, &str)], text: &str, read: usize) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in names {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut passed = super::super::trace::Passed::default();
        passed.add(&text.as_bytes()[..read]);
        let files = moved_away(&folder.path().join("a.log"), &passed.trace(2, 2), |file| file.ends_with("a.own"));
        files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn rotated_files_are_found_in_the_order_in_which_they_were_written() {
        let counted = [("a.log", "new"), ("a.log.1", "third"), ("a.log.2", "second"), ("a.log.3", "first")];
        assert_eq!(found(&counted, "first", 3), ["a.log.3", "a.log.2", "a.log.1"]);
        assert_eq!(found(&counted, "third", 5), ["a.log.1"]);
        assert_eq!(found(&counted[..2], "first", 3), [""; 0], "it is gone");
        assert_eq!(found(&[counted[0], counted[1], counted[3]], "first", 3), [""; 0], "one between is gone");
        let from_0 = [("a.log.0", "second"), ("a.log.1", "first")];
        assert_eq!(found(&from_0, "first", 3), ["a.log.1", "a.log.0"]);
        let dated = [("a.log-20261129", "first"), ("a.log-20261130", "second"), ("a.log-20261128", "older")];
        assert_eq!(found(&dated, "first", 3), ["a.log-20261129", "a.log-20261130"]);
        let inside = [("a-20261129.log", "first"), ("a-20261130.log", "second"), ("a.log-20261130", "other")];
        assert_eq!(found(&inside, "first", 3), ["a-20261129.log", "a-20261130.log"]);
        assert_eq!(found(&[("a.log.old", "first"), ("a.own", "first")], "first", 5), ["a.log.old"]);
        assert_eq!(found(&[("a.own", "first"), ("a.log.1.gz", "first"), ("b.log.1", "first")], "first", 5), [""; 0]);
        assert_eq!(found(&counted, "first", 0), [""; 0], "nothing was read of it");
    }
}

//! Compressed files: told by the name's last extension, read as what the extension before it says.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{ConnectorError, io_error, refused};

/// How a file is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    const ALL: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

    /// What the name says: `clicks.jsonl.gz`.
    pub(super) fn of(path: &Path) -> Option<Packing> {
        let extension = path.extension()?;
        Packing::ALL.into_iter().find(|packing| extension == packing.extension())
    }

    /// The extension of such files.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Packing::Gzip => "gz",
            Packing::Zstd => "zst",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }

    fn begins_with(self) -> &'static [u8] {
        match self {
            Packing::Gzip => &[0x1f, 0x8b],
            Packing::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        }
    }

    /// What lies in `file`; several compressed pieces behind one another are one.
    pub(super) fn unpack(self, file: File) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(std::io::BufReader::new(file))),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
        })
    }

    /// What is wrong with such a file, in words.
    pub(super) fn damaged(self, path: &Path, error: &std::io::Error) -> ConnectorError {
        let name = self.name();
        refused(path, format!("cannot be unpacked as {name} ({error}): it is damaged, not yet complete, or not {name}"))
    }
}

/// The extension that says what lies in the file, `jsonl` of `clicks.jsonl.gz`.
pub(super) fn extension(path: &Path) -> Option<&str> {
    let inner = if Packing::of(path).is_some() { Path::new(path.file_stem()?) } else { path };
    inner.extension()?.to_str()
}

/// Refuses a file that is compressed and does not say so: all its lines would be bad.
pub(super) fn refuse_unnamed(path: &Path, file: &File) -> Result<(), ConnectorError> {
    let mut first = [0; 4];
    let read = file.read_at(&mut first, 0).map_err(|error| io_error(path, "read", &error))?;
    match Packing::ALL.into_iter().find(|packing| first[..read].starts_with(packing.begins_with())) {
        None => Ok(()),
        Some(packing) => Err(refused(
            path,
            format!(
                "is compressed with {}, which its name does not say: name it {}.{}",
                packing.name(),
                path.file_name().unwrap_or_default().display(),
                packing.extension()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_and_what() {
        let of = |name: &str| (Packing::of(Path::new(name)), extension(Path::new(name)).map(str::to_owned));
        assert_eq!(of("a/clicks.jsonl.gz"), (Some(Packing::Gzip), Some("jsonl".into())));
        assert_eq!(of("*.csv.zst"), (Some(Packing::Zstd), Some("csv".into())));
        assert_eq!(of("clicks.csv"), (None, Some("csv".into())));
        assert_eq!(of("z/*.gz"), (Some(Packing::Gzip), None));
        assert_eq!(of("gz"), (None, None));
    }
}

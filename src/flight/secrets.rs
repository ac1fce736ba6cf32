//! Passwords and tokens from files and from the environment.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A token that is shorter could be guessed.
pub const SHORTEST_TOKEN: usize = 16;

/// A password or a token. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// Others than the owner may read it.
    #[error("{} holds a secret and others can read it (mode {mode:04o}): chmod 600 {}", path.display(), path.display())]
    Shared {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is nothing in it.
    #[error("{0} is empty: it takes the secret, on one line")]
    Empty(String),
    /// It could be guessed, or cannot be sent.
    #[error(
        "{0} holds no token: it takes at least {SHORTEST_TOKEN} letters, digits, '-', '_', '.' or '~', such as \
         openssl rand -hex 24 prints"
    )]
    BadToken(String),
}

impl Secret {
    /// What is in a file that only its owner may read. A line's end after it does not belong to it.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn from_file(path: &Path) -> Result<Secret, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Shared { path: path.to_owned(), mode });
        }
        Secret::from_text(&std::fs::read_to_string(path).map_err(unreadable)?, &path.display().to_string())
    }

    /// A text that came from `place`, such as a variable.
    ///
    /// # Errors
    /// When it is empty.
    pub fn from_text(text: &str, place: &str) -> Result<Secret, SecretError> {
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(SecretError::Empty(place.to_owned())),
            text => Ok(Secret(text.to_owned())),
        }
    }

    /// The same secret, if it can be a token.
    ///
    /// # Errors
    /// When it could be guessed or cannot stand in a header.
    pub fn token(self, place: &str) -> Result<Secret, SecretError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        if self.0.len() >= SHORTEST_TOKEN && self.0.bytes().all(fits) {
            Ok(self)
        } else {
            Err(SecretError::BadToken(place.to_owned()))
        }
    }

    /// The secret itself, to compare.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (place, path)
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o644, 0o640, 0o604] {
            let (_place, path) = file("canary\n", mode);
            let said = Secret::from_file(&path).unwrap_err().to_string();
            assert!(said.contains("others can read it") && said.contains("chmod 600"), "{said}");
            assert!(!said.contains("canary"), "{said}");
        }
        let (_place, path) = file("canary\n", 0o600);
        let secret = Secret::from_file(&path).unwrap();
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("canary", "***"));
    }

    #[test]
    fn nothing_is_no_secret_and_what_is_short_is_no_token() {
        let (_place, path) = file("\n", 0o600);
        assert!(Secret::from_file(&path).unwrap_err().to_string().contains("is empty"));
        assert!(Secret::from_file(Path::new("/no/such")).unwrap_err().to_string().contains("cannot read /no/such"));
        let token = |text| Secret::from_text(text, "TOKEN").unwrap().token("TOKEN");
        for bad in ["short", "with spaces all over it"] {
            let said = token(bad).unwrap_err().to_string();
            assert!(said.contains("TOKEN holds no token: it takes at least 16") && !said.contains(bad), "{said}");
        }
        assert!(token("0123456789abcdef").is_ok());
    }
}

//! The server's certificate and key, and who signs those of its clients, from PEM files.

use std::path::{Path, PathBuf};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// How long a client may take to agree on an encryption.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);

/// Where the files are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and a known authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signs the certificates that clients must have, if they must have one.
    pub client_authority: Option<PathBuf>,
}

/// Why nothing can be encrypted.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{} holds no {what} in PEM: {why}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What was found.
        why: String,
    },
    /// They do not belong together, or the key is of a kind that is not supported.
    #[error("{} and {} do not make a pair: {source}", certificate.display(), key.display())]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads the files and makes sure that they fit.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn read(&self) -> Result<ServerTlsConfig, TlsError> {
        let certificate = read(&self.certificate)?;
        let key = read(&self.key)?;
        let chain = certificates(&self.certificate, &certificate)?;
        let parsed = PrivateKeyDer::from_pem_slice(&key).map_err(|error| not_pem(&self.key, "private key", &error))?;
        CertifiedKey::from_der(chain, parsed, &default_provider()).map_err(|source| TlsError::NoPair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })?;
        let mut config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).timeout(HANDSHAKE);
        if let Some(path) = &self.client_authority {
            let authority = read(path)?;
            certificates(path, &authority)?;
            config = config.client_ca_root(Certificate::from_pem(authority));
        }
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(not_pem(path, "certificate", &"there is none in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(not_pem(path, "certificate", &error)),
    }
}

fn not_pem(path: &Path, what: &'static str, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::NotPem { path: path.to_owned(), what, why: why.to_string() }
}

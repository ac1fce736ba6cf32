//! Where the server listens, and what must be so before it does.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use thiserror::Error;
use tokio::net::TcpListener;

/// Where the server listens when nothing else is said: the port that Flight SQL's clients try.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 32010));

/// What stands between the server and those who reach it.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Whether users, tokens or client certificates are asked for.
    pub asks: bool,
    /// Whether connections are encrypted.
    pub encrypts: bool,
    /// Whether the user vouches for the network.
    pub insecure: bool,
}

/// Why the server does not listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// Anybody on the network could ask.
    #[error(
        "{0} can be reached from other machines, and nobody would be asked for a password: name a user with --user and \
         --password-file, or take 127.0.0.1:{port}", port = .0.port()
    )]
    Open(SocketAddr),
    /// Anybody on the network could listen.
    #[error(
        "{0} can be reached from other machines, and passwords would travel unencrypted: give --tls-cert and --tls-key, \
         take 127.0.0.1:{port}, or add --insecure-bind if the network itself is guarded", port = .0.port()
    )]
    Unencrypted(SocketAddr),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address} for Flight SQL: {source}; choose another address with {option} ADDRESS:PORT")]
    Unavailable {
        /// The address.
        address: SocketAddr,
        /// The option that names another.
        option: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
}

/// Listens on `address`, which `option` has named, if that is safe enough.
///
/// # Errors
/// See [`BindError`].
pub async fn bind(address: SocketAddr, option: &'static str, guard: Guard) -> Result<TcpListener, BindError> {
    if !address.ip().is_loopback() {
        if !guard.asks {
            return Err(BindError::Open(address));
        }
        if !guard.encrypts && !guard.insecure {
            return Err(BindError::Unencrypted(address));
        }
    }
    TcpListener::bind(address).await.map_err(|source| BindError::Unavailable { address, option, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(address: &str, asks: bool, encrypts: bool, insecure: bool) -> Option<String> {
        let guard = Guard { asks, encrypts, insecure };
        bind(address.parse().unwrap(), "--bind", guard).await.err().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn other_machines_need_a_password_and_encryption() {
        for insecure in [false, true] {
            for encrypts in [false, true] {
                let said = refusal("0.0.0.0:0", false, encrypts, insecure).await.unwrap();
                assert!(said.contains("nobody would be asked") && said.contains("127.0.0.1:0"), "{said}");
            }
        }
        let said = refusal("[::]:0", true, false, false).await.unwrap();
        assert!(said.contains("unencrypted") && said.contains("--insecure-bind"), "{said}");
        assert_eq!(refusal("0.0.0.0:0", true, true, false).await, None);
        assert_eq!(refusal("0.0.0.0:0", true, false, true).await, None);
        assert_eq!(refusal("127.0.0.1:0", false, false, false).await, None);
        assert_eq!(refusal("[::1]:0", false, false, false).await, None);
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_the_option() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = holder.local_addr().unwrap().to_string();
        let said = refusal(&taken, false, false, false).await.unwrap();
        assert!(said.contains(&taken) && said.contains("--bind ADDRESS:PORT"), "{said}");
    }
}

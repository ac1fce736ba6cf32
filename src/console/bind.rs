//! Which address the console listens on, and the page.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use thiserror::Error;
use tokio::net::TcpListener;

/// Where the console listens when nothing else is said. The port is that of OpenTelemetry's Prometheus exporter, and
/// none of the shop's.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9464));

/// What listens, and the options that say where.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// Its name in log lines.
    pub name: &'static str,
    /// The option that names another address.
    pub choose: &'static str,
    /// The option that does without it.
    pub leave: &'static str,
}

const CONSOLE: Listening = Listening { name: "console", choose: "--http", leave: "--no-http" };

/// Why the console or the page cannot listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address can be reached from other machines.
    #[error(
        "{0} can be reached from other machines, and the console asks for no password: \
         take 127.0.0.1:{port}, or add --insecure-bind if the network itself is guarded",
        port = .0.port()
    )]
    Exposed(SocketAddr),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}; choose another with {choose} ADDRESS:PORT, or none with {leave}",
            choose = .listening.choose, leave = .listening.leave)]
    Unavailable {
        /// What wanted it.
        listening: Listening,
        /// The address.
        address: SocketAddr,
        /// The system's own words.
        source: std::io::Error,
    },
}

/// Listens on `asked`, or on [`DEFAULT_ADDRESS`] and, if that is taken, on any free port of loopback.
///
/// # Errors
/// When the address that was asked for cannot be had, or may not be without `insecure`.
pub async fn bind(asked: Option<SocketAddr>, insecure: bool) -> Result<TcpListener, BindError> {
    let Some(address) = asked else { return listen_or_free(CONSOLE, DEFAULT_ADDRESS).await };
    if !address.ip().is_loopback() && !insecure {
        return Err(BindError::Exposed(address));
    }
    listen(CONSOLE, address).await
}

/// Listens on `address` or, if that is taken, on any free port of the same interface.
///
/// # Errors
/// When the interface cannot be had.
pub async fn listen_or_free(listening: Listening, address: SocketAddr) -> Result<TcpListener, BindError> {
    match listen(listening, address).await {
        Err(BindError::Unavailable { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            let listener = listen(listening, SocketAddr::new(address.ip(), 0)).await?;
            if let Ok(free) = listener.local_addr() {
                tracing::warn!("port {} is taken, so the {} is on {free}", address.port(), listening.name);
            }
            Ok(listener)
        }
        outcome => outcome,
    }
}

/// Listens on `address` and no other.
///
/// # Errors
/// When it cannot be had.
pub async fn listen(listening: Listening, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::Unavailable { listening, address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_machines_are_let_in_only_when_asked() {
        let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let refused = bind(Some(everywhere), false).await.unwrap_err().to_string();
        assert!(refused.contains("--insecure-bind") && refused.contains("127.0.0.1:0"), "{refused}");
        assert!(bind(Some(everywhere), true).await.is_ok());
    }

    #[tokio::test]
    async fn a_taken_port_that_was_asked_for_is_an_error() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = holder.local_addr().unwrap();
        let refused = bind(Some(taken), false).await.unwrap_err().to_string();
        assert!(refused.contains(&taken.to_string()) && refused.contains("--no-http"), "{refused}");
    }

    #[tokio::test]
    async fn a_taken_default_port_gives_way_to_a_free_one() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = holder.local_addr().unwrap();
        let listener = listen_or_free(CONSOLE, taken).await.unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), taken.port());
        assert!(listener.local_addr().unwrap().ip().is_loopback());
    }
}

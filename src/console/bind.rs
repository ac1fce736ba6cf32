//! Which address the console listens on.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use thiserror::Error;
use tokio::net::TcpListener;

/// Where the console listens when nothing else is said. The port is that of OpenTelemetry's Prometheus exporter, and
/// none of the shop's.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9464));

/// Why the console cannot listen.
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
    #[error("cannot listen on {address}: {source}; choose another with --http ADDRESS:PORT, or none with --no-http")]
    Unavailable {
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
    let Some(address) = asked else { return bind_or_free(DEFAULT_ADDRESS).await };
    if !address.ip().is_loopback() && !insecure {
        return Err(BindError::Exposed(address));
    }
    listen(address).await
}

async fn bind_or_free(address: SocketAddr) -> Result<TcpListener, BindError> {
    match listen(address).await {
        Err(BindError::Unavailable { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            let listener = listen(SocketAddr::new(address.ip(), 0)).await?;
            if let Ok(free) = listener.local_addr() {
                tracing::warn!("port {} is taken, so the console is on {free}", address.port());
            }
            Ok(listener)
        }
        outcome => outcome,
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::Unavailable { address, source })
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
        let listener = bind_or_free(taken).await.unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), taken.port());
        assert!(listener.local_addr().unwrap().ip().is_loopback());
    }
}

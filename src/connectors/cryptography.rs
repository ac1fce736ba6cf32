//! Whose cryptography TLS uses in this process: ring's.
//!
//! rustls takes it from whichever library brought one; since two are linked (deltalake-core brings aws-lc), it refuses
//! to guess, and whoever opens a connection without saying which would panic.

use std::sync::Once;

static CHOSEN: Once = Once::new();

/// Makes ring the process's choice. Called by whoever opens TLS without naming one; more than once does no harm.
pub fn choose_cryptography() {
    CHOSEN.call_once(|| {
        // Refused only when somebody has chosen before: then there is a choice, which is all that is needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_names_none_gets_it() {
        choose_cryptography();
        choose_cryptography();
        let provider = rustls::ClientConfig::builder();
        assert!(!provider.crypto_provider().cipher_suites.is_empty());
    }
}

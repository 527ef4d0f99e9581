//! The one TLS provider of the project, and what a server does with TLS.

pub(crate) mod server;

pub use server::{ClientCertificates, TlsError, TlsFiles, TlsServer};

/// Installs aws-lc-rs as the process's provider. Call it first in each `main` and each test that
/// makes TLS or a reqwest client; later calls do nothing.
pub fn install_crypto_provider() {
    // The error only says that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The client certificate of a connection, verified against the configured authorities: an
/// extension of every request on it. Absent when the client showed none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of the certificate in DER: what `openssl x509 -fingerprint -sha256` prints.
    pub sha256: [u8; 32],
}

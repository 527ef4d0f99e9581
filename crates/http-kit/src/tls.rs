//! The one TLS provider of the project.

/// Installs aws-lc-rs as the process's provider. Call it first in each `main` and each test that
/// makes TLS or a reqwest client; later calls do nothing.
pub fn install_crypto_provider() {
    // The error only says that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

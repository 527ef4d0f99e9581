//! The flags of TLS.

use clap::ValueEnum;
use penstock_config::ConfigError;
use penstock_http_kit::tls::{ClientCertificates, TlsFiles};
use std::path::PathBuf;

/// The command line's part. The files are read again when they change, and at SIGHUP.
#[derive(Debug, Clone, clap::Args)]
pub struct TlsArgs {
    /// Certificate of the API, PEM, its intermediates after it. With --tls-key the API speaks
    /// HTTPS only.
    #[arg(long, env = "PENSTOCK_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert, PEM.
    #[arg(long, env = "PENSTOCK_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Authorities, PEM, that vouch for clients: who connects shows a certificate of one of them.
    #[arg(long, env = "PENSTOCK_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,

    /// Whether every client has to show a certificate. With optional, one without it
    /// authenticates by other means; one that is shown is verified all the same.
    #[arg(
        long,
        env = "PENSTOCK_CLIENT_CERTIFICATES",
        value_name = "WHEN",
        value_enum,
        default_value_t = Wanted::Required
    )]
    pub client_certificates: Wanted,
}

/// `--client-certificates`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// No certificate, no connection.
    Required,
    /// Verified when shown.
    Optional,
}

impl TlsArgs {
    /// The files, if TLS is wanted; they are read when the service is built.
    pub fn files(&self) -> Result<Option<TlsFiles>, ConfigError> {
        let (cert, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (Some(_), None) => {
                return Err(ConfigError::value("--tls-key", "is required with --tls-cert"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::value("--tls-cert", "is required with --tls-key"));
            }
            (None, None) if self.client_ca.is_some() => {
                return Err(ConfigError::value("--tls-cert", "is required with --client-ca"));
            }
            (None, None) => return Ok(None),
        };
        let client_certificates = match self.client_certificates {
            Wanted::Required => ClientCertificates::Required,
            Wanted::Optional => ClientCertificates::Optional,
        };
        let client_ca = self.client_ca.clone();
        Ok(Some(TlsFiles { cert, key, client_ca, client_certificates }))
    }
}

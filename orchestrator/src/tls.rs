//! The self-signed certificate, kept over restarts.
//!
//! Go clients verify nothing; the Python SDK trusts the first certificate it sees, as the only
//! root, and takes the first DNS name in it as the server's name (orchestrator-wire.md section 1).
//! So it must be its own root and name the host of the service URI. The reference makes a new one
//! at each start; ours stays, so that a changed pin means something.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

/// Life of a certificate, as in the reference.
const LIFETIME: Duration = Duration::hours(8765);
/// A certificate is replaced when less than this is left at a start.
const RENEW_BEFORE: Duration = Duration::days(30);

/// The certificate could not be read or made.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file in the data directory.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Making it.
    #[error("cannot make a certificate for {host}: {source}")]
    Make {
        /// The name in it.
        host: String,
        /// Why.
        source: rcgen::Error,
    },
    /// Using it.
    #[error("the certificate in {path} cannot be used: {reason}", path = .path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No random serial number.
    #[error(transparent)]
    Random(#[from] crate::secrets::SecretError),
}

/// What was made, to know when to make it anew.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    host: String,
    not_after_unix_s: i64,
}

/// TLS settings with the kept certificate of `folder`; one is made for `host` if there is none,
/// if it names another host, or if it ends within 30 days of `now`.
pub fn server_config(
    folder: &Path,
    host: &str,
    now: OffsetDateTime,
) -> Result<Arc<ServerConfig>, TlsError> {
    let cert_path = folder.join("cert.pem");
    let key_path = folder.join("key.pem");
    if !is_current(folder, host, now) {
        make(folder, host, now)?;
        tracing::info!(host, folder = %folder.display(), "made a new TLS certificate");
    }
    let unusable = |reason: String| TlsError::Unusable { path: folder.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(&cert_path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&key_path).map_err(|error| unusable(error.to_string()))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn is_current(folder: &Path, host: &str, now: OffsetDateTime) -> bool {
    let Ok(text) = std::fs::read(folder.join("cert.json")) else { return false };
    let Ok(made) = serde_json::from_slice::<Made>(&text) else { return false };
    let files = ["cert.pem", "key.pem"].iter().all(|name| folder.join(name).is_file());
    files && made.host == host && made.not_after_unix_s >= (now + RENEW_BEFORE).unix_timestamp()
}

fn make(folder: &Path, host: &str, now: OffsetDateTime) -> Result<(), TlsError> {
    let failed = |source| TlsError::Make { host: host.to_owned(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let params = params(host, now, crate::secrets::random()?).map_err(failed)?;
    let cert = params.self_signed(&key).map_err(failed)?;
    let made = Made { host: host.to_owned(), not_after_unix_s: params.not_after.unix_timestamp() };
    // The description goes last: without it the pair is not taken for whole.
    let description = serde_json::to_vec(&made).unwrap_or_default();
    write(&folder.join("cert.json"), b"{}")?;
    write(&folder.join("key.pem"), key.serialize_pem().as_bytes())?;
    write(&folder.join("cert.pem"), cert.pem().as_bytes())?;
    write(&folder.join("cert.json"), &description)
}

/// The fields of orchestrator-wire.md section 1.
fn params(
    host: &str,
    now: OffsetDateTime,
    serial: [u8; 16],
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // The host as a DNS name even when it is an IP, since the SDK looks there first; and as an
    // IP as well, since strict verifiers look for IPs only there.
    params.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
    if let Ok(ip) = host.parse::<IpAddr>() {
        params.subject_alt_names.push(SanType::IpAddress(ip));
    }
    params.not_before = now;
    params.not_after = now + LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn write(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    let failed = |source| TlsError::Io { path: path.to_owned(), source };
    penstock_config::replace_secret_file(path, content).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn kept_until_host_or_time_change() {
        penstock_http_kit::tls::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let cert = || std::fs::read(dir.path().join("cert.pem")).unwrap();
        server_config(dir.path(), "127.0.0.1", now()).unwrap();
        let first = cert();
        server_config(dir.path(), "127.0.0.1", now() + Duration::days(300)).unwrap();
        assert_eq!(cert(), first);
        server_config(dir.path(), "127.0.0.1", now() + Duration::days(340)).unwrap();
        let second = cert();
        assert_ne!(second, first);
        let config =
            server_config(dir.path(), "orch.example", now() + Duration::days(340)).unwrap();
        assert_ne!(cert(), second);
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        std::fs::write(dir.path().join("cert.pem"), "").unwrap();
        assert!(matches!(
            server_config(dir.path(), "orch.example", now() + Duration::days(340)),
            Err(TlsError::Unusable { .. })
        ));
    }
}

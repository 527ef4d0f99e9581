//! A server's certificate and the authorities of its clients, read from files and read again when
//! they change: certificates are renewed without a restart. A connection keeps what it began with.

use super::PeerCertificate;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use thiserror::Error;
use tokio::signal::unix::SignalKind;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Whether a client has to show a certificate. One that it shows is always verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No certificate, no connection.
    #[default]
    Required,
    /// A client without one may authenticate otherwise.
    Optional,
}

/// Where the PEM files are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, then its intermediates.
    pub cert: PathBuf,
    /// Its private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// Authorities that vouch for clients; without it no client is asked for a certificate.
    pub client_ca: Option<PathBuf>,
    /// Asked for with `client_ca`.
    pub client_certificates: ClientCertificates,
}

/// The files cannot be used. The setting is right or wrong at the operator's side only.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Not there, not readable, not PEM, or empty.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not fit together, or are of a kind that TLS does not know.
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
}

/// What new connections are accepted with.
#[derive(Clone)]
pub struct TlsServer {
    files: Arc<TlsFiles>,
    current: Arc<RwLock<Loaded>>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// Of all files' contents: times of change say too little about files behind symbolic links.
    digest: [u8; 32],
}

impl TlsServer {
    /// Reads the files. Blocking, and short.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Loaded { digest: digest(&files)?, config: config(&files)? };
        Ok(Self { files: Arc::new(files), current: Arc::new(RwLock::new(loaded)) })
    }

    /// Reads the files again if they differ from what is in use; says whether they did. After an
    /// error what is in use stays.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let digest = digest(&self.files)?;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return Ok(false);
        }
        let config = config(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Loaded { config, digest };
        Ok(true)
    }

    /// Looks at the files every `interval` and at each SIGHUP, until `stop`.
    pub async fn follow(&self, interval: Duration, stop: CancellationToken) {
        let mut hangup = match tokio::signal::unix::signal(SignalKind::hangup()) {
            Ok(signal) => Some(signal),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be caught: certificates are read by time only");
                None
            }
        };
        let mut last_error = String::new();
        // Shown before there is anything to count: Prometheus sees no increase in what begins with 1.
        metrics::counter!("tls_reloads_total", "outcome" => "error").increment(0);
        loop {
            let asked = async {
                match &mut hangup {
                    Some(signal) => drop(signal.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
                () = asked => last_error.clear(),
            }
            match self.reload_if_changed() {
                Ok(true) => {
                    tracing::info!(cert = %self.files.cert.display(), "TLS files were read again");
                    metrics::counter!("tls_reloads_total", "outcome" => "ok").increment(1);
                    last_error.clear();
                }
                Ok(false) => last_error.clear(),
                // Said once: the files may be half written, and will be looked at again.
                Err(error) if error.to_string() != last_error => {
                    tracing::error!(%error, "TLS files changed and cannot be used; the old ones stay");
                    metrics::counter!("tls_reloads_total", "outcome" => "error").increment(1);
                    last_error = error.to_string();
                }
                Err(_) => {}
            }
        }
    }

    /// For the next handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

/// The verified certificate of the client behind a connection.
pub(crate) fn peer_certificate(connection: &ServerConnection) -> Option<PeerCertificate> {
    let first = connection.peer_certificates()?.first()?;
    Some(PeerCertificate { sha256: Sha256::digest(first.as_ref()).into() })
}

fn digest(files: &TlsFiles) -> Result<[u8; 32], TlsError> {
    let mut all = Sha256::new();
    for path in
        [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()].into_iter().flatten()
    {
        let content = std::fs::read(path).map_err(|e| unusable(path, &e))?;
        all.update(Sha256::digest(content));
    }
    Ok(all.finalize().into())
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = client_verifier(path, files.client_certificates, provider)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable(&files.key, &e))?;
    let mut config = builder.with_single_cert(certificates(&files.cert)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn client_verifier(
    path: &Path,
    wanted: ClientCertificates,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).map_err(|e| unusable(path, &e))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match wanted {
        ClientCertificates::Required => builder,
        ClientCertificates::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|e| unusable(path, &e))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| unusable(path, &e))?.collect();
    let found = found.map_err(|e| unusable(path, &e))?;
    if found.is_empty() {
        return Err(unusable(path, &"holds no certificate"));
    }
    Ok(found)
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

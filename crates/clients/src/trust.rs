//! Whose certificates are accepted, and the TLS configuration that follows from it.

use crate::{channel::HostPinned, pins::Pins};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::{path::Path, sync::Arc};
use thiserror::Error;

/// Which certificates a client accepts.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those that the operating system's authorities vouch for. On a machine without any, every
    /// TLS peer is refused (plain http still works).
    #[default]
    System,
    /// Those that these authorities vouch for.
    Roots(Arc<RootCertStore>),
    /// These very certificates, whatever they say of themselves, and no others: for a peer whose
    /// certificate is its own authority.
    Only(Arc<Vec<CertificateDer<'static>>>),
    /// Any. The peer still has to prove that it holds the certificate's key. For orchestrators,
    /// whose certificates are self-signed and whose tickets, not whose TLS, protect the money.
    AcceptAny,
}

/// A client that cannot be built; always our own configuration's fault.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The roots cannot be used.
    #[error("TLS roots: {0}")]
    Roots(String),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be set up.
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// A URL or header in the configuration is wrong.
    #[error("{setting}: {reason}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// Why.
        reason: String,
    },
}

/// The certificate that a client shows, with its key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads a PEM file with the certificate, then its intermediates, and one with its key. The
    /// error names the file.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, String> {
        let private = PrivateKeyDer::from_pem_file(key);
        let private = private.map_err(|e| format!("{}: {e}", key.display()))?;
        Ok(Self { chain: certificates(cert)?, key: Arc::new(private) })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let read = CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
    if found.is_empty() { Err(failed(&"holds no certificate")) } else { Ok(found) }
}

impl Trust {
    /// The authorities in a PEM file, and nobody else. The error names the file.
    pub fn roots_from_file(path: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(path)? {
            roots.add(authority).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(Self::Roots(Arc::new(roots)))
    }

    /// The certificates in a PEM file, and no others. The error names the file.
    pub fn only_from_file(path: &Path) -> Result<Self, String> {
        Ok(Self::Only(Arc::new(certificates(path)?)))
    }

    /// The verifier for this trust.
    pub(crate) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, BuildError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(match self {
            Self::AcceptAny => Arc::new(AcceptAny { provider }),
            Self::Only(certificates) => Arc::new(Only {
                certificates: Arc::clone(certificates),
                any: AcceptAny { provider },
            }),
            Self::Roots(roots) => {
                WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider)
                    .build()
                    .map_err(|e| BuildError::Roots(e.to_string()))?
            }
            Self::System => match rustls_platform_verifier::Verifier::new(Arc::clone(&provider)) {
                Ok(verifier) => Arc::new(verifier),
                Err(error) => {
                    tracing::warn!(%error, "no certificate authorities: https is refused");
                    Arc::new(RefuseAll { provider })
                }
            },
        })
    }

    /// The configuration for an HTTP client: h2 and http/1.1.
    pub(crate) fn http_config(
        &self,
        identity: Option<&Identity>,
        pins: Option<&Arc<Pins>>,
    ) -> Result<ClientConfig, BuildError> {
        let mut verifier = self.verifier()?;
        if let Some(pins) = pins.filter(|p| p.are_strict()) {
            verifier = Arc::new(HostPinned { inner: verifier, pins: Arc::clone(pins) });
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key())?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Compares bytes; the peer proves that it holds the key.
#[derive(Debug)]
struct Only {
    certificates: Arc<Vec<CertificateDer<'static>>>,
    any: AcceptAny,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.iter().any(|known| known == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }
}

/// Stands in where the system has no authorities.
#[derive(Debug)]
struct RefuseAll {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for RefuseAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

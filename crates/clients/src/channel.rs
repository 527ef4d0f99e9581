//! gRPC channels to orchestrators, one per origin, connected when first used and again when
//! broken.

use crate::{
    call::{origin, reason},
    error::CallErrorKind,
    names::Names,
    pins::Pins,
    reach::{Reach, Resolver},
    trust::{BuildError, Trust},
};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use url::Url;

/// The channels of one client.
#[derive(Debug)]
pub(crate) struct Channels {
    open: Mutex<HashMap<String, Channel>>,
    verifier: Arc<dyn ServerCertVerifier>,
    pins: Arc<Pins>,
    resolver: Resolver,
    connect_timeout: Duration,
    alive: Alive,
}

/// How a connection with calls under way whose peer is gone is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alive {
    /// By pings of HTTP/2.
    Pings,
    /// By the system: servers of gRPC's Go library close a connection on which pings come more often than
    /// every five minutes while they have nothing to say.
    Tcp,
}

impl Channels {
    /// Channels kept; when there are more origins than this all are dropped and made again.
    const MAX: usize = 8_192;

    pub fn new(
        trust: &Trust,
        pins: Arc<Pins>,
        (reach, names): (Reach, Names),
        connect_timeout: Duration,
    ) -> Result<Self, BuildError> {
        let verifier = trust.verifier()?;
        let resolver = Resolver { reach, names };
        let alive = Alive::Pings;
        Ok(Self { open: Mutex::default(), verifier, pins, resolver, connect_timeout, alive })
    }

    /// The channel to a service URI: TLS for `https`, HTTP/2 by prior knowledge for `http`.
    pub fn get(&self, url: &Url) -> Result<Channel, CallErrorKind> {
        let origin =
            origin(url).ok_or_else(|| CallErrorKind::Url("expected http or https".into()))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(&origin) {
            return Ok(channel.clone());
        }
        let channel = self.make(&origin).map_err(|e| CallErrorKind::Url(reason(&e)))?;
        if open.len() >= Self::MAX {
            open.clear();
        }
        open.insert(origin, channel.clone());
        Ok(channel)
    }

    fn make(&self, origin: &str) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(origin.to_owned())?;
        let endpoint = match self.alive {
            Alive::Pings => endpoint
                .http2_keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10)),
            Alive::Tcp => endpoint,
        };
        let endpoint = if origin.starts_with("https:") {
            let verifier = Pinned {
                origin: origin.to_owned(),
                inner: Arc::clone(&self.verifier),
                pins: Arc::clone(&self.pins),
            };
            let tls = ClientTlsConfig::new().timeout(self.connect_timeout);
            endpoint.tls_config_with_verifier(tls, Arc::new(verifier))?
        } else {
            endpoint
        };
        let mut tcp = HttpConnector::new_with_resolver(self.resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        if self.alive == Alive::Tcp {
            tcp.set_keepalive(Some(Duration::from_secs(20)));
            tcp.set_keepalive_interval(Some(Duration::from_secs(5)));
            tcp.set_keepalive_retries(Some(4));
            tcp.set_tcp_user_timeout(Some(Duration::from_secs(40)));
        }
        Ok(endpoint.connect_with_connector_lazy(tcp))
    }
}

/// A channel of one's own to one service URI, for a caller that keeps a stream open: a worker.
/// It connects when first used and again when broken; changed certificates are logged.
pub fn channel(url: &Url, trust: &Trust, connect_timeout: Duration) -> Result<Channel, BuildError> {
    own_channel(url, trust, connect_timeout, Alive::Pings)
}

/// The same without pings, to a peer whose streams may have nothing to say for long.
pub(crate) fn quiet_channel(
    url: &Url,
    trust: &Trust,
    connect_timeout: Duration,
) -> Result<Channel, BuildError> {
    own_channel(url, trust, connect_timeout, Alive::Tcp)
}

fn own_channel(
    url: &Url,
    trust: &Trust,
    connect_timeout: Duration,
    alive: Alive,
) -> Result<Channel, BuildError> {
    let anywhere = (Reach::Anywhere, Names::default());
    let channels = Channels::new(trust, Arc::default(), anywhere, connect_timeout)?;
    Channels { alive, ..channels }
        .get(url)
        .map_err(|e| BuildError::Setting { setting: "service URL", reason: e.to_string() })
}

/// What strict pins answer a changed certificate with.
const CHANGED: CertificateError = CertificateError::ApplicationVerificationFailure;

/// For HTTP clients with strict pins: refuses what none of the host's ports showed before.
#[derive(Debug)]
pub(crate) struct HostPinned {
    pub inner: Arc<dyn ServerCertVerifier>,
    pub pins: Arc<Pins>,
}

impl ServerCertVerifier for HostPinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        if self.pins.refuses_at_host(&server_name.to_str(), end_entity) {
            return Err(CHANGED.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Notes what an inner verifier accepts.
#[derive(Debug)]
struct Pinned {
    origin: String,
    inner: Arc<dyn ServerCertVerifier>,
    pins: Arc<Pins>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        if self.pins.refuses(&self.origin, end_entity) {
            return Err(CHANGED.into());
        }
        self.pins.observe(&self.origin, end_entity);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

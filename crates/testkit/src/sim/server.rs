//! HTTPS (h2 and http/1.1) and plain servers on port 0.

use super::line::Line;
use axum::Router;
use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use std::{
    net::{SocketAddr, TcpListener},
    ops::Deref,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpSocket, task::JoinHandle};

/// A simulated peer and its server: reads like the peer, and stops with this value.
#[derive(Debug)]
pub struct Running<T> {
    /// The peer; may be kept after the server is gone.
    pub sim: Arc<T>,
    /// Its server.
    pub server: Server,
}

impl<T> Running<T> {
    /// Where it is served, `scheme://127.0.0.1:PORT`.
    pub fn uri(&self) -> String {
        self.server.uri.clone()
    }
}

impl<T> Deref for Running<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.sim
    }
}

/// A running server; it stops with this value.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub uri: String,
    running: Mutex<Option<(Handle<SocketAddr>, JoinHandle<()>)>>,
    line: Line,
    kept: Kept,
}

/// What it takes to be there again.
#[derive(Debug)]
struct Kept {
    // Bound and not listening: while the server is dead, nobody else gets its port.
    port: TcpSocket,
    router: Router,
    tls: Option<RustlsConfig>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((handle, _)) = self.running.lock().unwrap().take() {
            handle.shutdown();
        }
    }
}

impl Server {
    /// Binds first, so that the routes can know their own address.
    pub async fn tls(router: impl FnOnce(&str) -> Router) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let (cert, key) = certificate();
        let config = RustlsConfig::from_der(vec![cert], key).await.unwrap();
        let port = bound(([127, 0, 0, 1], 0).into());
        let uri = format!("https://{}", port.local_addr().unwrap());
        let router = router(&uri);
        Self::start(uri, Kept { port, router, tls: Some(config) })
    }

    /// In clear.
    pub async fn clear(router: Router) -> Self {
        let port = bound(([127, 0, 0, 1], 0).into());
        let uri = format!("http://{}", port.local_addr().unwrap());
        Self::start(uri, Kept { port, router, tls: None })
    }

    fn start(uri: String, kept: Kept) -> Self {
        let server = Self { uri, running: Mutex::default(), line: Line::default(), kept };
        server.revive();
        server
    }

    /// Its listener and all its connections are gone at once, whatever was at work with them. New ones
    /// are refused.
    pub async fn die(&self) {
        let running = self.running.lock().unwrap().take();
        let (handle, served) = running.expect("it is alive");
        handle.shutdown();
        served.await.expect("it ends in order");
    }

    /// It is there again, at the same address.
    pub fn revive(&self) {
        let addr = self.kept.port.local_addr().unwrap();
        let listener = bound(addr).listen(1_024).unwrap().into_std().unwrap();
        let (handle, service) = (Handle::new(), self.kept.router.clone().into_make_service());
        let server = axum_server::from_tcp(listener).unwrap().handle(handle.clone());
        let line = self.line.clone();
        let served = match self.kept.tls.clone() {
            Some(config) => {
                let acceptor = RustlsAcceptor::new(config).acceptor(line);
                tokio::spawn(async move { server.acceptor(acceptor).serve(service).await.unwrap() })
            }
            None => {
                tokio::spawn(async move { server.acceptor(line).serve(service).await.unwrap() })
            }
        };
        *self.running.lock().unwrap() = Some((handle, served));
    }

    /// Connections that are made from now on are shown another certificate.
    pub async fn renew_certificate(&self) {
        let (cert, key) = certificate();
        let config = self.kept.tls.as_ref().expect("it has one");
        config.reload_from_der(vec![cert], key).await.unwrap();
    }

    /// From now on it neither reads nor writes, on any connection, like a process that stands still: only
    /// its kernel answers. Or it does again.
    pub fn set_silent(&self, silent: bool) {
        self.line.set_silent(silent);
    }
}

/// A new certificate and its key.
fn certificate() -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::DnsName("127.0.0.1".try_into().unwrap())];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).unwrap().der().to_vec();
    (cert, key.serialize_der())
}

/// A socket at an address that others of this module may have too, of which one listens.
fn bound(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(addr).unwrap();
    socket
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

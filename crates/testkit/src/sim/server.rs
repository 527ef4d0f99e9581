//! HTTPS (h2 and http/1.1) and plain servers on port 0.

use axum::Router;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use std::{
    net::{SocketAddr, TcpListener},
    ops::Deref,
    sync::Arc,
};

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
    handle: Handle<SocketAddr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl Server {
    /// Binds first, so that the routes can know their own address.
    pub async fn tls(router: impl FnOnce(&str) -> Router) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![rcgen::SanType::DnsName("127.0.0.1".try_into().unwrap())];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap().der().to_vec();
        let config = RustlsConfig::from_der(vec![cert], key.serialize_der()).await.unwrap();
        let (listener, handle) = (bound(), Handle::new());
        let uri = format!("https://{}", listener.local_addr().unwrap());
        let app = router(&uri).into_make_service();
        let server = axum_server::from_tcp_rustls(listener, config).unwrap().handle(handle.clone());
        tokio::spawn(server.serve(app));
        Self { uri, handle }
    }

    /// In clear.
    pub async fn clear(router: Router) -> Self {
        let (listener, handle) = (bound(), Handle::new());
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let server = axum_server::from_tcp(listener).unwrap().handle(handle.clone());
        tokio::spawn(server.serve(router.into_make_service()));
        Self { uri, handle }
    }
}

fn bound() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

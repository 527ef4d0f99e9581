//! Servers on port 0, and a relay that can be pointed elsewhere.

use axum::Router;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::net::{TcpListener, TcpStream};

/// A running server; it stops with this value.
pub struct Server {
    pub uri: String,
    pub addr: SocketAddr,
    handle: Handle<SocketAddr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// A certificate like the Go node's: self-signed, its own authority, one DNS name, and that is
/// the host even when it is an IP.
fn certificate() -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::DnsName("127.0.0.1".try_into().unwrap())];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).unwrap();
    (cert.der().to_vec(), key.serialize_der())
}

async fn bound() -> std::net::TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.into_std().unwrap()
}

/// HTTPS with h2 and http/1.1 on one port.
pub async fn tls(router: Router) -> Server {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (cert, key) = certificate();
    let config = RustlsConfig::from_der(vec![cert], key).await.unwrap();
    let (listener, handle) = (bound().await, Handle::new());
    let addr = listener.local_addr().unwrap();
    let server = axum_server::from_tcp_rustls(listener, config).unwrap().handle(handle.clone());
    tokio::spawn(server.serve(router.into_make_service()));
    Server { uri: format!("https://{addr}"), addr, handle }
}

/// Cleartext, HTTP/1.1 and HTTP/2 by prior knowledge.
pub async fn clear(router: Router) -> Server {
    let (listener, handle) = (bound().await, Handle::new());
    let addr = listener.local_addr().unwrap();
    let server = axum_server::from_tcp(listener).unwrap().handle(handle.clone());
    tokio::spawn(server.serve(router.into_make_service()));
    Server { uri: format!("http://{addr}"), addr, handle }
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// One address in front of whichever server it is pointed at.
pub struct Relay {
    pub addr: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let shared = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let target = *shared.lock().unwrap();
                tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { addr, target }
    }

    pub fn point_at(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }
}

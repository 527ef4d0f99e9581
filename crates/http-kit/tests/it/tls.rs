//! Who gets in, who is told what, and what a slow client can do to the others.

use axum::{Extension, Router, routing::get};
use penstock_http_kit::{
    CancellationToken,
    serve::{self, Options},
    tls::{
        ClientCertificates, PeerCertificate, TlsError, TlsFiles, TlsServer, install_crypto_provider,
    },
};
use penstock_testkit::{
    certificates::{Authority, Pair},
    until,
    until::DEADLINE,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};

struct Server {
    addr: SocketAddr,
    tls: TlsServer,
    stop: CancellationToken,
    running: JoinHandle<()>,
    folder: TempDir,
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()
}

/// A client that trusts `authority` and shows `pair`.
fn client(authority: &Authority, pair: Option<&Pair>) -> reqwest::Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![der(pair)], key).unwrap()
        }
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .pool_max_idle_per_host(0)
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .unwrap()
}

impl Server {
    async fn start(ours: &Authority, clients: Option<(&Authority, ClientCertificates)>) -> Self {
        install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        ours.pair().write(folder.path());
        let client_ca = clients.map(|(authority, _)| {
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, &authority.pem).unwrap();
            path
        });
        let tls = TlsServer::load(TlsFiles {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
            client_ca,
            client_certificates: clients.map(|(_, wanted)| wanted).unwrap_or_default(),
        })
        .unwrap();
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (entered, release) = (entered.clone(), release.clone());
            move || async move {
                entered.notify_one();
                release.notified().await;
                "done"
            }
        };
        let router = Router::new().route("/who", get(who)).route("/slow", get(slow));
        let listener = serve::bind("127.0.0.1:0".parse().unwrap(), "--http-addr").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let options = Options { tls: Some(tls.clone()), ..Options::default() };
        let served =
            serve::serve_with(listener, router, stop.clone(), Duration::from_secs(60), options);
        let running = tokio::spawn(async move { served.await.unwrap() });
        Self { addr, tls, stop, running, folder, entered, release }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }

    async fn who(&self, client: &reqwest::Client) -> Result<String, reqwest::Error> {
        client.get(self.url("/who")).send().await?.text().await
    }
}

async fn who(certificate: Option<Extension<PeerCertificate>>) -> String {
    certificate.map_or("nobody".to_owned(), |Extension(c)| format!("{:02x?}", c.sha256))
}

fn fingerprint(pair: &Pair) -> String {
    let digest: [u8; 32] = Sha256::digest(der(pair)).into();
    format!("{digest:02x?}")
}

#[tokio::test]
async fn a_client_shows_a_certificate_of_the_right_authority() {
    install_crypto_provider();
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let clients = Some((&ours, ClientCertificates::Required));
    let server = Server::start(&ours, clients).await;
    let good = ours.pair();
    assert_eq!(server.who(&client(&ours, Some(&good))).await.unwrap(), fingerprint(&good));
    for bad in [None, Some(foreign.pair()), Some(ours.expired())] {
        assert!(server.who(&client(&ours, bad.as_ref())).await.is_err());
    }
    // And the client does not talk to a server of an authority that it does not know.
    assert!(server.who(&client(&foreign, Some(&good))).await.is_err());
    assert_eq!(server.who(&client(&ours, Some(&good))).await.unwrap(), fingerprint(&good));
}

#[tokio::test]
async fn an_optional_certificate_is_verified_when_it_is_shown() {
    install_crypto_provider();
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let clients = Some((&ours, ClientCertificates::Optional));
    let server = Server::start(&ours, clients).await;
    let good = ours.pair();
    assert_eq!(server.who(&client(&ours, None)).await.unwrap(), "nobody");
    assert_eq!(server.who(&client(&ours, Some(&good))).await.unwrap(), fingerprint(&good));
    assert!(server.who(&client(&ours, Some(&foreign.pair()))).await.is_err());
    assert!(server.who(&client(&ours, Some(&ours.expired()))).await.is_err());
}

#[tokio::test]
async fn plain_http_is_answered_and_closed() {
    install_crypto_provider();
    let server = Server::start(&Authority::new("ours"), None).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // Ends because the server closes: nothing else does here.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthis port speaks HTTPS only.\n"), "{answer}");
}

#[tokio::test]
async fn slow_handshakes_keep_nobody_waiting() {
    install_crypto_provider();
    let ours = Authority::new("ours");
    let server = Server::start(&ours, None).await;
    let mut slow = Vec::new();
    for n in 0..200usize {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        // Nothing, or the beginning of a record that never ends.
        stream.write_all(&b"\x16\x03\x01\x02\x00\x01"[..n % 7]).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(server.who(&client(&ours, None)).await.unwrap(), "nobody");
    // The slow ones are still there, none of them served: a stop does not wait for them.
    server.stop.cancel();
    server.running.await.unwrap();
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.windows(4).any(|w| w == b"HTTP"), "{rest:?}");
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight() {
    install_crypto_provider();
    let ours = Authority::new("ours");
    let server = Server::start(&ours, None).await;
    let (asker, url) = (client(&ours, None), server.url("/slow"));
    let asked = tokio::spawn(async move { asker.get(url).send().await.unwrap().text().await });
    server.entered.notified().await;
    server.stop.cancel();
    server.release.notify_one();
    assert_eq!(asked.await.unwrap().unwrap(), "done");
    server.running.await.unwrap();
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change() {
    install_crypto_provider();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = Server::start(&old, None).await;
    assert_eq!(server.who(&client(&old, None)).await.unwrap(), "nobody");
    assert!(!server.tls.reload_if_changed().unwrap(), "nothing changed");
    let folder = server.folder.path();

    std::fs::write(folder.join("cert.pem"), new.pair().cert).unwrap();
    let error = server.tls.reload_if_changed().unwrap_err();
    assert!(matches!(error, TlsError::Pair(_)), "half of a new pair: {error}");
    std::fs::write(folder.join("cert.pem"), "rubbish").unwrap();
    assert!(matches!(server.tls.reload_if_changed().unwrap_err(), TlsError::File { .. }));
    assert_eq!(server.who(&client(&old, None)).await.unwrap(), "nobody", "the old pair stays");

    let following = tokio::spawn({
        let (tls, stop) = (server.tls.clone(), server.stop.clone());
        async move { tls.follow(Duration::from_millis(5), stop).await }
    });
    new.pair().write(folder);
    let newly = client(&new, None);
    until("the new pair is used", || async { server.who(&newly).await.is_ok() }).await;
    assert!(server.who(&client(&old, None)).await.is_err());
    server.stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let pair = Authority::new("ours").pair();
    pair.write(folder.path());
    let files = |ca: &str| TlsFiles {
        cert: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
        client_ca: Some(folder.path().join(ca)),
        client_certificates: ClientCertificates::Required,
    };
    let error = TlsServer::load(files("missing.pem")).err().unwrap().to_string();
    assert!(error.contains("missing.pem"), "{error}");
    let error = TlsServer::load(files("key.pem")).err().unwrap().to_string();
    assert!(error.ends_with("key.pem: holds no certificate"), "{error}");
    std::fs::write(folder.path().join("key.pem"), &pair.cert).unwrap();
    let error = TlsServer::load(files("cert.pem")).err().unwrap().to_string();
    assert!(error.contains("key.pem"), "{error}");
}

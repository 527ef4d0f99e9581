//! The API over TLS, as the gateway's client speaks to it.

use crate::{
    startup::spec,
    world::{devnet, keystore_in},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock_clients::{CallErrorKind, Identity, SignerClient, SignerOptions, Trust};
use penstock_testkit::{Process, certificates::Authority, until, until::DEADLINE};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{path::Path, process::Command};

/// A client that trusts `ca.pem` of a folder and shows the certificate in it.
fn client(addr: &str, authority: &Path, shown: Option<&Path>) -> SignerClient {
    let identity = shown.map(|folder| {
        Identity::from_files(&folder.join("cert.pem"), &folder.join("key.pem")).unwrap()
    });
    let trust = Trust::roots_from_file(&authority.join("ca.pem")).unwrap();
    let url = format!("https://{addr}");
    SignerClient::new(&SignerOptions { trust, identity, ..SignerOptions::new(url) }).unwrap()
}

/// A folder with an authority's certificate and a pair that it vouches for.
fn folder_of(authority: &Authority) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
    authority.pair().write(folder.path());
    folder
}

#[tokio::test]
async fn the_api_speaks_tls_asks_for_certificates_and_follows_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let key = keystore_in(folder.path());
    let net = devnet(key.address()).await;
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (server, old, new) = (folder_of(&old), folder_of(&old), folder_of(&new));
    let mut spec = spec(folder.path(), &net.chain_url);
    for (flag, file) in [("tls-cert", "cert"), ("tls-key", "key"), ("client-ca", "ca")] {
        let path = server.path().join(format!("{file}.pem"));
        spec.args.push(format!("--{flag}={}", path.display()));
    }
    let mut signer = Process::start(spec, folder.path()).await;
    let addr = signer.addr("http");

    let known = client(&addr, old.path(), Some(old.path()));
    let info = known.sign_orchestrator_info().await.unwrap();
    assert_eq!(info.address, key.address());
    for (trusts, shows) in [(&old, None), (&old, Some(&new)), (&new, Some(&old))] {
        let client = client(&addr, trusts.path(), shows.map(|folder| folder.path()));
        assert!(client.sign_orchestrator_info().await.is_err());
    }
    let plain = reqwest::get(format!("http://{addr}/healthz")).await.unwrap();
    assert_eq!(plain.status(), 400);
    assert_eq!(plain.text().await.unwrap(), "this port speaks HTTPS only.\n");

    // The certificate is renewed by another authority, and clients' authority changes with it.
    for file in ["cert.pem", "key.pem", "ca.pem"] {
        std::fs::copy(new.path().join(file), server.path().join(file)).unwrap();
    }
    let hangup = Command::new("kill").args(["-HUP", &signer.pid().to_string()]).status();
    assert!(hangup.unwrap().success());
    until("the new certificates count", || async {
        // A client of its own each time: connections keep what they began with.
        let client = client(&addr, new.path(), Some(new.path()));
        client.sign_orchestrator_info().await.is_ok()
    })
    .await;
    let gone = client(&addr, new.path(), Some(old.path()));
    assert!(gone.sign_orchestrator_info().await.is_err());
    known.sign_orchestrator_info().await.unwrap();
    assert_eq!(signer.terminate().await.code(), Some(0));
}

/// As `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(folder: &Path) -> String {
    let pem = std::fs::read_to_string(folder.join("cert.pem")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let digest = Sha256::digest(STANDARD.decode(body).unwrap());
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[tokio::test]
async fn a_registered_certificate_is_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let key = keystore_in(folder.path());
    let net = devnet(key.address()).await;
    let ours = Authority::new("ours");
    let (server, known, unknown) = (folder_of(&ours), folder_of(&ours), folder_of(&ours));
    let mut spec = spec(folder.path(), &net.chain_url);
    spec.args.push("--accounts".to_owned());
    for (flag, file) in [("tls-cert", "cert"), ("tls-key", "key"), ("client-ca", "ca")] {
        let path = server.path().join(format!("{file}.pem"));
        spec.args.push(format!("--{flag}={}", path.display()));
    }
    let mut signer = Process::start(spec, folder.path()).await;
    let (addr, admin) = (signer.addr("http"), format!("http://{}", signer.addr("admin")));
    let http = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
    for (path, body) in [
        ("accounts", json!({"name": "gateway-1"})),
        ("accounts/gateway-1/certificates", json!({"sha256": fingerprint(known.path())})),
    ] {
        let made = http.post(format!("{admin}/v1/{path}")).json(&body).send().await.unwrap();
        assert_eq!(made.status(), 201, "{path}");
    }
    let asks = |shown: &tempfile::TempDir| client(&addr, server.path(), Some(shown.path()));
    let info = asks(&known).sign_orchestrator_info().await.unwrap();
    assert_eq!(info.address, key.address());
    // Vouched for by the authority, and nobody's.
    let refused = asks(&unknown).sign_orchestrator_info().await.unwrap_err();
    assert!(matches!(refused.kind, CallErrorKind::Status { status: 401, .. }), "{refused:?}");
    assert_eq!(signer.terminate().await.code(), Some(0));
}

//! TLS with an authority of one's own.

use super::World;
use penstock_http_kit::{
    CancellationToken,
    serve::{self, Options},
    tls::{TlsFiles, TlsServer},
};
use penstock_keys_vault::{Vault, VaultConfig, VaultError};
use penstock_testkit::key_homes::vault::FakeVault;
use std::{fs, time::Duration};

#[tokio::test]
async fn only_the_named_authority_is_trusted() {
    let world = World::start(FakeVault::new()).await;
    let at = |name: &str| world.folder.path().join(name);
    for name in ["vault", "other"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(at(&format!("{name}.pem")), made.cert.pem()).unwrap();
        fs::write(at(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    let files = TlsFiles {
        cert: at("vault.pem"),
        key: at("vault.key"),
        client_ca: None,
        client_certificates: Default::default(),
    };
    let tls = TlsServer::load(files).unwrap();
    let listener = serve::bind("127.0.0.1:0".parse().unwrap(), "x").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = Options { tls: Some(tls), ..Options::default() };
    let stop = CancellationToken::new();
    let router = world.vault.vault.router();
    let served =
        serve::serve_with(listener, router, stop.clone(), Duration::from_secs(10), options);
    let serving = tokio::spawn(served);

    let config = |ca: Option<&str>| VaultConfig {
        address: format!("https://localhost:{port}").parse().unwrap(),
        ca_file: ca.map(at),
        ..world.config(world.token())
    };
    Vault::connect(&config(Some("vault.pem"))).await.unwrap();
    for ca in [None, Some("other.pem")] {
        let error = Vault::connect(&config(ca)).await.err().unwrap();
        assert!(matches!(error, VaultError::Unavailable(_)), "{error}");
    }
    for bad in ["token", "no such file"] {
        let error = Vault::connect(&config(Some(bad))).await.err().unwrap();
        assert!(matches!(error, VaultError::Config(_) | VaultError::File(_)), "{error}");
    }
    stop.cancel();
    serving.await.unwrap().unwrap();
}

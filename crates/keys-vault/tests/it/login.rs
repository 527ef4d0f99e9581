//! Logging in, staying logged in, and what happens when a token is gone.

use super::{World, config, uri};
use penstock_http_kit::CancellationToken;
use penstock_keys_vault::{Vault, VaultConfig, VaultError};
use penstock_testkit::{key_homes::vault::FakeVault, until};
use serde_json::json;
use std::{fs, sync::Arc, time::Duration};

#[tokio::test]
async fn every_method_logs_in() {
    let world = World::start(FakeVault::new()).await;
    world.vault.vault.put("secret/a", json!({ "x": "1" }));
    for auth in [world.token(), world.approle(), world.kubernetes()] {
        let vault = world.connect(auth).await.unwrap();
        let secret = vault.read(&uri("secret/a")).await.unwrap();
        assert_eq!(secret.field("x").unwrap().expose(), "1");
    }
    assert_eq!(world.vault.vault.counts().logins, 2);
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once() {
    let world = World::start(FakeVault::new()).await;
    for name in ["token", "secret-id", "jwt"] {
        fs::write(world.folder.path().join(name), "wrong").unwrap();
    }
    for auth in [world.token(), world.approle(), world.kubernetes()] {
        let refused = world.connect(auth).await.err().unwrap();
        assert!(matches!(refused, VaultError::Denied { status: 400 | 403, .. }), "{refused}");
        assert!(!refused.to_string().contains("wrong"), "{refused}");
    }
    fs::remove_file(world.folder.path().join("token")).unwrap();
    let missing = world.connect(world.token()).await.err().unwrap();
    assert!(matches!(missing, VaultError::File(_)), "{missing}");
}

#[tokio::test]
async fn namespaces_are_apart() {
    let world = World::start(FakeVault::new().in_namespace("team/a")).await;
    assert!(world.connect(world.token()).await.is_err());
    let config = VaultConfig { namespace: Some("team/a".into()), ..world.config(world.token()) };
    Vault::connect(&config).await.unwrap();
}

#[tokio::test]
async fn a_token_is_renewed_and_replaced_at_the_end_of_its_life() {
    // A second each, three at most: renewals come, then a login.
    let leases = FakeVault::new().with_leases(1, Duration::from_secs(3));
    let world = World::start(leases).await;
    world.vault.vault.put("secret/a", json!({ "x": "1" }));
    let vault = Arc::new(world.connect(world.approle()).await.unwrap());
    let stop = CancellationToken::new();
    let alive = tokio::spawn({
        let (vault, stop) = (Arc::clone(&vault), stop.clone());
        async move { vault.keep_alive(stop).await }
    });
    let fake = &world.vault.vault;
    until("renewals and another login", || async {
        let counts = fake.counts();
        counts.renewals >= 2 && counts.logins >= 2
    })
    .await;
    // A token lives a second, which a busy machine may sleep through.
    until("it reads", || async { vault.read(&uri("secret/a")).await.is_ok() }).await;
    stop.cancel();
    alive.await.unwrap();
}

#[tokio::test]
async fn a_revoked_token_is_replaced() {
    let world = World::start(FakeVault::new()).await;
    let fake = &world.vault.vault;
    fake.put("secret/a", json!({ "x": "1" }));
    let vault = world.connect(world.approle()).await.unwrap();
    fake.revoke_tokens();
    assert!(vault.read(&uri("secret/a")).await.is_ok());
    assert_eq!(fake.counts().logins, 2);
    // What no token may read costs one login and ends.
    let refused = vault.read(&uri("forbidden/a")).await.unwrap_err();
    assert!(matches!(refused, VaultError::Denied { status: 403, .. }), "{refused}");
    assert_eq!(fake.counts().logins, 3);
}

#[tokio::test]
async fn failures_are_retried_and_a_sealed_vault_is_named() {
    let world = World::start(FakeVault::new()).await;
    let fake = &world.vault.vault;
    fake.put("secret/a", json!({ "x": "1" }));
    fake.fail(2);
    let vault = world.connect(world.token()).await.unwrap();
    fake.fail(3);
    assert!(vault.read(&uri("secret/a")).await.is_ok());
    assert_eq!(fake.counts().failures, 5);
    fake.seal(true);
    let sealed = vault.read(&uri("secret/a")).await.unwrap_err();
    assert!(
        matches!(&sealed, VaultError::Unavailable(text) if text.contains("sealed")),
        "{sealed}"
    );
    assert_eq!(fake.counts().failures, 10, "five attempts");
    fake.seal(false);
    assert!(vault.read(&uri("secret/a")).await.is_ok());
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let world = World::start(FakeVault::new()).await;
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Vault::connect(&config(nowhere, world.token())).await.err().unwrap();
    assert!(matches!(gone, VaultError::Unavailable(_)), "{gone}");
}

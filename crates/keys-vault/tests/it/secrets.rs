//! Keys and other secrets in both versions of the KV engine.

use super::{World, uri};
use penstock_config::Secret;
use penstock_keys::{
    LocalKey, conformance,
    keystore::{self, ScryptCost},
};
use penstock_keys_vault::{Vault, VaultError, load_key, store_key};
use penstock_testkit::key_homes::vault::FakeVault;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

const CHEAP: ScryptCost = ScryptCost { log2_n: 4, r: 8, p: 1 };

async fn world() -> (World, Vault) {
    let world = World::start(FakeVault::new()).await;
    let vault = world.connect(world.token()).await.unwrap();
    (world, vault)
}

fn hex_of(key: &LocalKey) -> String {
    hex::encode(key.expose_secret())
}

#[tokio::test]
async fn a_key_of_either_kind_and_version_conforms() {
    let (world, vault) = world().await;
    let fake = &world.vault.vault;
    let key = LocalKey::random().unwrap();
    let text = keystore::encrypt(&key, "pass", CHEAP).unwrap();
    let object: Value = serde_json::from_str(&text).unwrap();
    fake.put("secret/hex", json!({ "private_key": hex_of(&key) }));
    fake.put("secret/0x", json!({ "private_key": format!("0x{}\n", hex_of(&key)), "n": 1 }));
    fake.put("kv1/hex", json!({ "private_key": hex_of(&key), "lease": ["x", null, true] }));
    fake.put("secret/text", json!({ "keystore": text, "password": "pass" }));
    fake.put("secret/object", json!({ "keystore": object, "password": "pass" }));
    fake.put("secret/alone", json!({ "keystore": text }));
    fake.put("secret/field", json!({ "deposit": hex_of(&key) }));
    for place in [
        "secret/hex",
        "secret/0x",
        "kv1/hex?kv=1",
        "secret/text",
        "secret/object",
        "secret/alone",
        "secret/field?field=deposit",
    ] {
        let password = Some(Secret::new("pass"));
        let loaded = load_key(&vault, &uri(place), password).await.unwrap();
        assert_eq!(loaded.address(), key.address(), "{place}");
        assert!(!format!("{loaded:?}").contains(&hex_of(&key)));
    }
    let loaded = load_key(&vault, &uri("secret/hex"), None).await.unwrap();
    conformance::check(Arc::new(loaded)).await;
    // A look at the secret itself prints nothing of it.
    let secret = vault.read(&uri("secret/hex")).await.unwrap();
    assert!(!format!("{secret:?}").contains(&hex_of(&key)));
}

#[tokio::test]
async fn mistakes_are_named_without_naming_the_secret() {
    let (world, vault) = world().await;
    let fake = &world.vault.vault;
    let key = LocalKey::random().unwrap();
    let text = keystore::encrypt(&key, "pass", CHEAP).unwrap();
    fake.put("secret/short", json!({ "private_key": "abcdef" }));
    fake.put("secret/zero", json!({ "private_key": "00".repeat(32) }));
    fake.put("secret/none", json!({ "other": "abcdef" }));
    fake.put("secret/alone", json!({ "keystore": text }));
    fake.put("secret/wrong", json!({ "keystore": text, "password": "abcdef" }));
    fake.put("secret/gone", json!({ "private_key": hex_of(&key) }));
    fake.delete("secret/gone");
    for (place, part) in [
        ("secret/short", "64 hex digits"),
        ("secret/zero", "64 hex digits"),
        ("secret/none", "`private_key` is missing"),
        ("secret/alone", "--key-password-file"),
        ("secret/wrong", "wrong password"),
        ("secret/gone", "no secret"),
        ("secret/never", "no secret"),
        ("secret/gone?version=7", "no secret"),
    ] {
        let error = load_key(&vault, &uri(place), None).await.unwrap_err().to_string();
        assert!(error.contains(part), "{place}: {error}");
        assert!(!error.contains("abcdef"), "{error}");
    }
}

#[tokio::test]
async fn a_key_is_stored_once_and_never_replaced() {
    let (world, vault) = world().await;
    for place in ["secret/new", "kv1/new?kv=1"] {
        let key = LocalKey::random().unwrap();
        store_key(&vault, &uri(place), &key).await.unwrap();
        assert_eq!(load_key(&vault, &uri(place), None).await.unwrap().address(), key.address());
        let other = LocalKey::random().unwrap();
        let again = store_key(&vault, &uri(place), &other).await.unwrap_err();
        assert!(matches!(again, VaultError::Changed(_)), "{again}");
        assert_eq!(load_key(&vault, &uri(place), None).await.unwrap().address(), key.address());
    }
    // A deleted secret was one, too: its older versions are there.
    world.vault.vault.delete("secret/new");
    assert!(store_key(&vault, &uri("secret/new"), &LocalKey::random().unwrap()).await.is_err());
}

#[tokio::test]
async fn of_two_writers_one_is_told() {
    let (world, vault) = world().await;
    world.vault.vault.put("secret/state", json!({ "keys": "1" }));
    let read = vault.read(&uri("secret/state")).await.unwrap();
    assert_eq!(read.version(), 1);
    let write = |text: &'static str| BTreeMap::from([("keys", text)]);
    vault.write(&uri("secret/state"), &write("2"), read.version()).await.unwrap();
    let late = vault.write(&uri("secret/state"), &write("3"), read.version()).await.unwrap_err();
    assert!(matches!(late, VaultError::Changed(_)), "{late}");
    let newest = vault.read(&uri("secret/state")).await.unwrap();
    assert_eq!(newest.field("keys").unwrap().expose(), "2");
    let first = vault.read(&uri("secret/state?version=1")).await.unwrap();
    assert_eq!(first.field("keys").unwrap().expose(), "1");
}

#[tokio::test]
async fn answers_are_bounded() {
    let (world, vault) = world().await;
    world.vault.vault.put("secret/big", json!({ "x": "y".repeat(2 << 20) }));
    let big = vault.read(&uri("secret/big")).await.unwrap_err();
    assert!(matches!(big, VaultError::BadAnswer(_)), "{big}");
}

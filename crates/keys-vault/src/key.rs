//! The fields of a secret that is a key.
//!
//! `private_key` holds 64 hex digits, or `keystore` a version 3 keystore (as text or as an object)
//! with its `password` beside it or in a file. `field=` names another one of either kind.

use crate::{KvSecret, Vault, VaultError, VaultUri};
use penstock_config::Secret;
use penstock_keys::{LocalKey, keystore};
use std::collections::BTreeMap;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

const PRIVATE_KEY: &str = "private_key";
const KEYSTORE: &str = "keystore";
const PASSWORD: &str = "password";

/// Reads the key. `password` is for a keystore without one beside it.
pub async fn load_key(
    vault: &Vault,
    uri: &VaultUri,
    password: Option<Secret>,
) -> Result<LocalKey, VaultError> {
    let secret = vault.read(uri).await?;
    let (field, text) = chosen(&secret, uri)?;
    let bad = |reason| VaultError::Field { field: field.to_owned(), reason };
    if !text.expose().trim_start().starts_with('{') {
        return from_hex(text.expose()).ok_or_else(|| bad("does not hold 64 hex digits"));
    }
    let password = secret.field(PASSWORD).cloned().or(password);
    let password = password.ok_or_else(|| {
        bad("is a keystore: put `password` beside it or give --key-password-file")
    })?;
    let text = text.clone();
    // A second of work by intention.
    let opened = spawn_blocking(move || keystore::decrypt(text.expose(), password.expose()));
    Ok(opened.await.map_err(|_| bad("could not be opened"))??)
}

/// Writes a key as hex to a place where nothing is yet.
pub async fn store_key(vault: &Vault, uri: &VaultUri, key: &LocalKey) -> Result<(), VaultError> {
    let field = uri.field.as_deref().unwrap_or(PRIVATE_KEY);
    let text = Zeroizing::new(hex::encode(key.expose_secret()));
    vault.write(uri, &BTreeMap::from([(field, text.as_str())]), 0).await
}

fn chosen<'a>(
    secret: &'a KvSecret,
    uri: &'a VaultUri,
) -> Result<(&'a str, &'a Secret), VaultError> {
    let missing = |field: &str| VaultError::Field { field: field.to_owned(), reason: "is missing" };
    match &uri.field {
        Some(name) => Ok((name, secret.field(name).ok_or_else(|| missing(name))?)),
        None => [PRIVATE_KEY, KEYSTORE]
            .into_iter()
            .find_map(|name| Some((name, secret.field(name)?)))
            .ok_or_else(|| missing(PRIVATE_KEY)),
    }
}

fn from_hex(text: &str) -> Option<LocalKey> {
    let text = text.trim();
    let mut bytes = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), bytes.as_mut()).ok()?;
    LocalKey::from_bytes(bytes).ok()
}

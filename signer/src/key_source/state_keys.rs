//! The keys of payment states: in a file, or in a vault for replicas that share no disk.

use super::Homes;
use crate::{
    keys_command::KeysError,
    state_blob::{StateKeys, StateKeysError},
};
use penstock_config::replace_secret_file;
use penstock_keys_vault::{KvSecret, KvVersion, VaultError, VaultUri};
use std::{collections::BTreeMap, path::PathBuf};

/// The secret's field, unless `field=` names another.
const FIELD: &str = "state_keys";

/// Where they are.
#[derive(Debug, Clone)]
pub enum StateKeysSource {
    /// In a file, made when missing.
    File(PathBuf),
    /// In a secret, made when missing.
    Vault(VaultUri),
    /// At hand.
    Loaded(StateKeys),
}

fn field(uri: &VaultUri) -> &str {
    uri.field.as_deref().unwrap_or(FIELD)
}

fn parsed(secret: &KvSecret, uri: &VaultUri) -> Result<StateKeys, KeysError> {
    let missing = || VaultError::Field {
        field: field(uri).to_owned(),
        reason: "with the state keys is missing",
    };
    let text = secret.field(field(uri)).ok_or_else(missing)?;
    Ok(StateKeys::parse(text.expose())?)
}

impl StateKeysSource {
    /// Reads them; makes them if there are none. Of several processes that make them at once, all use
    /// those that were there first.
    pub async fn load_or_create(&self, homes: &Homes) -> Result<StateKeys, KeysError> {
        let uri = match self {
            Self::File(path) => return Ok(StateKeys::load_or_create(path)?),
            Self::Loaded(keys) => return Ok(keys.clone()),
            Self::Vault(uri) => uri,
        };
        let vault = homes.vault()?;
        match vault.read(uri).await {
            Err(VaultError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
            Ok(secret) => return parsed(&secret, uri),
        }
        let made = StateKeys::random();
        let text = made.text();
        match vault.write(uri, &BTreeMap::from([(field(uri), text.as_str())]), 0).await {
            Ok(()) => Ok(made),
            Err(VaultError::Changed(_)) => parsed(&vault.read(uri).await?, uri),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes them: `None` is nothing to do. What else is in the secret stays.
    pub async fn change(
        &self,
        homes: &Homes,
        change: impl Fn(&StateKeys) -> Option<StateKeys>,
    ) -> Result<Option<StateKeys>, KeysError> {
        match self {
            Self::File(path) => {
                let Some(new) = change(&StateKeys::load(path)?) else { return Ok(None) };
                replace_secret_file(path, new.text().as_bytes()).map_err(StateKeysError::Io)?;
                Ok(Some(new))
            }
            Self::Vault(uri) if uri.kv == KvVersion::V1 => Err(KeysError::Cannot(
                "rotate in KV 1, which cannot write on condition: write the field by hand"
                    .to_owned(),
            )),
            Self::Vault(uri) => {
                let vault = homes.vault()?;
                let secret = vault.read(uri).await?;
                let Some(new) = change(&parsed(&secret, uri)?) else { return Ok(None) };
                let text = new.text();
                let mut fields: BTreeMap<&str, &str> = secret.fields().collect();
                fields.insert(field(uri), &text);
                vault.write(uri, &fields, secret.version()).await?;
                Ok(Some(new))
            }
            Self::Loaded(_) => Ok(None),
        }
    }
}

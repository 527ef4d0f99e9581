//! The KV engine, both versions: reading a secret, and writing one on condition.

use crate::{
    KvVersion, Vault, VaultError, VaultUri, auth::json, http::Ask, secret_text::SecretText,
};
use penstock_config::Secret;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A secret as read: its fields, and the version they are of (0 in KV 1).
#[derive(Debug)]
pub struct KvSecret {
    fields: BTreeMap<String, Secret>,
    version: u32,
}

impl KvSecret {
    /// A field's text. One that holds an object instead of text, as a keystore may be put there, is
    /// given as its JSON text.
    pub fn field(&self, name: &str) -> Option<&Secret> {
        self.fields.get(name)
    }

    /// All of them, to be written back beside a changed one.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, text)| (name.as_str(), text.expose()))
    }

    /// Which version was read: what [`Vault::write`] wants to know.
    pub fn version(&self) -> u32 {
        self.version
    }

    fn new(fields: BTreeMap<String, SecretText>, version: u32) -> Self {
        let fields = fields.into_iter().map(|(name, text)| (name, text.0)).collect();
        Self { fields, version }
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct V2 {
    /// Null when the version was deleted; the vault answers 404 then.
    data: Option<BTreeMap<String, SecretText>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u32,
}

#[derive(Serialize)]
struct Write<'a> {
    options: Options,
    data: &'a BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Options {
    cas: u32,
}

impl Vault {
    /// Reads a secret.
    pub async fn read(&self, uri: &VaultUri) -> Result<KvSecret, VaultError> {
        match uri.kv {
            KvVersion::V1 => {
                let answer: Answer<BTreeMap<String, SecretText>> =
                    self.ask(|| Ok(ask(Method::GET, uri))).await?;
                Ok(KvSecret::new(answer.data, 0))
            }
            KvVersion::V2 => {
                let answer: Answer<V2> = self.ask(|| Ok(ask(Method::GET, uri))).await?;
                let missing = || VaultError::Missing(uri.place());
                let fields = answer.data.data.ok_or_else(missing)?;
                Ok(KvSecret::new(fields, answer.data.metadata.version))
            }
        }
    }

    /// Writes a secret if its newest version is `expected` (0: if there never was one), else
    /// [`VaultError::Changed`]. KV 1 has no such condition: there it is looked at before, which two
    /// writers at the same moment can get past.
    pub async fn write(
        &self,
        uri: &VaultUri,
        fields: &BTreeMap<&str, &str>,
        expected: u32,
    ) -> Result<(), VaultError> {
        match uri.kv {
            KvVersion::V1 => {
                match self.read(uri).await {
                    Err(VaultError::Missing(_)) => {}
                    Ok(_) => return Err(VaultError::Changed(uri.place())),
                    Err(error) => return Err(error),
                }
                let make = || Ok(Ask { body: Some(json(fields)?), ..ask(Method::PUT, uri) });
                let _: Option<serde::de::IgnoredAny> = self.ask(make).await?;
            }
            KvVersion::V2 => {
                let body = Write { options: Options { cas: expected }, data: fields };
                let make = || Ok(Ask { body: Some(json(&body)?), ..ask(Method::PUT, uri) });
                let _: Option<serde::de::IgnoredAny> = self.ask(make).await?;
            }
        }
        Ok(())
    }
}

fn ask(method: Method, uri: &VaultUri) -> Ask {
    let mut path = vec![uri.mount.clone()];
    path.extend((uri.kv == KvVersion::V2).then(|| "data".to_owned()));
    path.push(uri.path.clone());
    let read = method == Method::GET;
    let version = uri.version.filter(|_| read).map(|version| ("version", version.to_string()));
    Ask { method, path, query: version, token: None, body: None }
}

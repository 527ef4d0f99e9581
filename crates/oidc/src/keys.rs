//! A provider's published keys (JWKS, RFC 7517), of which only signature keys of asymmetric kinds
//! count; the others are skipped, as the RFC asks.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::Value;
use thiserror::Error;

/// Largest document read.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;
/// Most keys taken.
const MAX_KEYS: usize = 64;

/// Not a key set that could check anything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadKeys {
    /// Not a JWKS.
    #[error("it is not a JSON Web Key Set")]
    Shape,
    /// No key in it that signs with an asymmetric algorithm.
    #[error("it holds no key that could check a signature")]
    None,
}

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    /// The only algorithm that the provider uses it with, if it says so.
    algorithm: Option<KeyAlgorithm>,
    family: AlgorithmFamily,
    key: DecodingKey,
}

/// Keys by their ids.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JWKS document.
    pub fn parse(text: &[u8]) -> Result<Self, BadKeys> {
        let document: Value = serde_json::from_slice(text).map_err(|_| BadKeys::Shape)?;
        let list = document.get("keys").and_then(Value::as_array).ok_or(BadKeys::Shape)?;
        let keys: Vec<Key> = list.iter().take(MAX_KEYS).filter_map(usable).collect();
        if keys.is_empty() { Err(BadKeys::None) } else { Ok(Self { keys }) }
    }

    /// Whether a token with this key id could be checked.
    pub fn knows(&self, kid: Option<&str>) -> bool {
        self.of(kid).is_some()
    }

    /// The key of an id, if it is of the kind that `algorithm` needs.
    pub fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&DecodingKey, &'static str> {
        let key = self.of(kid).ok_or("its key is not one of the identity provider's")?;
        let fits = key.family == algorithm.family()
            && key.algorithm.is_none_or(|only| only.to_string() == format!("{algorithm:?}"));
        if fits { Ok(&key.key) } else { Err("its key is for another algorithm") }
    }

    /// A token without a key id can only mean the one key there is.
    fn of(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, self.keys.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
        }
    }
}

fn usable(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
    let asymmetric = matches!(
        jwk.algorithm,
        AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::RSA(_)
            | AlgorithmParameters::OctetKeyPair(_)
    );
    if !signs || !asymmetric {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key {
        kid: jwk.common.key_id.clone(),
        algorithm: jwk.common.key_algorithm,
        family: key.family(),
        key,
    })
}

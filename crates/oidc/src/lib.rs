//! Tokens of an OpenID Connect identity provider (JWTs): whose they are, once nothing is wrong
//! with them.
//!
//! The algorithm is the operator's choice, never the token's: a token may only name one of the
//! configured ones, all of which are asymmetric, and the key has to be of that kind. Keys come from
//! the configured place alone; `jku`, `jwk`, `x5u` and `x5c` in a token are not looked at.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod args;
mod claims;
mod error;
mod keys;
mod source;

pub use args::OidcArgs;
pub use claims::{Identity, identity};
pub use error::TokenError;
pub use keys::{BadKeys, KeySet};
pub use source::{KeySource, Source};

use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Longest token looked at.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest key id looked at.
const MAX_KID_BYTES: usize = 256;

/// What a token claims, by name.
pub type Claims = Map<String, Value>;

/// Where an account's name comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountFrom {
    /// Every token is of this account.
    Fixed(String),
    /// This claim names it.
    Claim(String),
}

/// What is asked of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcSettings {
    /// `iss`, exactly.
    pub issuer: String,
    /// One of these has to be in `aud`.
    pub audiences: Vec<String>,
    /// What a token may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Where the provider's keys are.
    pub source: Source,
    /// Whose account.
    pub account: AccountFrom,
    /// The claim that names the subject.
    pub subject_claim: String,
    /// How far the provider's clock may be from ours, seconds.
    pub leeway_s: i64,
}

/// Reads an algorithm's name. Symmetric ones are refused: their "public" key would sign.
pub fn algorithm(name: &str) -> Result<Algorithm, String> {
    match name.parse::<Algorithm>() {
        Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) => {
            Err(format!("{name} is symmetric: whoever checks its tokens could make them"))
        }
        Ok(algorithm) => Ok(algorithm),
        Err(_) => {
            Err(format!("{name:?} is not one of RS256 … RS512, PS256 … PS512, ES256, ES384, EdDSA"))
        }
    }
}

/// Checks tokens.
pub struct Oidc {
    settings: OidcSettings,
    keys: Arc<KeySource>,
}

impl Oidc {
    /// Its keys are fetched by [`Self::follow`], or when they are first needed.
    pub fn new(settings: OidcSettings) -> Result<Self, String> {
        let keys = Arc::new(KeySource::new(settings.source.clone())?);
        Ok(Self { settings, keys })
    }

    /// Keeps the provider's keys current until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        self.keys.follow(stop).await;
    }

    /// Whose a token is. `now_s` is Unix seconds.
    pub async fn verify(&self, token: &str, now_s: i64) -> Result<Identity, TokenError> {
        Ok(self.read(token, now_s).await?.0)
    }

    /// The same, with everything that the token claims.
    pub async fn read(&self, token: &str, now_s: i64) -> Result<(Identity, Claims), TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Bad("it is too long"));
        }
        let (kid, algorithm) = self.header(token)?;
        let mut keys = self.keys.current();
        match &keys {
            // The first caller of all, or the provider was never there.
            None => {
                self.keys.refresh_if_due().await;
                keys = self.keys.current();
            }
            // A key that the provider began to use a moment ago, or somebody who makes names up, who
            // must not hold a place for as long as the provider takes. Refused now; the next may fit.
            Some(set) if !set.knows(kid.as_deref()) => self.keys.refresh_soon(),
            Some(_) => {}
        }
        let Some(keys) = keys else {
            return Err(TokenError::KeysUnknown);
        };
        let key = keys.find(kid.as_deref(), algorithm).map_err(TokenError::Bad)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.asked(algorithm));
        let claims = claims.map_err(|error| TokenError::Bad(reason(error.kind())))?.claims;
        Ok((identity(&claims, &self.settings, now_s)?, claims))
    }

    /// Only what chooses the key.
    fn header(&self, token: &str) -> Result<(Option<String>, Algorithm), TokenError> {
        let header = jsonwebtoken::decode_header(token);
        let header = header.map_err(|_| TokenError::Bad("it is not a signed JWT"))?;
        if !self.settings.algorithms.contains(&header.alg) {
            return Err(TokenError::Bad("its algorithm is not one that is accepted"));
        }
        if header.crit.is_some() {
            return Err(TokenError::Bad("it has critical extensions"));
        }
        if header.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(TokenError::Bad("its key id is too long"));
        }
        Ok((header.kid, header.alg))
    }

    /// Signature, issuer and audience. Times are looked at in `claims`, on the caller's clock.
    fn asked(&self, algorithm: Algorithm) -> Validation {
        let mut asked = Validation::new(algorithm);
        asked.set_issuer(&[&self.settings.issuer]);
        asked.set_audience(&self.settings.audiences);
        asked.set_required_spec_claims(&["exp", "iss", "aud"]);
        (asked.validate_exp, asked.validate_nbf) = (false, false);
        asked
    }
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidIssuer => "its issuer is another",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "exp, iss or aud is missing",
        ErrorKind::InvalidAlgorithm => "its key is for another algorithm",
        _ => "it is not a valid JWT",
    }
}

#[cfg(test)]
mod tests;

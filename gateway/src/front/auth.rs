//! Finds out who is calling, before anything else is done for a request: an API key or token that the
//! signer knows, a token of an identity provider, or everybody alike.
//!
//! What the signer answers is kept for a while (module `known`). That lets nobody spend anything: the
//! signer enforces rules and budgets again with each payment.

use crate::{
    config::{Settings, front::AuthSettings},
    front::{
        caller::Caller,
        known::{self, Key, Known, Lookup},
    },
};
use http::{HeaderMap, header};
use penstock_clients::{BuildError, CallError, SignerClient};
use penstock_http_kit::CancellationToken;
use penstock_oidc::{Claims, Oidc, TokenError};
use penstock_wire::json::{Verified, VerifiedPolicy};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};

/// Longest credential looked at.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest name of a tier.
const MAX_TIER_BYTES: usize = 256;
/// Questions to the signer at a time; a credential has one of these turns, so that nothing is asked
/// twice at a time.
const TURNS: usize = 64;
/// Credentials never heard of that may wait for a turn. Whoever makes credentials up waits for others
/// who do; known callers do not wait for them.
const STRANGERS: usize = 256;

/// Nobody is let in by this credential.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// There is none.
    #[error("a bearer token is required")]
    Missing,
    /// It is nobody's.
    #[error("{0}")]
    Unknown(String),
    /// It is somebody's who is not let in.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody can tell now.
    #[error("callers cannot be verified now: {0}")]
    Unavailable(String),
}

/// Asks the signer, with its memory.
struct BySigner {
    signer: SignerClient,
    known: Known,
    turns: Vec<Arc<Mutex<()>>>,
    strangers: Semaphore,
}

/// Checks tokens, and reads what they say of their bearer's rules.
struct ByToken {
    oidc: Oidc,
    tier_claim: Option<String>,
    policy_claim: Option<String>,
}

/// The ways in.
pub struct CallerAuth {
    by_signer: Option<Arc<BySigner>>,
    by_token: Option<ByToken>,
}

impl CallerAuth {
    /// From the settings.
    pub fn new(settings: &AuthSettings, signer: &SignerClient) -> Result<Self, BuildError> {
        let by_signer = settings.by_signer.then(|| {
            Arc::new(BySigner {
                signer: signer.clone(),
                known: Known::new(settings.stale_for),
                turns: (0..TURNS).map(|_| Arc::default()).collect(),
                strangers: Semaphore::new(STRANGERS),
            })
        });
        let by_token = settings.jwt.clone().map(Oidc::new).transpose();
        let by_token = by_token
            .map_err(|reason| BuildError::Setting { setting: "--caller-jwt-jwks-url", reason })?;
        let by_token = by_token.map(|oidc| ByToken {
            oidc,
            tier_claim: settings.tier_claim.clone(),
            policy_claim: settings.policy_claim.clone(),
        });
        Ok(Self { by_signer, by_token })
    }

    /// Whether callers are told apart.
    pub fn tells_apart(&self) -> bool {
        self.by_signer.is_some() || self.by_token.is_some()
    }

    /// Keeps the identity provider's keys current until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        if let Some(by_token) = &self.by_token {
            by_token.oidc.follow(stop).await;
        }
    }

    /// Whose request this is.
    pub async fn caller(&self, headers: &HeaderMap, all: &Settings) -> Result<Caller, Refused> {
        if !self.tells_apart() {
            return Ok(Caller::of_settings(all));
        }
        self.bearer(bearer(headers).ok_or(Refused::Missing)?).await
    }

    /// Whose token this is, wherever it came from.
    pub async fn bearer(&self, token: &str) -> Result<Caller, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Unknown("the token is too long".to_owned()));
        }
        match (&self.by_token, &self.by_signer) {
            (Some(by_token), _) if is_jwt(token) => by_token.caller(token).await,
            (_, Some(by_signer)) => by_signer.caller(token).await,
            _ => Err(Refused::Unknown("a token of the identity provider is required".to_owned())),
        }
    }
}

/// The credential of `Authorization: Bearer`; the scheme in any case, as RFC 9110 has it.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Three parts between dots: no API key looks like it.
fn is_jwt(token: &str) -> bool {
    token.split('.').count() == 3
}

impl ByToken {
    async fn caller(&self, token: &str) -> Result<Caller, Refused> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let read = self.oidc.read(token, now_s).await;
        let read = read.and_then(|(whose, claims)| Ok((whose.auth_id()?, claims)));
        match read {
            Ok((auth_id, claims)) => Ok(Caller::with_policy(auth_id, &self.policy(&claims)?)),
            Err(error @ TokenError::Bad(_)) => Err(Refused::Unknown(error.to_string())),
            Err(error @ TokenError::KeysUnknown) => Err(Refused::Unavailable(error.to_string())),
        }
    }

    /// What the claims say of the bearer's rules. What cannot be read lets nobody in: it may have been a
    /// limit.
    fn policy(&self, claims: &Claims) -> Result<VerifiedPolicy, Refused> {
        let claim = |name: &Option<String>| {
            let name = name.as_ref()?;
            Some((name.clone(), claims.get(name).filter(|value| !value.is_null())?))
        };
        let bad = |name: String, why: String| {
            Refused::Unknown(format!("the token's claim {name:?} is not understood: {why}"))
        };
        let mut policy = match claim(&self.policy_claim) {
            None => VerifiedPolicy::default(),
            Some((name, value)) => {
                VerifiedPolicy::parse(value).map_err(|error| bad(name, error.to_string()))?
            }
        };
        if let Some((name, value)) = claim(&self.tier_claim) {
            let tier = value.as_str().filter(|tier| (1..=MAX_TIER_BYTES).contains(&tier.len()));
            let tier = tier.ok_or_else(|| bad(name, "expected the name of a tier".to_owned()))?;
            policy.tier = Some(tier.to_owned());
        }
        Ok(policy)
    }
}

impl BySigner {
    async fn caller(self: &Arc<Self>, token: &str) -> Result<Caller, Refused> {
        let key = known::key_of(token);
        let verified = match self.known.look(&key, Instant::now()) {
            Lookup::Fresh(verified) => verified,
            Lookup::Stale(verified) => {
                self.ask_soon(key, token);
                verified
            }
            Lookup::Ask(Some(before)) => match self.turn(&key).try_lock_owned() {
                Ok(_turn) => self.ask(key, token, Some(before)).await?,
                // Somebody else is asking, or makes credentials up.
                Err(_) => before,
            },
            Lookup::Ask(None) => {
                let crowded = || Refused::Unavailable("too many unknown callers".to_owned());
                let _stranger = self.strangers.try_acquire().map_err(|_| crowded())?;
                let _turn = self.turn(&key).lock_owned().await;
                self.ask(key, token, None).await?
            }
            Lookup::Unavailable => {
                return Err(Refused::Unavailable("the signer did not answer".to_owned()));
            }
        };
        match verified {
            Verified::Valid { auth_id, policy } => Ok(Caller::with_policy(auth_id, &policy)),
            Verified::Invalid { forbidden: true, reason } => Err(Refused::Forbidden(reason)),
            Verified::Invalid { forbidden: false, reason } => Err(Refused::Unknown(reason)),
        }
    }

    fn turn(&self, key: &Key) -> Arc<Mutex<()>> {
        let at = usize::from(key.first().copied().unwrap_or(0)) % TURNS;
        self.turns.get(at).cloned().unwrap_or_default()
    }

    /// Asks, in a task of its own, for the next request of this caller.
    fn ask_soon(self: &Arc<Self>, key: Key, token: &str) {
        let Ok(turn) = self.turn(&key).try_lock_owned() else { return };
        let (this, token) = (Arc::clone(self), token.to_owned());
        tokio::spawn(async move {
            let _turn = turn;
            drop(this.ask(key, &token, None).await);
        });
    }

    /// Asks, with the credential's turn. If the signer cannot be asked, what was known before counts.
    async fn ask(
        &self,
        key: Key,
        token: &str,
        before: Option<Verified>,
    ) -> Result<Verified, Refused> {
        // Whoever had the turn before may have asked the same.
        if let Lookup::Fresh(verified) = self.known.look(&key, Instant::now()) {
            return Ok(verified);
        }
        match self.signer.verify(token).await {
            Ok(answer) => {
                let fresh_for = Duration::from_millis(answer.cache_for_ms);
                self.known.learn(key, answer.verified.clone(), fresh_for, Instant::now());
                Ok(answer.verified)
            }
            Err(error) => {
                self.known.failed(Instant::now());
                let reason = why(&error);
                tracing::warn!(reason, "the signer does not say who is calling");
                metrics::counter!("penstock_gateway_verify_errors_total").increment(1);
                before.ok_or(Refused::Unavailable(reason))
            }
        }
    }
}

fn why(error: &CallError) -> String {
    match error.status() {
        Some(401 | 403) => format!(
            "the signer does not let this gateway ask: {}; its account needs may_name_subjects, \
             see --signer-token-file",
            error.message()
        ),
        Some(404) => "the signer has no POST /v1/verify".to_owned(),
        _ => error.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        let of = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer psk_1").as_deref(), Some("psk_1"));
        assert_eq!(of("bearer  psk_1 ").as_deref(), Some("psk_1"));
        for none in ["Bearer ", "Bearer", "Basic abc", "psk_1", ""] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
        assert!(is_jwt("a.b.c") && !is_jwt("psk_0_1") && !is_jwt("a.b"));
    }
}

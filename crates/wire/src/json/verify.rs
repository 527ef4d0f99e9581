//! `POST /v1/verify` of our signer: whose a credential is that a caller showed a gateway
//! (docs/accounts.md).

use super::read::{self, Object};
use crate::WireError;
use penstock_domain::{AuthId, Rational};
use serde_json::{Value, json};
use std::num::NonZeroU32;

/// What may be done with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifiedPolicy {
    /// The tier that rules were taken from.
    pub tier: Option<String>,
    /// `pipeline/model`, `pipeline/*`, names of applications; `None`: all.
    pub allowed_capabilities: Option<Vec<String>>,
    /// Highest price, wei per unit.
    pub max_price: Option<Rational>,
    /// Requests a second.
    pub requests_per_second: Option<NonZeroU32>,
}

/// Whose a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// The caller is to be let in.
    Valid {
        /// To be sent as `Signer-Auth-Id`.
        auth_id: AuthId,
        /// The account's rules.
        policy: VerifiedPolicy,
    },
    /// The caller is not.
    Invalid {
        /// Known, but not allowed (expired, revoked, blocked), rather than unknown.
        forbidden: bool,
        /// Why, for people.
        reason: String,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyAnswer {
    /// Whose.
    pub verified: Verified,
    /// How long that may be kept, milliseconds.
    pub cache_for_ms: u64,
}

impl VerifyAnswer {
    /// Largest answer read.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// Most capabilities of a policy.
    const MAX_CAPABILITIES: usize = 1024;

    /// The question.
    pub fn question(token: &str) -> Value {
        json!({ "token": token })
    }

    /// Reads an answer. A rule that cannot be read fails it: who is not understood is not let in.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("verify answer", body, Self::MAX_BYTES)?;
        let valid = read::get(&map, "valid").and_then(Value::as_bool);
        let valid = valid.ok_or_else(|| read::wrong("valid", "expected true or false"))?;
        let cache_for_ms = u64::try_from(read::int64(&map, "cache_for_ms")?).unwrap_or(0);
        let verified = if valid {
            let auth_id = AuthId::new(read::text(&map, "auth_id", 128)?)
                .map_err(|e| read::wrong("auth_id", e.to_string()))?;
            let policy = match read::get(&map, "policy") {
                None => VerifiedPolicy::default(),
                Some(value) => policy(&read::as_object("policy", value.clone())?)?,
            };
            Verified::Valid { auth_id, policy }
        } else {
            Verified::Invalid {
                forbidden: read::text(&map, "code", 128)? == "forbidden",
                reason: read::text(&map, "reason", 4_096)?,
            }
        };
        Ok(Self { verified, cache_for_ms })
    }
}

fn policy(map: &Object) -> Result<VerifiedPolicy, WireError> {
    let tier = Some(read::text(map, "tier", 256)?).filter(|tier| !tier.is_empty());
    let price = read::text(map, "max_price_wei_per_unit", 1_024)?;
    let max_price = match price.as_str() {
        "" => None,
        text => Some(rational(text).ok_or_else(|| {
            read::wrong("max_price_wei_per_unit", "expected a number or a fraction")
        })?),
    };
    let requests_per_second = match read::get(map, "requests_per_second") {
        None => None,
        Some(_) => NonZeroU32::new(read::uint32(map, "requests_per_second")?),
    };
    Ok(VerifiedPolicy {
        tier,
        allowed_capabilities: capabilities(map)?,
        max_price,
        requests_per_second,
    })
}

fn capabilities(map: &Object) -> Result<Option<Vec<String>>, WireError> {
    const KEY: &str = "allowed_capabilities";
    let Some(value) = read::get(map, KEY) else { return Ok(None) };
    let list = value.as_array().ok_or_else(|| read::wrong(KEY, "expected a list"))?;
    if list.len() > VerifyAnswer::MAX_CAPABILITIES {
        return Err(read::wrong(KEY, "too many"));
    }
    let text =
        |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| read::wrong(KEY, "expected texts"));
    list.iter().map(text).collect::<Result<_, _>>().map(Some)
}

fn rational(text: &str) -> Option<Rational> {
    let (n, d) = text.split_once('/').unwrap_or((text, "1"));
    Rational::from_decimal(n).ok()?.checked_div(&Rational::from_decimal(d).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let body = br#"{"valid":true,"code":null,"account":"acme","auth_id":"acme:bob","policy":
            {"tier":"gold","budget_day":null,"allowed_capabilities":["llm/*"],
             "max_price_wei_per_unit":"1/3","requests_per_second":5},"cache_for_ms":2000}"#;
        let policy = VerifiedPolicy {
            tier: Some("gold".into()),
            allowed_capabilities: Some(vec!["llm/*".into()]),
            max_price: Rational::new(1, 3),
            requests_per_second: NonZeroU32::new(5),
        };
        let auth_id = AuthId::new("acme:bob").unwrap();
        assert_eq!(
            VerifyAnswer::parse(body).unwrap(),
            VerifyAnswer { verified: Verified::Valid { auth_id, policy }, cache_for_ms: 2_000 }
        );
        let no = br#"{"valid":false,"code":"forbidden","reason":"revoked","cache_for_ms":5}"#;
        let verified = Verified::Invalid { forbidden: true, reason: "revoked".into() };
        assert_eq!(VerifyAnswer::parse(no).unwrap(), VerifyAnswer { verified, cache_for_ms: 5 });
    }

    #[test]
    fn what_is_not_understood_lets_nobody_in() {
        for bad in [
            "[]",
            "{}",
            r#"{"valid":"yes"}"#,
            r#"{"valid":true}"#,
            r#"{"valid":true,"auth_id":"a b"}"#,
            r#"{"valid":true,"auth_id":"a","policy":{"max_price_wei_per_unit":"cheap"}}"#,
            r#"{"valid":true,"auth_id":"a","policy":{"max_price_wei_per_unit":"1/0"}}"#,
            r#"{"valid":true,"auth_id":"a","policy":{"allowed_capabilities":"llm"}}"#,
            r#"{"valid":true,"auth_id":"a","policy":{"requests_per_second":-1}}"#,
        ] {
            assert!(VerifyAnswer::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

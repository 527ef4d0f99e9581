//! `POST /v1/verify` of our signer: whose a credential is that a caller showed a gateway
//! (docs/accounts.md).

use super::read::{self, Object};
use crate::WireError;
use penstock_domain::{AuthId, Rational};
use serde_json::{Value, json};
use std::num::{NonZeroU32, NonZeroU64};

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
    /// Requests in 24 hours.
    pub requests_per_day: Option<NonZeroU64>,
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

impl VerifiedPolicy {
    /// The rules of a policy, by name.
    pub const RULES: [&str; 5] = [
        "tier",
        "allowed_capabilities",
        "max_price_wei_per_unit",
        "requests_per_second",
        "requests_per_day",
    ];

    /// Reads rules that somebody else than the signer wrote, of whom no other rules are known: one that
    /// cannot be read, or that there is not, fails it.
    pub fn parse(value: &Value) -> Result<Self, WireError> {
        let map = read::as_object("policy", value.clone())?;
        if !map.keys().all(|rule| Self::RULES.contains(&rule.as_str())) {
            return Err(read::wrong("policy", "has a rule that there is not"));
        }
        policy(&map)
    }
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
    let requests_per_second = match count(map, "requests_per_second")? {
        None => None,
        Some(n) => Some(
            NonZeroU32::try_from(n)
                .map_err(|_| read::wrong("requests_per_second", "out of range"))?,
        ),
    };
    Ok(VerifiedPolicy {
        tier,
        allowed_capabilities: capabilities(map)?,
        max_price,
        requests_per_second,
        requests_per_day: count(map, "requests_per_day")?,
    })
}

/// A whole number above 0, if there is one. 0 is no way to say "none".
fn count(map: &Object, key: &'static str) -> Result<Option<NonZeroU64>, WireError> {
    if read::get(map, key).is_none() {
        return Ok(None);
    }
    let number = u64::try_from(read::int64(map, key)?).ok().and_then(NonZeroU64::new);
    number.map(Some).ok_or_else(|| read::wrong(key, "expected a number above 0"))
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
             "max_price_wei_per_unit":"1/3","requests_per_second":5,"requests_per_day":9},"cache_for_ms":2000}"#;
        let policy = VerifiedPolicy {
            tier: Some("gold".into()),
            allowed_capabilities: Some(vec!["llm/*".into()]),
            max_price: Rational::new(1, 3),
            requests_per_second: NonZeroU32::new(5),
            requests_per_day: NonZeroU64::new(9),
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
            r#"{"valid":true,"auth_id":"a","policy":{"requests_per_second":0}}"#,
            r#"{"valid":true,"auth_id":"a","policy":{"requests_per_day":"9"}}"#,
        ] {
            assert!(VerifyAnswer::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_policy_by_itself_has_known_rules_only() {
        let read = |value: Value| VerifiedPolicy::parse(&value);
        let some = read(json!({"tier": "gold", "requests_per_day": 3})).unwrap();
        assert_eq!(
            (some.tier.as_deref(), some.requests_per_day),
            (Some("gold"), NonZeroU64::new(3))
        );
        assert_eq!(read(json!({})).unwrap(), VerifiedPolicy::default());
        for bad in [json!([]), json!("gold"), json!({"budget_day": "5 usd"}), json!({"tier": 3})] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}

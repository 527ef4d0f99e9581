//! What the claims of a token with a right signature say, and whether it holds now. Pure.

use super::{AccountFrom, OidcSettings, TokenError};
use penstock_domain::AuthId;
use serde_json::{Map, Value};

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account's name.
    pub account: String,
    /// The provider's name for who it is.
    pub subject: String,
}

impl Identity {
    /// `account:subject`.
    pub fn auth_id(&self) -> Result<AuthId, TokenError> {
        AuthId::new(format!("{}:{}", self.account, self.subject)).map_err(|_| {
            TokenError::Bad("account and subject are too long, or not printable ASCII")
        })
    }
}

/// Reads account and subject, if the token holds at `now_s` (Unix seconds).
pub fn identity(
    claims: &Map<String, Value>,
    settings: &OidcSettings,
    now_s: i64,
) -> Result<Identity, TokenError> {
    let leeway = settings.leeway_s;
    let until = time(claims, "exp")?.ok_or(TokenError::Bad("exp is missing"))?;
    if until.saturating_add(leeway) <= now_s {
        return Err(TokenError::Bad("it has expired"));
    }
    for claim in ["nbf", "iat"] {
        if time(claims, claim)?.is_some_and(|from| from.saturating_sub(leeway) > now_s) {
            return Err(TokenError::Bad("it is not valid yet"));
        }
    }
    let account = match &settings.account {
        AccountFrom::Fixed(name) => name.clone(),
        AccountFrom::Claim(claim) => {
            text(claims, claim).ok_or(TokenError::Bad("the claim with the account is missing"))?
        }
    };
    let subject = text(claims, &settings.subject_claim);
    let subject = subject.ok_or(TokenError::Bad("the claim with the subject is missing"))?;
    Ok(Identity { account, subject })
}

fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
}

/// A NumericDate in whole seconds, fractions dropped. Something else is a broken token, since a time
/// that is not understood must not count as absent.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenError> {
    const BAD: TokenError = TokenError::Bad("exp, nbf or iat is not a time");
    let number = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(BAD),
    };
    if number.len() > 32 {
        return Err(BAD);
    }
    let exact = penstock_domain::Rational::from_decimal(&number).map_err(|_| BAD)?;
    exact.floor_i64().map(Some).ok_or(BAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use jsonwebtoken::Algorithm;
    use proptest::prelude::*;
    use serde_json::json;

    fn settings(account: AccountFrom) -> OidcSettings {
        OidcSettings {
            issuer: "i".into(),
            audiences: vec!["a".into()],
            algorithms: vec![Algorithm::ES256],
            source: Source::File("/none".into()),
            account,
            subject_claim: "sub".into(),
            leeway_s: 10,
        }
    }

    fn asked(claims: Value, account: AccountFrom) -> Result<Identity, TokenError> {
        let Value::Object(claims) = claims else { panic!() };
        identity(&claims, &settings(account), 1_000)
    }

    #[test]
    fn a_token_holds_for_its_time() {
        let fixed = || AccountFrom::Fixed("acme".into());
        let at = |exp: Value, nbf: Value| {
            asked(json!({"sub": "bob", "exp": exp, "nbf": nbf}), fixed()).is_ok()
        };
        for (exp, nbf, holds) in [
            (json!(1_000), json!(1_000), true),
            (json!(991), json!(1_010), true),
            (json!(990), json!(0), false),
            (json!(2_000), json!(1_011), false),
            (json!(1_000.5), json!(999.5), true),
            (json!("1000"), json!(0), false),
            (json!(null), json!(0), false),
            (json!(1e300), json!(0), false),
            (json!(-1), json!(0), false),
        ] {
            assert_eq!(at(exp.clone(), nbf.clone()), holds, "{exp} {nbf}");
        }
        assert!(asked(json!({"sub": "bob"}), fixed()).is_err(), "no exp");
    }

    #[test]
    fn account_and_subject_come_from_their_claims() {
        let claim = || AccountFrom::Claim("org".into());
        let ok = asked(json!({"sub": "bob", "org": "acme", "exp": 2000}), claim()).unwrap();
        assert_eq!(ok.auth_id().unwrap().as_str(), "acme:bob");
        for bad in [
            json!({"sub": "bob", "exp": 2000}),
            json!({"sub": "bob", "org": 5, "exp": 2000}),
            json!({"sub": "", "org": "acme", "exp": 2000}),
            json!({"org": "acme", "exp": 2000}),
        ] {
            assert!(asked(bad.clone(), claim()).is_err(), "{bad}");
        }
        let spaced = asked(json!({"sub": "a b", "org": "acme", "exp": 2000}), claim()).unwrap();
        assert!(spaced.auth_id().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn no_claims_panic_and_none_outlive_their_time(exp: i64, nbf: Option<i64>, sub in ".{0,20}") {
            let claims = json!({"sub": sub, "exp": exp, "nbf": nbf.unwrap_or(0)});
            let holds = asked(claims, AccountFrom::Fixed("a".into()));
            if holds.is_ok() {
                prop_assert!(exp > 990 && nbf.is_none_or(|n| n <= 1_010));
            }
        }
    }
}

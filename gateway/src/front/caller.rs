//! On whose behalf a request is served. The front door's layer puts it beside each request; handlers
//! take it out with [`CallerExt`] and hand it to the use cases, which never ask the settings.

use crate::{config::Settings, error::GatewayError, routes::Shared};
use axum::extract::FromRequestParts;
use http::request::Parts;
use penstock_domain::{AuthId, Rational};
use penstock_wire::json::VerifiedPolicy;
use std::num::{NonZeroU32, NonZeroU64};
use thiserror::Error;

/// Who is calling, and what the operator allows them.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// `client:subject`: sent to the signer as `Signer-Auth-Id`, and part of the key of credit and
    /// payment sessions.
    pub auth_id: AuthId,
    /// The tier of the caller's account, for policies that differ by tier.
    pub tier: Option<String>,
    /// Highest price that the caller pays, wei per unit.
    pub max_price: Option<Rational>,
    /// What the caller may use: `pipeline/model` or `pipeline/*`. `None`: everything.
    pub capabilities: Option<Vec<String>>,
    /// `Idempotency-Key` of the request, if it has one.
    pub idempotency_key: Option<String>,
    /// Requests a second that the caller's account allows; `None`: as the gateway is set.
    pub requests_per_second: Option<NonZeroU32>,
    /// The same in 24 hours.
    pub requests_per_day: Option<NonZeroU64>,
}

impl Caller {
    /// Everybody is the same caller: `--auth-id`, without rules of its own.
    pub fn of_settings(settings: &Settings) -> Self {
        Self {
            auth_id: settings.auth_id.clone(),
            tier: None,
            max_price: None,
            capabilities: None,
            idempotency_key: None,
            requests_per_second: None,
            requests_per_day: None,
        }
    }

    /// Somebody with the rules of their account.
    pub fn with_policy(auth_id: AuthId, policy: &VerifiedPolicy) -> Self {
        Self {
            auth_id,
            tier: policy.tier.clone(),
            max_price: policy.max_price.clone(),
            capabilities: policy.allowed_capabilities.clone(),
            idempotency_key: None,
            requests_per_second: policy.requests_per_second,
            requests_per_day: policy.requests_per_day,
        }
    }

    /// The lower one of the caller's ceiling and the gateway's.
    pub fn price_ceiling<'a>(&'a self, gateways: Option<&'a Rational>) -> Option<&'a Rational> {
        match (self.max_price.as_ref(), gateways) {
            (Some(own), Some(gateways)) => Some(own.min(gateways)),
            (own, gateways) => own.or(gateways),
        }
    }

    /// Whether the caller may have video transcoded.
    pub fn may_transcode(&self) -> Result<(), NotAllowed> {
        match self.may_use(TRANSCODE) {
            true => Ok(()),
            false => Err(NotAllowed(format!("{TRANSCODE}*"))),
        }
    }

    /// Whether the caller may use a capability, by its name: `pipeline/model` or an application's.
    pub fn may_use(&self, name: &str) -> bool {
        let Some(allowed) = &self.capabilities else { return true };
        allowed.iter().any(|entry| match entry.strip_suffix("/*") {
            Some(pipeline) => name.split_once('/').is_some_and(|(of, _)| of == pipeline),
            None => entry == name,
        })
    }
}

/// Under which name video is allowed, as `transcode/*`: the signer's.
const TRANSCODE: &str = "transcode/";

/// The caller's account does not have something.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this caller may not use {0}")]
pub struct NotAllowed(pub String);

/// The caller of a request, for handlers.
#[derive(Debug, Clone)]
pub struct CallerExt(pub Caller);

impl FromRequestParts<Shared> for CallerExt {
    type Rejection = GatewayError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, GatewayError> {
        // A route that the front door does not guard must not pass for one that it does.
        parts.extensions.get::<Caller>().cloned().map(Self).ok_or(GatewayError::Unguarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(max_price: Option<i128>, capabilities: Option<&[&str]>) -> Caller {
        Caller {
            auth_id: AuthId::new("acme:bob").unwrap(),
            tier: None,
            max_price: max_price.map(Rational::from_int),
            capabilities: capabilities.map(|all| all.iter().map(|&c| c.to_owned()).collect()),
            idempotency_key: None,
            requests_per_second: None,
            requests_per_day: None,
        }
    }

    #[test]
    fn the_lower_ceiling_counts() {
        let (three, five) = (Rational::from_int(3), Rational::from_int(5));
        assert_eq!(caller(Some(3), None).price_ceiling(Some(&five)), Some(&three));
        assert_eq!(caller(Some(5), None).price_ceiling(Some(&three)), Some(&three));
        assert_eq!(caller(Some(5), None).price_ceiling(None), Some(&five));
        assert_eq!(caller(None, None).price_ceiling(Some(&three)), Some(&three));
        assert_eq!(caller(None, None).price_ceiling(None), None);
    }

    #[test]
    fn what_a_caller_may_use() {
        let some = caller(None, Some(&["llm/*", "audio-to-text/a/b", "tool"]));
        for (name, may) in [
            ("llm/x/y", true),
            ("llm", false),
            ("audio-to-text/a/b", true),
            ("audio-to-text/a", false),
            ("tool", true),
            ("tool/x", false),
        ] {
            assert_eq!(some.may_use(name), may, "{name}");
        }
        assert!(some.may_transcode().is_err() && caller(None, None).may_transcode().is_ok());
        assert!(caller(None, Some(&["transcode/*"])).may_transcode().is_ok());
        assert!(caller(None, None).may_use("video"));
        assert!(!caller(None, Some(&[])).may_use("llm/x"));
    }
}

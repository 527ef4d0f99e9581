//! What a webhook's answer means. Pure.

use http::StatusCode;
use penstock_domain::{AuthId, Rational};
use penstock_payments::{
    BillingType, CeilingSource, MaxPriceError, PriceExceeded, check_ceilings, parse_max_price,
};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// Longest reason passed on.
const MAX_REASON_CHARS: usize = 1_000;

/// The webhook said yes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Until then it need not be asked again for this payment session, Unix seconds; 0 for not at
    /// all. To be stored with the session, also when it is 0.
    pub expiry_s: i64,
    /// Whose the payment is, if it said so.
    pub auth_id: Option<AuthId>,
    /// A ceiling for this payment alone.
    pub max_price: Option<MaxPriceText>,
}

/// `maxPrice` as it was written; [`check_price`] reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPriceText {
    price: String,
    currency: String,
    unit: String,
}

/// Why the payment is not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The webhook said no; status and reason are its own.
    #[error("{reason}")]
    Rejected {
        /// 200 ≤ status ≤ 999, not 200 itself.
        status: u16,
        /// For the caller.
        reason: String,
    },
    /// It did not answer, or not in the agreed form: 500. The reason is for the log.
    #[error("auth webhook: {0}")]
    Failed(String),
    /// Its ceiling cannot be read: 502.
    #[error("signer auth invalid maxPrice: {0}")]
    MaxPrice(MaxPriceError),
    /// The price is above its ceiling: 481.
    #[error(transparent)]
    PriceExceeded(PriceExceeded),
    /// The payment session belongs to somebody else: 500.
    #[error("remote signer auth ID changed")]
    AuthIdChanged,
}

impl Refusal {
    /// The status that the caller gets.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Rejected { status, .. } => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Failed(_) | Self::AuthIdChanged => StatusCode::INTERNAL_SERVER_ERROR,
            Self::MaxPrice(_) => StatusCode::BAD_GATEWAY,
            // Inside what a status may be; the fallback is never used.
            Self::PriceExceeded(_) => StatusCode::from_u16(481).unwrap_or(StatusCode::BAD_REQUEST),
        }
    }
}

/// Whether the webhook has to be asked: `auth_expiry_s` is what it said for this session last, 0 if
/// never.
pub fn is_due(auth_expiry_s: i64, now_s: i64) -> bool {
    auth_expiry_s == 0 || now_s > auth_expiry_s
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Option<i64>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    expiry: Option<i64>,
    #[serde(default)]
    auth_id: Option<String>,
    #[serde(default, rename = "maxPrice")]
    max_price: Option<MaxPrice>,
}

#[derive(Deserialize)]
struct MaxPrice {
    #[serde(default)]
    price: Value,
    #[serde(default)]
    currency: Option<String>,
    #[serde(default)]
    unit: Option<String>,
}

/// Reads an answer.
pub fn decide(http_status: StatusCode, body: &[u8]) -> Result<Verdict, Refusal> {
    let failed = |reason: String| Refusal::Failed(reason);
    if http_status != StatusCode::OK {
        return Err(failed(format!("signer auth error status {}", http_status.as_u16())));
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|e| failed(format!("signer auth invalid response: {e}")))?;
    let status = answer.status.filter(|status| *status > 0);
    let status = status.ok_or_else(|| failed("signer auth invalid status".to_owned()))?;
    if status != 200 {
        return Err(rejected(status, answer.reason));
    }
    let auth_id = match answer.auth_id.as_deref() {
        None | Some("") => None,
        Some(text) => Some(AuthId::new(text).map_err(|e| failed(format!("auth_id: {e}")))?),
    };
    let max_price = answer.max_price.map(|max| MaxPriceText {
        price: match max.price {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text,
            _ => String::new(),
        },
        currency: max.currency.unwrap_or_default(),
        unit: max.unit.unwrap_or_default(),
    });
    Ok(Verdict { expiry_s: answer.expiry.unwrap_or(0), auth_id, max_price })
}

/// Statuses that cannot be a final answer make a Go server fail; they are the webhook's fault.
fn rejected(status: i64, reason: Option<String>) -> Refusal {
    match u16::try_from(status).ok().filter(|s| (200..=999).contains(s)) {
        None => Refusal::Failed(format!("signer auth status {status} cannot be answered")),
        Some(code) => {
            let default = || format!("signer auth rejected request with status {status}");
            let reason = reason.filter(|r| !r.is_empty()).unwrap_or_else(default);
            let reason = reason.chars().take(MAX_REASON_CHARS).collect();
            Refusal::Rejected { status: code, reason }
        }
    }
}

/// Compares the price with the webhook's own ceiling, if it named one; equality passes.
pub fn check_price(
    verdict: &Verdict,
    job_type: BillingType,
    price: &Rational,
) -> Result<(), Refusal> {
    let Some(MaxPriceText { price: text, currency, unit }) = &verdict.max_price else {
        return Ok(());
    };
    let ceiling = parse_max_price(text, currency, unit, job_type).map_err(Refusal::MaxPrice)?;
    check_ceilings(price, &[(CeilingSource::AuthWebhook, Some(&ceiling))])
        .map_err(Refusal::PriceExceeded)
}

/// Whose the payment is: the webhook's word, else the header's; a session that has an auth id
/// keeps it. Row 32, also when the webhook was not asked (`verdict` is `None` then).
pub fn next_auth_id(
    verdict: Option<&Verdict>,
    header: Option<&AuthId>,
    session: Option<&AuthId>,
) -> Result<Option<AuthId>, Refusal> {
    let said = verdict.and_then(|v| v.auth_id.as_ref()).or(header);
    match (said, session) {
        (Some(new), Some(old)) if new != old => Err(Refusal::AuthIdChanged),
        (new, old) => Ok(new.or(old).cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn said(answer: Value) -> Result<Verdict, Refusal> {
        decide(StatusCode::OK, answer.to_string().as_bytes())
    }

    fn id(text: &str) -> AuthId {
        AuthId::new(text).unwrap()
    }

    #[test]
    fn yes() {
        assert_eq!(said(json!({"status": 200})), Ok(Verdict::default()));
        let all = json!({"status": 200, "reason": "x", "expiry": 9, "auth_id": "c:s", "more": 1,
            "maxPrice": {"price": 0.5, "currency": "wei", "unit": "seconds"}});
        let verdict = said(all).unwrap();
        assert_eq!((verdict.expiry_s, verdict.auth_id.clone()), (9, Some(id("c:s"))));
        let half: Rational = "1/2".parse().unwrap();
        assert_eq!(check_price(&verdict, BillingType::Live, &half), Ok(()));
        let over = check_price(&verdict, BillingType::Live, &Rational::from(1u64)).unwrap_err();
        assert_eq!(over.status().as_u16(), 481);
        let text = "orchestrator price 1.000 exceeds auth webhook maxPrice ceiling 0.500";
        assert_eq!(over.to_string(), text);
    }

    #[test]
    fn no_with_its_own_status_and_reason() {
        let no = |answer| match said(answer).unwrap_err() {
            Refusal::Rejected { status, reason } => (status, reason),
            other => panic!("{other:?}"),
        };
        assert_eq!(no(json!({"status": 403, "reason": "why"})), (403, "why".into()));
        let default = "signer auth rejected request with status 429";
        assert_eq!(no(json!({"status": 429, "reason": ""})), (429, default.into()));
        assert_eq!(no(json!({"status": 201})).0, 201);
        assert_eq!(no(json!({"status": 999})).0, 999);
        assert_eq!(no(json!({"status": 402, "reason": "x".repeat(5000)})).1.len(), 1000);
        assert_eq!(said(json!({"status": 403})).unwrap_err().status().as_u16(), 403);
    }

    #[test]
    fn what_is_not_agreed_is_a_failure() {
        for bad in [
            json!({}),
            json!({"status": 0}),
            json!({"status": -1}),
            json!({"status": null}),
            json!({"status": "200"}),
            json!({"status": 200.5}),
            json!({"status": 199}),
            json!({"status": 1000}),
            json!({"status": 100}),
            json!({"status": 200, "auth_id": "a b"}),
            json!({"status": 200, "auth_id": "x".repeat(129)}),
            json!([]),
            json!(null),
        ] {
            let refusal = said(bad.clone()).unwrap_err();
            assert!(matches!(refusal, Refusal::Failed(_)), "{bad}: {refusal:?}");
            assert_eq!(refusal.status(), 500);
        }
        assert!(decide(StatusCode::UNAUTHORIZED, br#"{"status":200}"#).is_err());
        assert!(decide(StatusCode::FOUND, br#"{"status":200}"#).is_err(), "no redirects");
    }

    #[test]
    fn a_ceiling_that_cannot_be_read_is_502() {
        for max in [
            json!({"price": 1, "currency": "usd", "unit": "seconds"}),
            json!({"price": 0, "currency": "wei", "unit": "seconds"}),
            json!({"price": 1, "currency": "wei", "unit": "fixed"}),
            json!({"price": [], "currency": "wei", "unit": "seconds"}),
            json!({}),
        ] {
            let verdict = said(json!({"status": 200, "maxPrice": max})).unwrap();
            let refusal = check_price(&verdict, BillingType::Live, &Rational::from(1u64));
            assert_eq!(refusal.unwrap_err().status(), 502, "{max}");
        }
    }

    #[test]
    fn it_is_not_asked_again_before_its_time() {
        for (expiry, now, due) in [
            (0, 0, true),
            (0, 100, true),
            (100, 99, false),
            (100, 100, false),
            (100, 101, true),
            (-5, 0, true),
        ] {
            assert_eq!(is_due(expiry, now), due, "{expiry} {now}");
        }
    }

    #[test]
    fn a_session_keeps_its_auth_id() {
        let verdict = |text: Option<&str>| Verdict { auth_id: text.map(id), ..Verdict::default() };
        let (a, b) = (id("a"), id("b"));
        let ask = |v: Option<&str>, h, s| next_auth_id(Some(&verdict(v)), h, s);
        assert_eq!(ask(Some("a"), Some(&b), None), Ok(Some(a.clone())), "the webhook's word first");
        assert_eq!(ask(None, Some(&b), None), Ok(Some(b.clone())));
        assert_eq!(ask(None, None, Some(&a)), Ok(Some(a.clone())), "nothing never clears it");
        assert_eq!(ask(Some("a"), Some(&b), Some(&a)), Ok(Some(a.clone())));
        assert_eq!(ask(Some("b"), None, Some(&a)), Err(Refusal::AuthIdChanged));
        assert_eq!(next_auth_id(None, Some(&b), Some(&a)), Err(Refusal::AuthIdChanged));
        assert_eq!(next_auth_id(None, None, None), Ok(None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn no_answer_panics_or_passes_by_accident(body in prop::collection::vec(any::<u8>(), 0..60), status: i64) {
            prop_assert!(decide(StatusCode::OK, &body).is_err());
            let answer = json!({"status": status}).to_string();
            prop_assert_eq!(decide(StatusCode::OK, answer.as_bytes()).is_ok(), status == 200);
        }
    }
}

//! The body that is sent: the caller's headers and the state to come (remote-signer.md sections 7
//! and 8), field for field as the Go node writes them.

use http::HeaderMap;
use penstock_domain::{Address, AuthId, B256, PriceInfo, Rational, StateId, address_lower};
use penstock_payments::BillingType;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The payment state as it will be if the payment is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewState {
    /// The payment session.
    pub state_id: StateId,
    /// Of the tickets to come.
    pub recipient_rand_hash: B256,
    /// The time of this payment, Unix nanoseconds.
    pub last_update_ns: i64,
    /// From the first request's `OrchestratorInfo.address`.
    pub orchestrator: Address,
    /// Application label.
    pub app: String,
    /// What the last answer of the webhook said, Unix seconds; 0 for never.
    pub auth_expiry_s: i64,
    /// The last nonce, if nobody else takes some meanwhile.
    pub sender_nonce: u32,
    /// Balance after this payment, wei.
    pub balance_wei: Rational,
    /// The first payment's price.
    pub initial_price: PriceInfo,
    /// Billing type.
    pub job_type: BillingType,
    /// 0 for a first payment.
    pub sequence: u64,
    /// As the state had it: the answer may change it.
    pub auth_id: Option<AuthId>,
}

/// The JSON text.
pub fn request_body(headers: &HeaderMap, state: &NewState) -> Vec<u8> {
    let body = json!({ "headers": canonical(headers), "state": state_json(state) });
    body.to_string().into_bytes()
}

fn state_json(state: &NewState) -> Value {
    json!({
        "StateID": state.state_id.as_str(),
        "PMSessionID": format!("{:#x}", state.recipient_rand_hash),
        "LastUpdate": moment(state.last_update_ns),
        "OrchestratorAddress": address_lower(&state.orchestrator),
        "App": state.app,
        "AuthExpiry": state.auth_expiry_s,
        "SenderNonce": state.sender_nonce,
        "Balance": state.balance_wei.to_string(),
        "InitialPricePerUnit": state.initial_price.price_per_unit(),
        "InitialPixelsPerUnit": state.initial_price.pixels_per_unit(),
        "Type": state.job_type.as_str(),
        "SequenceNumber": state.sequence,
        "AuthID": state.auth_id.as_ref().map(AuthId::as_str).unwrap_or_default(),
    })
}

fn moment(unix_ns: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Every header but `Host`, its name in canonical form, its values as a list. Bytes that are no
/// text become U+FFFD, as in the reference.
fn canonical(headers: &HeaderMap) -> Map<String, Value> {
    let mut object = Map::new();
    for name in headers.keys().filter(|name| **name != http::header::HOST) {
        let values = headers.get_all(name).iter();
        let values: Vec<Value> =
            values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned().into()).collect();
        object.insert(canonical_name(name.as_str()), values.into());
    }
    object
}

/// `x-request-id` → `X-Request-Id`: a capital at the start and after each hyphen. Names with
/// characters that Go does not count as part of a header name stay as they are; the parser of
/// requests lets none of those in.
fn canonical_name(name: &str) -> String {
    let mut capital = true;
    name.chars()
        .map(|c| {
            let c = if capital { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            capital = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_go_nodes() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("host", "h"), ("x-request-id", "abc"), ("x-a", "1"), ("x-a", "2"), ("etag", "é")]
        {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let state = NewState {
            state_id: StateId::new("0a0b0c0d").unwrap(),
            recipient_rand_hash: B256::repeat_byte(0xab),
            last_update_ns: 1_795_262_400_123_456_789,
            orchestrator: Address::repeat_byte(0xCD),
            app: "scope".into(),
            auth_expiry_s: 7,
            sender_nonce: 25,
            balance_wei: "125/7".parse().unwrap(),
            initial_price: PriceInfo::new(150, 175).unwrap(),
            job_type: BillingType::Lv2v,
            sequence: 3,
            auth_id: Some(AuthId::new("c:s").unwrap()),
        };
        let body: Value = serde_json::from_slice(&request_body(&headers, &state)).unwrap();
        let expected = json!({
            "headers": { "X-Request-Id": ["abc"], "X-A": ["1", "2"], "Etag": ["é"] },
            "state": {
                "StateID": "0a0b0c0d", "PMSessionID": format!("0x{}", "ab".repeat(32)),
                "LastUpdate": "2026-11-21T12:00:00.123456789Z",
                "OrchestratorAddress": format!("0x{}", "cd".repeat(20)), "App": "scope",
                "AuthExpiry": 7, "SenderNonce": 25, "Balance": "125/7", "InitialPricePerUnit": 150,
                "InitialPixelsPerUnit": 175, "Type": "lv2v", "SequenceNumber": 3, "AuthID": "c:s",
            },
        });
        assert_eq!(body, expected);
        let none = NewState { auth_id: None, balance_wei: "-3".parse().unwrap(), ..state };
        let body: Value = serde_json::from_slice(&request_body(&headers, &none)).unwrap();
        assert_eq!(body["state"]["AuthID"], "");
        assert_eq!(body["state"]["Balance"], "-3");
    }
}

//! What a client sends to `/generate-live-payment`, read strictly in type and length but freely in
//! the case of its keys, as the reference reads it (remote-signer.md section 3).

use crate::error::SignerError;
use penstock_wire::header::from_base64;
use serde_json::{Map, Value};

/// Longest application label.
const MAX_APP_BYTES: usize = 256;
/// Longest text of a `maxPrice` member.
const MAX_PRICE_TEXT: usize = 128;

/// `maxPrice`, its numbers still as text: an exact decimal, never a float.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPrice {
    /// A decimal, exponent allowed.
    pub price: String,
    /// Must be `wei`.
    pub currency: String,
    /// Unit of the payment type.
    pub unit: String,
}

/// The body, decoded from JSON and base64 and not yet judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaymentRequest {
    /// Protobuf `OrchestratorInfo`.
    pub orchestrator: Vec<u8>,
    /// State text of the previous answer; empty on a first request.
    pub state: Vec<u8>,
    /// Its MAC.
    pub sig: Vec<u8>,
    /// Manifest id, may be empty on a first request.
    pub manifest_id: String,
    /// Application label.
    pub app: String,
    /// Units for an empty type.
    pub in_pixels: i64,
    /// Billing type.
    pub job_type: String,
    /// Ceiling of this request.
    pub max_price: Option<MaxPrice>,
    /// Protobuf `Capabilities`.
    pub capabilities: Vec<u8>,
}

/// A JSON object whose keys are found without regard to case; the last of several wins, unknown
/// ones are ignored.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: Value, what: &str) -> Result<Self, SignerError> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(SignerError::BadJson(format!("{what} must be a JSON object"))),
        }
    }

    /// Takes a member; absent and null are the same.
    fn take(&mut self, name: &str) -> Option<Value> {
        let mut found = self.0.remove(name);
        // One pass for the other spellings; the map is bounded with the body.
        let others: Vec<String> =
            self.0.keys().filter(|key| key.eq_ignore_ascii_case(name)).cloned().collect();
        for key in others {
            let value = self.0.remove(&key);
            found = found.or(value);
        }
        found.filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str, max: usize) -> Result<String, SignerError> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) if text.len() <= max => Ok(text),
            Some(Value::String(_)) => {
                Err(SignerError::BadJson(format!("{name} is longer than {max} bytes")))
            }
            Some(_) => Err(SignerError::BadJson(format!("{name} must be a string"))),
        }
    }

    fn bytes(&mut self, name: &'static str) -> Result<Vec<u8>, SignerError> {
        let text = self.text(name, usize::MAX)?;
        from_base64(name, &text, usize::MAX).map_err(|e| SignerError::BadJson(e.to_string()))
    }

    fn integer(&mut self, name: &str) -> Result<i64, SignerError> {
        match self.take(name) {
            None => Ok(0),
            Some(Value::Number(number)) => number
                .as_i64()
                .ok_or_else(|| SignerError::BadJson(format!("{name} must be a 64-bit integer"))),
            Some(_) => Err(SignerError::BadJson(format!("{name} must be a number"))),
        }
    }
}

fn json(body: &[u8]) -> Result<Value, SignerError> {
    serde_json::from_slice(body).map_err(|e| SignerError::BadJson(format!("invalid JSON: {e}")))
}

/// Reads the body of `/generate-live-payment` (row 2).
pub fn parse_payment(body: &[u8]) -> Result<PaymentRequest, SignerError> {
    let mut fields = Fields::of(json(body)?, "the request")?;
    let (state, sig) = state_of(&mut fields)?;
    Ok(PaymentRequest {
        orchestrator: fields.bytes("orchestrator")?,
        state,
        sig,
        // Longer ones are refused as manifest ids, with that text.
        manifest_id: fields.text("ManifestID", usize::MAX)?,
        app: fields.text("app", MAX_APP_BYTES)?,
        in_pixels: fields.integer("inPixels")?,
        job_type: fields.text("type", usize::MAX)?,
        max_price: max_price_of(&mut fields)?,
        capabilities: fields.bytes("capabilities")?,
    })
}

/// State and segment of `/sign-segment-credentials`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsRequest {
    /// State text of the newest payment.
    pub state: Vec<u8>,
    /// Its MAC.
    pub sig: Vec<u8>,
    /// Protobuf `SegData` with an empty signature.
    pub segment: Vec<u8>,
}

/// Reads the body of `/sign-segment-credentials`.
pub fn parse_credentials(body: &[u8]) -> Result<CredentialsRequest, SignerError> {
    let mut fields = Fields::of(json(body)?, "the request")?;
    let (state, sig) = state_of(&mut fields)?;
    Ok(CredentialsRequest { state, sig, segment: fields.bytes("segment")? })
}

fn state_of(fields: &mut Fields) -> Result<(Vec<u8>, Vec<u8>), SignerError> {
    let Some(value) = fields.take("state") else { return Ok(Default::default()) };
    let mut state = Fields::of(value, "state")?;
    Ok((state.bytes("State")?, state.bytes("Sig")?))
}

fn max_price_of(fields: &mut Fields) -> Result<Option<MaxPrice>, SignerError> {
    let Some(value) = fields.take("maxPrice") else { return Ok(None) };
    let mut max = Fields::of(value, "maxPrice")?;
    let price = match max.take("price") {
        None => String::new(),
        Some(Value::String(text)) => text,
        // Arbitrary precision: the number's own digits.
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(SignerError::BadJson("maxPrice.price must be a number".into())),
    };
    Ok(Some(MaxPrice {
        price,
        currency: max.text("currency", MAX_PRICE_TEXT)?,
        unit: max.text("unit", MAX_PRICE_TEXT)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<PaymentRequest, String> {
        parse_payment(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_spelling() {
        let request = parse(
            r#"{"Orchestrator":"AQI=","STATE":{"state":"Aw==","sig":"BA=="},"manifestId":"m","App":"a",
                "inpixels":7,"TYPE":"live","maxprice":{"Price":1.012e+16,"currency":"wei","UNIT":"seconds"},
                "capabilities":null,"capability":"ignored"}"#,
        )
        .unwrap();
        let expected = PaymentRequest {
            orchestrator: vec![1, 2],
            state: vec![3],
            sig: vec![4],
            manifest_id: "m".into(),
            app: "a".into(),
            in_pixels: 7,
            job_type: "live".into(),
            max_price: Some(MaxPrice {
                price: "1.012e+16".into(),
                currency: "wei".into(),
                unit: "seconds".into(),
            }),
            capabilities: vec![],
        };
        assert_eq!(request, expected);
        assert_eq!(parse("{}").unwrap(), PaymentRequest::default());
        assert_eq!(
            parse(r#"{"state":null,"orchestrator":null}"#).unwrap(),
            PaymentRequest::default()
        );
        let quoted = parse(r#"{"maxPrice":{"price":"0.50"}}"#).unwrap();
        assert_eq!(quoted.max_price.unwrap().price, "0.50");
    }

    #[test]
    fn wrong_shapes_are_refused() {
        for bad in [
            "",
            "null",
            "[]",
            "\"x\"",
            "{",
            r#"{"orchestrator":1}"#,
            r#"{"orchestrator":"a"}"#,
            r#"{"orchestrator":"AQ"}"#,
            r#"{"orchestrator":"-_-_"}"#,
            r#"{"state":[]}"#,
            r#"{"state":{"State":5}}"#,
            r#"{"inPixels":1.5}"#,
            r#"{"inPixels":9223372036854775808}"#,
            r#"{"inPixels":"7"}"#,
            r#"{"type":3}"#,
            r#"{"maxPrice":7}"#,
            r#"{"maxPrice":{"price":[]}}"#,
            r#"{"ManifestID":{}}"#,
            &format!(r#"{{"app":"{}"}}"#, "a".repeat(257)),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"[".repeat(60_000)).is_err(), "nesting is bounded");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..60), text in "[\\{\\}\\[\\]\":,a-zA-Z0-9=.e+-]{0,60}") {
            let _ = parse_payment(&body);
            let _ = parse_payment(text.as_bytes());
            let _ = parse_credentials(text.as_bytes());
        }

        #[test]
        fn members_of_any_type_are_refused_or_read(
            name in prop::sample::select(vec!["orchestrator", "state", "ManifestID", "app", "inPixels", "type", "maxPrice", "capabilities", "segment"]),
            value in prop::sample::select(vec!["0", "-1", "1e999", "true", "[]", "{}", "\"\"", "\"AQ==\"", "{\"State\":true}", "{\"price\":1e99999}"]),
        ) {
            let body = format!("{{\"{name}\":{value}}}");
            let _ = parse_payment(body.as_bytes());
            let _ = parse_credentials(body.as_bytes());
        }
    }
}

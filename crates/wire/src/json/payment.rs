//! `POST /generate-live-payment` (remote-signer.md section 3): the signer's side reads
//! [`LivePaymentRequest`], a gateway writes [`LivePaymentCall`].

use super::read::{self, Object};
use crate::{
    error::{WireError, bounded},
    header, limits,
};
use penstock_domain::Rational;
use serde_json::{Value, json};

/// A payment state and its signature, as the signer that issued it reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedState {
    /// The issuer's opaque bytes.
    pub state: Vec<u8>,
    /// Its signature over exactly those bytes.
    pub sig: Vec<u8>,
}

impl SignedState {
    /// As in answers: `{"State": base64, "Sig": base64}`.
    pub fn to_json(&self) -> Value {
        json!({ "State": header::to_base64(&self.state), "Sig": header::to_base64(&self.sig) })
    }

    /// Absent, null, or both parts empty: `None`. One part alone is kept, since that is an
    /// invalid signature and not a first request.
    pub(super) fn read(map: &Object) -> Result<Option<Self>, WireError> {
        let key = "state";
        let Some(value) = read::get(map, key) else { return Ok(None) };
        let inner = read::as_object(key, value.clone())?;
        let state = read::base64(&inner, "State", limits::STATE_BYTES)?;
        let sig = read::base64(&inner, "Sig", 1024)?;
        Ok((!state.is_empty() || !sig.is_empty()).then_some(Self { state, sig }))
    }
}

/// The caller's own ceiling on a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPrice {
    /// The exact decimal; `None` if what was sent is not one.
    pub price: Option<Rational>,
    /// As sent; `wei` after trimming and lowercasing.
    pub currency: String,
    /// As sent.
    pub unit: String,
}

impl MaxPrice {
    fn read(map: &Object) -> Result<Option<Self>, WireError> {
        let key = "maxPrice";
        let Some(value) = read::get(map, key) else { return Ok(None) };
        let inner = read::as_object(key, value.clone())?;
        Ok(Some(Self {
            price: read::decimal(&inner, "price")?,
            currency: read::text(&inner, "currency", limits::NAME_BYTES)?,
            unit: read::text(&inner, "unit", limits::NAME_BYTES)?,
        }))
    }
}

/// A request as the signer reads it. Only the JSON shape is checked here (row 2 of
/// remote-signer.md section 4); the encoded messages stay encoded, since the order of the later
/// rows decides which error a bad request gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LivePaymentRequest {
    /// Encoded `OrchestratorInfo`; empty when missing.
    pub orchestrator: Vec<u8>,
    /// From the previous answer; `None` on a first request.
    pub state: Option<SignedState>,
    /// Ties to the orchestrator's accounting; empty when missing.
    pub manifest_id: String,
    /// Application label.
    pub app: String,
    /// Units to bill when [`Self::job_type`] is empty.
    pub in_pixels: i64,
    /// `lv2v`, `live`, `fixed` or empty.
    pub job_type: String,
    /// The caller's ceiling.
    pub max_price: Option<MaxPrice>,
    /// Encoded `Capabilities`; empty when missing.
    pub capabilities: Vec<u8>,
    /// Name of a brought capability, which the SDK adds for its BYOC jobs; empty when missing.
    pub byoc_capability: String,
}

impl LivePaymentRequest {
    /// Reads a body of at most [`limits::SIGNER_REQUEST_BYTES`].
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("payment request", body, limits::SIGNER_REQUEST_BYTES)?;
        Ok(Self {
            orchestrator: read::base64(&map, "orchestrator", limits::ORCHESTRATOR_INFO_BYTES)?,
            state: SignedState::read(&map)?,
            manifest_id: read::text(&map, "ManifestID", limits::NAME_BYTES)?,
            app: read::text(&map, "app", limits::NAME_BYTES)?,
            in_pixels: read::int64(&map, "inPixels")?,
            job_type: read::text(&map, "type", limits::NAME_BYTES)?,
            max_price: MaxPrice::read(&map)?,
            capabilities: read::base64(&map, "capabilities", limits::CAPABILITIES_BYTES)?,
            byoc_capability: byoc_capability(&map),
        })
    }
}

/// The reference ignores this key whatever it holds, so a wrong type or length is not an error.
fn byoc_capability(map: &Object) -> String {
    read::text(map, "capability", limits::NAME_BYTES).unwrap_or_default()
}

/// A payment state as a client holds it: the object of the last answer, to be sent back as it
/// came, whoever issued it and whatever is in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct PaymentState(Object);

impl PaymentState {
    /// Keeps an object that is not larger than any state may be.
    pub fn new(value: Value) -> Result<Self, WireError> {
        let map = read::as_object("state", value)?;
        let state = Self(map);
        bounded(
            "state",
            state.as_value().to_string().len(),
            limits::STATE_BYTES.saturating_mul(2),
        )?;
        Ok(state)
    }

    /// The object.
    pub fn as_value(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// A request as a gateway writes it.
#[derive(Debug, Clone, Default)]
pub struct LivePaymentCall<'a> {
    /// Encoded `OrchestratorInfo`.
    pub orchestrator: &'a [u8],
    /// From the previous answer of this payment session.
    pub state: Option<&'a PaymentState>,
    /// Required once there is a state.
    pub manifest_id: &'a str,
    /// Application label, the same within a payment session.
    pub app: &'a str,
    /// Units to buy when `job_type` is empty.
    pub in_pixels: i64,
    /// `lv2v`, `live`, `fixed` or empty.
    pub job_type: &'a str,
    /// Ceiling in wei per unit, and the unit's name.
    pub max_price: Option<(&'a Rational, &'a str)>,
    /// Encoded `Capabilities`.
    pub capabilities: &'a [u8],
    /// Name of the brought capability that is paid for; empty: none.
    pub byoc_capability: &'a str,
}

impl LivePaymentCall<'_> {
    /// The body. Empty parts are left out. A ceiling that is no finite decimal is cut to 18
    /// decimals, that is, never raised.
    pub fn to_json(&self) -> Value {
        let mut map = Object::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("orchestrator", header::to_base64(self.orchestrator).into());
        if let Some(state) = self.state {
            put("state", state.as_value());
        }
        for (key, text) in [
            ("ManifestID", self.manifest_id),
            ("app", self.app),
            ("type", self.job_type),
            ("capability", self.byoc_capability),
        ] {
            if !text.is_empty() {
                put(key, text.into());
            }
        }
        if self.in_pixels != 0 {
            put("inPixels", self.in_pixels.into());
        }
        if let Some((price, unit)) = self.max_price {
            let price = read::decimal_number(price);
            put("maxPrice", json!({ "price": price, "currency": "wei", "unit": unit }));
        }
        if !self.capabilities.is_empty() {
            put("capabilities", header::to_base64(self.capabilities).into());
        }
        Value::Object(map)
    }
}

/// What a signer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePaymentAnswer {
    /// Ready value of the header `Livepeer-Payment`.
    pub payment: String,
    /// Ready value of the header `Livepeer-Segment`.
    pub seg_creds: String,
    /// For the next request.
    pub state: PaymentState,
}

impl LivePaymentAnswer {
    /// Largest body.
    pub const MAX_BYTES: usize =
        limits::PAYMENT_HEADER_BYTES + limits::SEGMENT_HEADER_BYTES + 4 * limits::STATE_BYTES;

    /// Reads an answer. Both headers must be what can be sent in a header.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("payment answer", body, Self::MAX_BYTES)?;
        let payment = read::text(&map, "payment", limits::PAYMENT_HEADER_BYTES)?;
        if payment.is_empty() {
            return Err(WireError::Missing("payment"));
        }
        let seg_creds = read::text(&map, "segCreds", limits::SEGMENT_HEADER_BYTES)?;
        for text in [&payment, &seg_creds] {
            if !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(WireError::invalid("payment answer", "headers must be base64"));
            }
        }
        let state = read::get(&map, "state").ok_or(WireError::Missing("state"))?;
        Ok(Self { payment, seg_creds, state: PaymentState::new(state.clone())? })
    }

    /// The body as a signer writes it.
    pub fn body(payment: &str, seg_creds: &str, state: &SignedState) -> Value {
        json!({ "payment": payment, "segCreds": seg_creds, "state": state.to_json() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LivePaymentRequest, WireError> {
        LivePaymentRequest::parse(text.as_bytes())
    }

    #[test]
    fn keys_in_any_case_and_null() {
        let r = parse(
            r#"{"Orchestrator":"AQ==","manifestid":"m","INPIXELS":7,"app":null,"x":[],
                "State":{"state":"AQI=","sig":null},"maxprice":{"Price":1.012e+16,"unit":"seconds"}}"#,
        )
        .unwrap();
        assert_eq!((r.orchestrator.as_slice(), r.manifest_id.as_str()), (&[1u8][..], "m"));
        assert_eq!((r.in_pixels, r.app.as_str()), (7, ""));
        assert_eq!(r.state, Some(SignedState { state: vec![1, 2], sig: vec![] }));
        let max = r.max_price.unwrap();
        assert_eq!(max.price, Some(Rational::from_int(10_120_000_000_000_000)));
        assert_eq!((max.currency.as_str(), max.unit.as_str()), ("", "seconds"));
    }

    #[test]
    fn no_state_is_a_first_request() {
        for text in
            ["{}", r#"{"state":null}"#, r#"{"state":{}}"#, r#"{"state":{"State":"","Sig":""}}"#]
        {
            assert_eq!(parse(text).unwrap().state, None, "{text}");
        }
    }

    #[test]
    fn prices_are_exact() {
        let price = |p: &str| parse(&format!(r#"{{"maxPrice":{{"price":{p}}}}}"#)).unwrap();
        let half = Rational::new(1, 2).unwrap();
        assert_eq!(price("0.5").max_price.unwrap().price, Some(half.clone()));
        assert_eq!(price("\"0.5\"").max_price.unwrap().price, Some(half));
        let long = price("0.1000000000000000000000000000000001").max_price.unwrap();
        assert_ne!(long.price, Rational::new(1, 10));
        for unusable in ["1e999999999", "\"many\"", "\"\""] {
            assert_eq!(price(unusable).max_price.unwrap().price, None, "{unusable}");
        }
    }

    #[test]
    fn wrong_shapes() {
        for bad in [
            "",
            "null",
            "[]",
            "{",
            r#"{"orchestrator":1}"#,
            r#"{"orchestrator":"AQ"}"#,
            r#"{"orchestrator":"-_8="}"#,
            r#"{"inPixels":1.5}"#,
            r#"{"inPixels":"1"}"#,
            r#"{"inPixels":9223372036854775808}"#,
            r#"{"state":[]}"#,
            r#"{"maxPrice":7}"#,
            r#"{"maxPrice":{"price":true}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).is_err());
    }

    #[test]
    fn what_a_gateway_writes_a_signer_reads() {
        let price = Rational::new(1, 3).unwrap();
        let state = SignedState { state: b"s".to_vec(), sig: b"g".to_vec() };
        let body = LivePaymentAnswer::body("cA==", "c2M=", &state).to_string();
        let answer = LivePaymentAnswer::parse(body.as_bytes()).unwrap();
        let call = LivePaymentCall {
            orchestrator: b"o",
            state: Some(&answer.state),
            manifest_id: "m",
            in_pixels: i64::MAX,
            max_price: Some((&price, "seconds")),
            capabilities: b"c",
            ..LivePaymentCall::default()
        };
        let read = parse(&call.to_json().to_string()).unwrap();
        assert_eq!((read.in_pixels, &read.state), (i64::MAX, &Some(state)));
        let sent = read.max_price.unwrap().price.unwrap();
        assert!(sent < price && sent > Rational::from_decimal("0.333333").unwrap());
        assert_eq!(read.capabilities, b"c");
    }

    #[test]
    fn answers_need_all_three() {
        for bad in [
            r#"{"payment":"","segCreds":"","state":{}}"#,
            r#"{"payment":"cA==","segCreds":""}"#,
            r#"{"payment":"cA==","segCreds":"a b","state":{}}"#,
            r#"{"payment":"cA==","segCreds":"","state":"x"}"#,
        ] {
            assert!(LivePaymentAnswer::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

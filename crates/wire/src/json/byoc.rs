//! Jobs for brought capabilities, from the gateway's side (byoc.md sections 1 and 3).

use super::read;
use crate::{
    error::WireError,
    header, limits,
    ticket::{ExpirationFields, TicketParamsFields},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::{Address, B256, PriceInfo, U256, Wei};
use serde_json::{Map, Value, json};

/// Header with a job request.
pub const JOB: &str = "Livepeer";
/// Most bytes of that header's JSON.
pub const MAX_JOB_BYTES: usize = 64 * 1024;

/// Lengths of an address' hash, of a ticket and of a longer one.
const REFUSED_LENGTHS: [usize; 3] = [32, 168, 232];

/// What a client asks for, unsigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByocJobRequest {
    /// The client's id; may be empty.
    pub id: String,
    /// A JSON object, as text: what is signed.
    pub request: String,
    /// A JSON object, as text; `{}` when the client left it empty.
    pub parameters: String,
    /// Its name.
    pub capability: String,
    /// Seconds that the job may take and that are paid for; above 0.
    pub timeout_seconds: u32,
    /// Orchestrators that may be used; empty is all.
    pub include: Vec<String>,
    /// Orchestrators that may not.
    pub exclude: Vec<String>,
}

impl ByocJobRequest {
    /// From the header's value. The texts of errors are the reference's where it has one.
    pub fn from_header(value: &str) -> Result<Self, WireError> {
        let text = header::from_base64(JOB, value, MAX_JOB_BYTES.div_ceil(3) * 4)?;
        let map = read::object(JOB, &text, MAX_JOB_BYTES)?;
        let parameters = read::text(&map, "parameters", MAX_JOB_BYTES)?;
        // The reference refuses an empty text, although nothing follows from it.
        let parameters = if parameters.is_empty() { "{}".to_owned() } else { parameters };
        let request = read::text(&map, "request", MAX_JOB_BYTES)?;
        document("request", &request)?;
        let said = document("parameters", &parameters)?;
        let job = Self {
            id: read::text(&map, "id", limits::NAME_BYTES)?,
            capability: read::text(&map, "capability", limits::NAME_BYTES)?,
            timeout_seconds: read::uint32(&map, "timeout_seconds")?,
            include: urls(&said, "include"),
            exclude: urls(&said, "exclude"),
            request,
            parameters,
        };
        for (key, text) in [("id", &job.id), ("capability", &job.capability)] {
            if text.chars().any(char::is_control) {
                return Err(WireError::invalid(key, "must be printable"));
            }
        }
        if job.capability.trim().is_empty() {
            return Err(WireError::Missing("capability"));
        }
        if job.timeout_seconds == 0 {
            return Err(read::wrong(
                "job request",
                "no timeout_seconds set with request, timeout_seconds is required",
            ));
        }
        Ok(job)
    }

    /// Keeps the signed text, `request ‖ parameters`, off the lengths at which the signature could be one
    /// of something else (architecture.md rule 7): a signer refuses those. A space changes nothing.
    #[must_use]
    pub fn signable(mut self) -> Self {
        if REFUSED_LENGTHS.contains(&(self.request.len() + self.parameters.len())) {
            self.parameters.push(' ');
        }
        self
    }

    /// The header's value for an orchestrator, signed by `sender`.
    pub fn to_header(&self, sender: &str, signature: &str) -> String {
        let job = json!({
            "id": self.id, "request": self.request, "parameters": self.parameters,
            "capability": self.capability, "capability_url": "", "sender": sender,
            "sig": signature, "timeout_seconds": self.timeout_seconds,
        });
        BASE64.encode(job.to_string())
    }
}

fn document(what: &'static str, text: &str) -> Result<Map<String, Value>, WireError> {
    read::object(what, text.as_bytes(), MAX_JOB_BYTES)
}

fn urls(parameters: &Map<String, Value>, which: &str) -> Vec<String> {
    let list = parameters.get("orchestrators").and_then(|o| o.get(which)).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// `Livepeer-Eth-Address` of a token request: who asks, proven by the constant signature over the
/// checksummed address.
pub fn eth_address_header(sender: Address, signature: &[u8]) -> String {
    let proof = json!({
        "addr": sender.to_string(), "sig": format!("0x{}", hex::encode(signature)),
    });
    BASE64.encode(proof.to_string())
}

/// An orchestrator's offer for a brought capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByocToken {
    /// Its service address.
    pub service_addr: String,
    /// Jobs that it has room for.
    pub available_capacity: u32,
    /// Wei a second; `None` where nothing is paid.
    pub price: Option<PriceInfo>,
    /// For tickets; `None` where nothing is paid.
    pub ticket_params: Option<TicketParamsFields>,
}

impl ByocToken {
    /// Who is paid.
    pub fn recipient(&self) -> Option<Address> {
        self.ticket_params.as_ref().map(|params| params.recipient)
    }

    /// Reads an answer of `/process/token`.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("job token", body, MAX_JOB_BYTES)?;
        let service_addr = read::text(&map, "service_addr", limits::URL_BYTES)?;
        if service_addr.is_empty() {
            return Err(WireError::Missing("service_addr"));
        }
        let price = match read::get(&map, "price") {
            Some(Value::Object(price)) => {
                let (n, d) =
                    (read::int64(price, "pricePerUnit")?, read::int64(price, "pixelsPerUnit")?);
                let price =
                    PriceInfo::new(n, d).map_err(|_| read::wrong("price", "is no price"))?;
                Some(price).filter(|price| price.price_per_unit() > 0)
            }
            _ => None,
        };
        let ticket_params = match read::get(&map, "ticket_params") {
            Some(Value::Object(params)) => Some(ticket_params(params)?),
            _ => None,
        };
        let available = read::int64(&map, "available_capacity")?;
        Ok(Self {
            service_addr,
            available_capacity: u32::try_from(available.max(0)).unwrap_or(u32::MAX),
            price,
            ticket_params,
        })
    }
}

fn ticket_params(map: &Map<String, Value>) -> Result<TicketParamsFields, WireError> {
    let number = |map: &Map<String, Value>, key| {
        read::base64(map, key, 32).map(|bytes| U256::from_be_slice(&bytes))
    };
    let hash = |map: &Map<String, Value>, key: &'static str| {
        let bytes = read::base64(map, key, 32)?;
        B256::try_from(bytes.as_slice()).map_err(|_| read::wrong(key, "expected 32 bytes"))
    };
    let recipient = read::base64(map, "recipient", 20)?;
    let expiration = match read::get(map, "expiration_params") {
        Some(Value::Object(expiration)) => ExpirationFields {
            creation_round: u64::try_from(read::int64(expiration, "creation_round")?)
                .map_err(|_| read::wrong("creation_round", "out of range"))?,
            creation_round_block_hash: hash(expiration, "creation_round_block_hash")?,
        },
        _ => ExpirationFields::default(),
    };
    Ok(TicketParamsFields {
        recipient: Address::try_from(recipient.as_slice())
            .map_err(|_| read::wrong("recipient", "expected 20 bytes"))?,
        face_value: Wei(number(map, "face_value")?),
        win_prob: number(map, "win_prob")?,
        recipient_rand_hash: hash(map, "recipient_rand_hash")?,
        seed: number(map, "seed")?,
        expiration_block: number(map, "expiration_block")?,
        expiration_params: expiration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &Value) -> String {
        BASE64.encode(value.to_string())
    }

    #[test]
    fn requests() {
        let sent = json!({
            "id": "a", "request": "{\"run\": \"x\"}", "capability": "flux", "timeout_seconds": 30,
            "parameters": r#"{"orchestrators":{"include":["https://a"],"exclude":["https://b"]}}"#,
        });
        let job = ByocJobRequest::from_header(&header(&sent)).unwrap();
        assert_eq!(
            (job.include, job.exclude),
            (vec!["https://a".into()], vec!["https://b".into()])
        );
        for (key, value) in [
            ("request", json!("[]")),
            ("request", json!({})),
            ("request", json!("")),
            ("parameters", json!("no")),
            ("capability", json!("")),
            ("timeout_seconds", json!(0)),
            ("timeout_seconds", json!(-1)),
            ("id", json!("a\nb")),
        ] {
            let mut bad = sent.clone();
            bad[key] = value.clone();
            assert!(ByocJobRequest::from_header(&header(&bad)).is_err(), "{key}: {value}");
        }
        let mut empty = sent;
        empty["parameters"] = json!("");
        assert_eq!(ByocJobRequest::from_header(&header(&empty)).unwrap().parameters, "{}");
        assert!(ByocJobRequest::from_header("%").is_err());
    }

    #[test]
    fn lengths_that_nobody_signs() {
        let of = |length: usize| {
            let mut said = json!({ "capability": "c", "timeout_seconds": 1, "parameters": "{}" });
            said["request"] = format!("{{{}}}", " ".repeat(length - 4)).into();
            ByocJobRequest::from_header(&header(&said)).unwrap().signable().parameters
        };
        assert_eq!([of(31), of(33), of(200)], ["{}"; 3]);
        assert_eq!([of(32), of(168), of(232)], ["{} "; 3]);
    }

    #[test]
    fn tokens() {
        let bytes = |n: usize| BASE64.encode(vec![7; n]);
        let sent = json!({
            "sender_address": {}, "balance": 5, "service_addr": "https://o:8935",
            "available_capacity": 2, "LastNonce": 0,
            "price": { "pricePerUnit": 3, "pixelsPerUnit": 2 },
            "ticket_params": {
                "recipient": bytes(20), "face_value": bytes(8), "win_prob": bytes(32),
                "recipient_rand_hash": bytes(32), "seed": bytes(32), "expiration_block": bytes(4),
                "expiration_params": {
                    "creation_round": 9, "creation_round_block_hash": bytes(32),
                },
            },
        });
        let token = ByocToken::parse(sent.to_string().as_bytes()).unwrap();
        assert_eq!(token.price, Some(PriceInfo::new(3, 2).unwrap()));
        assert_eq!(token.ticket_params.unwrap().expiration_params.creation_round, 9);
        for (key, value) in [("recipient", json!(bytes(19))), ("seed", json!(bytes(33)))] {
            let mut bad = sent.clone();
            bad["ticket_params"][key] = value;
            assert!(ByocToken::parse(bad.to_string().as_bytes()).is_err(), "{key}");
        }
        let free = json!({ "service_addr": "https://o", "price": { "pixelsPerUnit": 1 } });
        let free = ByocToken::parse(free.to_string().as_bytes()).unwrap();
        assert_eq!((free.price, free.available_capacity), (None, 0));
    }
}

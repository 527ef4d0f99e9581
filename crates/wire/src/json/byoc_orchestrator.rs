//! Brought capabilities from the orchestrator's side: who registers one, who asks for terms, what a job
//! says, what terms are answered (byoc.md sections 1 to 3).

use super::{byoc::MAX_JOB_BYTES, live_runner::RunnerGpu, read};
use crate::{error::WireError, header, limits, ticket::TicketParamsFields};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::{Address, PriceInfo, U256};
use serde_json::{Map, Value, json};

/// Header that says who asks for terms.
pub const ETH_ADDRESS: &str = "livepeer-eth-address";
/// Header with a capability's name.
pub const CAPABILITY: &str = "livepeer-capability";
/// Header of an answer: what is left of the sender's balance, whole wei.
pub const BALANCE: &str = "livepeer-balance";
/// The same, as streamed answers of the reference call it.
pub const PAYMENT_BALANCE: &str = "livepeer-payment-balance";
/// Most bytes of a registration.
pub const MAX_REGISTRATION_BYTES: usize = 1 << 20;

/// A capability that somebody brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByocRegistration {
    /// Its name.
    pub name: String,
    /// Words about it.
    pub description: String,
    /// Where its worker is.
    pub url: String,
    /// Jobs at once.
    pub capacity: u32,
    /// Wei for [`Self::price_scaling`] seconds.
    pub price_per_unit: u64,
    /// At least 1.
    pub price_scaling: u64,
    /// Bearer token for the worker; may be empty.
    pub token: String,
    /// The card that does the work, if its worker says so: said as live runners say it. The reference ignores it.
    pub gpu: Option<RunnerGpu>,
}

impl ByocRegistration {
    /// From a body.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("capability", body, MAX_REGISTRATION_BYTES)?;
        let name = read::text(&map, "name", limits::NAME_BYTES)?;
        if name.trim().is_empty() || !name.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
            return Err(WireError::invalid("name", "must be printable"));
        }
        let currency = read::text(&map, "currency", limits::NAME_BYTES)?;
        if !currency.is_empty() && !currency.eq_ignore_ascii_case("wei") {
            return Err(WireError::invalid("currency", "must be wei"));
        }
        let amount = |key| -> Result<u64, WireError> {
            u64::try_from(read::int64(&map, key)?).map_err(|_| read::wrong(key, "out of range"))
        };
        Ok(Self {
            name,
            description: read::text(&map, "description", 4096)?,
            url: read::text(&map, "url", limits::URL_BYTES)?,
            capacity: read::uint32(&map, "capacity")?,
            price_per_unit: amount("price_per_unit")?,
            price_scaling: amount("price_scaling")?.max(1),
            token: read::text(&map, "token", 4096)?,
            // The Go node reads none: whatever else its workers say there is no card.
            gpu: read::get(&map, "gpu").and_then(|gpu| RunnerGpu::read(gpu).ok()),
        })
    }
}

/// Address and signature, as texts in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EthAddressProof {
    /// Who says so.
    pub address: Address,
    /// Its signature over its own checksummed text; may be empty off-chain.
    pub sig: Vec<u8>,
    /// As it came, to be echoed.
    pub said: Value,
}

impl EthAddressProof {
    /// From the header's value.
    pub fn from_header(value: &str) -> Result<Self, WireError> {
        let text = header::from_base64(ETH_ADDRESS, value, 4096)?;
        let map = read::object(ETH_ADDRESS, &text, 4096)?;
        let addr = read::text(&map, "addr", 64)?;
        let address = addr.parse().map_err(|_| read::wrong("addr", "is no address"))?;
        let sig = signature(&read::text(&map, "sig", 256)?)?;
        Ok(Self { address, sig, said: Value::Object(map) })
    }
}

/// A job as an orchestrator gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedByocJob {
    /// The client's id.
    pub id: String,
    /// What is signed, with [`Self::parameters`] after it.
    pub request: String,
    /// The same; may be empty.
    pub parameters: String,
    /// The capability's name.
    pub capability: String,
    /// Who signed; zero where nobody says so.
    pub sender: Address,
    /// May be empty.
    pub sig: Vec<u8>,
    /// Seconds that the job may take; 0 if it does not say.
    pub timeout_seconds: u32,
}

impl SignedByocJob {
    /// From the header's value. Texts are looked at by whoever checks the signature.
    pub fn from_header(value: &str) -> Result<Self, WireError> {
        let most = MAX_JOB_BYTES.div_ceil(3).saturating_mul(4);
        let map = read::object("job", &header::from_base64("job", value, most)?, MAX_JOB_BYTES)?;
        let sender = read::text(&map, "sender", 64)?;
        let sender = match sender.as_str() {
            "" => Address::ZERO,
            text => text.parse().map_err(|_| read::wrong("sender", "is no address"))?,
        };
        Ok(Self {
            id: read::text(&map, "id", limits::NAME_BYTES)?,
            request: read::text(&map, "request", MAX_JOB_BYTES)?,
            parameters: read::text(&map, "parameters", MAX_JOB_BYTES)?,
            capability: read::text(&map, "capability", limits::NAME_BYTES)?,
            sig: signature(&read::text(&map, "sig", 256)?)?,
            timeout_seconds: read::uint32(&map, "timeout_seconds")?,
            sender,
        })
    }
}

/// `0x` and 130 digits, or these alone; empty is none.
fn signature(text: &str) -> Result<Vec<u8>, WireError> {
    // Who signs nothing, off-chain, may write the prefix alone.
    let digits = match text.len() {
        131.. => text.get(2..).unwrap_or_default(),
        _ => text.strip_prefix("0x").unwrap_or(text),
    };
    hex::decode(digits).map_err(|_| read::wrong("sig", "is no hex text"))
}

/// An orchestrator's terms, to be written.
#[derive(Debug, Clone)]
pub struct ByocTerms<'a> {
    /// Who asked, as he said it.
    pub sender_address: &'a Value,
    /// For tickets; `None` off-chain.
    pub ticket_params: Option<&'a TicketParamsFields>,
    /// Whole wei that the sender has here.
    pub balance_wei: i64,
    /// Wei a second; `None` off-chain.
    pub price: Option<PriceInfo>,
    /// Where jobs go.
    pub service_addr: &'a str,
    /// Jobs that there is room for.
    pub available_capacity: u32,
}

impl ByocTerms<'_> {
    /// As the network writes it: zeros are left out, except the nonce.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("sender_address".to_owned(), self.sender_address.clone());
        if let Some(params) = self.ticket_params {
            map.insert("ticket_params".to_owned(), params_json(params));
        }
        if self.balance_wei != 0 {
            map.insert("balance".to_owned(), json!(self.balance_wei));
        }
        let (per_unit, units) =
            self.price.map_or((0, 1), |price| (price.price_per_unit(), price.pixels_per_unit()));
        let price = match per_unit {
            0 => json!({ "pixelsPerUnit": units }),
            _ => json!({ "pricePerUnit": per_unit, "pixelsPerUnit": units }),
        };
        map.insert("price".to_owned(), price);
        map.insert("service_addr".to_owned(), json!(self.service_addr));
        if self.available_capacity != 0 {
            map.insert("available_capacity".to_owned(), json!(self.available_capacity));
        }
        map.insert("LastNonce".to_owned(), json!(0));
        Value::Object(map)
    }
}

fn params_json(params: &TicketParamsFields) -> Value {
    let number = |n: U256| BASE64.encode(n.to_be_bytes_trimmed_vec());
    let expiration = &params.expiration_params;
    json!({
        "recipient": BASE64.encode(params.recipient),
        "face_value": number(params.face_value.0),
        "win_prob": number(params.win_prob),
        "recipient_rand_hash": BASE64.encode(params.recipient_rand_hash),
        "seed": number(params.seed),
        "expiration_block": number(params.expiration_block),
        "expiration_params": {
            "creation_round": expiration.creation_round,
            "creation_round_block_hash": BASE64.encode(expiration.creation_round_block_hash),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{ByocToken, eth_address_header};
    use penstock_domain::{B256, Wei};

    #[test]
    fn registrations() {
        let said = json!({
            "name": "flux", "url": "http://w:1", "capacity": 2, "price_per_unit": 7, "token": "t",
        });
        let read = |value: &Value| ByocRegistration::parse(value.to_string().as_bytes());
        let flux = read(&said).unwrap();
        assert_eq!((flux.capacity, flux.price_per_unit, flux.price_scaling), (2, 7, 1));
        for (key, bad) in [
            ("name", json!("")),
            ("capacity", json!(-1)),
            ("price_per_unit", json!(-1)),
            ("currency", json!("USD")),
        ] {
            let mut other = said.clone();
            other[key] = bad;
            assert!(read(&other).is_err(), "{key}");
        }
    }

    #[test]
    fn proofs_and_jobs_are_read_as_clients_write_them() {
        let address = Address::repeat_byte(7);
        let proof = EthAddressProof::from_header(&eth_address_header(address, &[1; 65])).unwrap();
        assert_eq!((proof.address, proof.sig.as_slice()), (address, &[1; 65][..]));
        // Off-chain nobody signs.
        let bare = EthAddressProof::from_header(&eth_address_header(address, &[])).unwrap();
        assert_eq!((bare.address, bare.sig.len()), (address, 0));
        let job = |value: Value| SignedByocJob::from_header(&BASE64.encode(value.to_string()));
        // The SDK leaves out what it does not have.
        let bare =
            job(json!({ "id": "a", "request": "{}", "capability": "c", "timeout_seconds": 9 }));
        let bare = bare.unwrap();
        assert_eq!((bare.sender, bare.sig.len(), bare.parameters.as_str()), (Address::ZERO, 0, ""));
        assert!(job(json!({ "sender": "0x1" })).is_err() && job(json!({ "sig": "zz" })).is_err());
    }

    #[test]
    fn terms_are_read_back() {
        let params = TicketParamsFields {
            recipient: Address::repeat_byte(1),
            face_value: Wei::from_u64(9),
            win_prob: U256::MAX,
            recipient_rand_hash: B256::repeat_byte(2),
            seed: U256::from(5),
            expiration_block: U256::from(6),
            expiration_params: Default::default(),
        };
        let (price, said) = (PriceInfo::new(3, 2).unwrap(), json!({}));
        let terms = ByocTerms {
            sender_address: &said,
            ticket_params: Some(&params),
            balance_wei: 4,
            price: Some(price),
            service_addr: "https://o",
            available_capacity: 2,
        };
        let token = ByocToken::parse(terms.to_json().to_string().as_bytes()).unwrap();
        assert_eq!((token.price, token.ticket_params), (Some(price), Some(params.clone())));
        let free = ByocTerms { ticket_params: None, price: None, available_capacity: 0, ..terms };
        assert_eq!(free.to_json()["price"], json!({ "pixelsPerUnit": 1 }));
        assert_eq!(free.to_json().get("available_capacity"), None);
    }
}

//! `POST /sign-orchestrator-info` (remote-signer.md section 2).

use super::read;
use crate::error::WireError;
use penstock_domain::{Address, parse_address};
use serde_json::json;

/// Who pays, and its signature over its own checksummed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOrchestratorInfo {
    /// The signer's address.
    pub address: Address,
    /// 65 bytes.
    pub signature: Vec<u8>,
}

impl SignOrchestratorInfo {
    /// Reads an answer; `0x` is optional in both.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let what = "sign-orchestrator-info answer";
        let map = read::object(what, body, 4096)?;
        let address = parse_address(&read::text(&map, "address", 42)?)
            .ok_or(WireError::invalid("address", "must be 20 bytes in hex"))?;
        let text = read::text(&map, "signature", 132)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        let signature = hex::decode(digits)
            .ok()
            .filter(|s| s.len() == 65)
            .ok_or(WireError::invalid("signature", "must be 65 bytes in hex"))?;
        Ok(Self { address, signature })
    }

    /// The answer: a checksummed address and lowercase digits.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "address": self.address.to_string(),
            "signature": format!("0x{}", hex::encode(&self.signature)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let info =
            SignOrchestratorInfo { address: Address::repeat_byte(0xab), signature: vec![7; 65] };
        let text = info.to_json().to_string();
        assert_eq!(SignOrchestratorInfo::parse(text.as_bytes()).unwrap(), info);
        let bare = text.replace("0x", "");
        assert_eq!(SignOrchestratorInfo::parse(bare.as_bytes()).unwrap(), info);
        for bad in ["", "[]", "{}", r#"{"address":1}"#, r#"{"address":"","signature":""}"#] {
            assert!(SignOrchestratorInfo::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

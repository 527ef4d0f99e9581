//! `POST /sign-byoc-job`: the SDK asks a signer for the signature of a job request
//! (byoc.md sections 1.3 and 9).

use super::read;
use crate::{error::WireError, limits};
use penstock_domain::Address;
use serde_json::{Value, json};

/// A job as the signer reads it. The texts are kept as they came: the signature covers their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignByocJobRequest {
    /// The client's job id.
    pub id: String,
    /// Whose capability it is for.
    pub capability: String,
    /// A JSON document as text.
    pub request: String,
    /// Another, or empty.
    pub parameters: String,
    /// How long the job may take; at least 1.
    pub timeout_seconds: u32,
}

impl SignByocJobRequest {
    /// Reads a body of at most [`limits::SIGN_BYOC_JOB_BYTES`].
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("sign-byoc-job request", body, limits::SIGN_BYOC_JOB_BYTES)?;
        let job = Self {
            id: read::text(&map, "id", limits::NAME_BYTES)?,
            capability: read::text(&map, "capability", limits::NAME_BYTES)?,
            request: read::text(&map, "request", limits::SIGN_BYOC_JOB_BYTES)?,
            parameters: read::text(&map, "parameters", limits::SIGN_BYOC_JOB_BYTES)?,
            timeout_seconds: read::uint32(&map, "timeout_seconds")?,
        };
        for (key, text) in [("id", &job.id), ("capability", &job.capability)] {
            if text.trim().is_empty() {
                return Err(WireError::Missing(key));
            }
            if text.chars().any(char::is_control) {
                return Err(WireError::invalid(key, "must be printable"));
            }
        }
        if job.timeout_seconds == 0 {
            return Err(WireError::Missing("timeout_seconds"));
        }
        Ok(job)
    }
}

/// The answer: who pays, checksummed, and the signature as `0x` and 130 lowercase digits.
pub fn sign_byoc_job_answer(sender: &Address, signature: &[u8; 65]) -> Value {
    json!({ "sender": sender.to_string(), "signature": format!("0x{}", hex::encode(signature)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &Value) -> Result<SignByocJobRequest, WireError> {
        SignByocJobRequest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn as_the_sdk_writes_it() {
        let sent = json!({
            "id": "3f1c", "capability": "nano-banana", "request": "{\"prompt\": \"a\"}",
            "parameters": "", "timeout_seconds": 300,
        });
        let job = parse(&sent).unwrap();
        assert_eq!((job.request.as_str(), job.parameters.as_str()), ("{\"prompt\": \"a\"}", ""));
        assert_eq!((job.id.as_str(), job.timeout_seconds), ("3f1c", 300));
        for (key, value) in [
            ("id", json!("")),
            ("id", json!("x".repeat(257))),
            ("id", json!("a\nb")),
            ("capability", json!(" ")),
            ("capability", json!(null)),
            ("request", json!({"prompt": "a"})),
            ("parameters", json!(5)),
            ("timeout_seconds", json!(0)),
            ("timeout_seconds", json!(-1)),
            ("timeout_seconds", json!(1.5)),
            ("timeout_seconds", json!(u64::from(u32::MAX) + 1)),
        ] {
            let mut bad = sent.clone();
            bad[key] = value.clone();
            assert!(parse(&bad).is_err(), "{key}: {value}");
        }
    }

    #[test]
    fn the_answer_is_what_the_sdk_reads() {
        let answer = sign_byoc_job_answer(&Address::repeat_byte(0xab), &[0x1b; 65]);
        assert_eq!(answer["sender"], "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB");
        assert_eq!(answer["signature"].as_str().unwrap().len(), 132);
    }
}

//! What an endpoint's answer means: for the asker, and for the endpoint's own standing.

use super::wire::Data;
use alloy_sol_types::SolError as _;
use penstock_chain::{ChainError, Revert};
use penstock_domain::U256;
use serde::Deserialize;
use std::time::Duration;
use thiserror::Error;

/// Longest text of a stranger that is kept.
const MAX_TEXT: usize = 300;

/// A question was not answered with a result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RpcError {
    /// No endpoint answered. Retry; a transaction may have been taken all the same.
    #[error("no endpoint answers: {reason}")]
    Unreachable {
        /// What each said, with its host.
        reason: String,
    },
    /// The call was executed and reverted, or would be.
    #[error("reverted: {message}")]
    Reverted {
        /// The contract's own bytes, where the endpoint gives them.
        data: Vec<u8>,
        /// The endpoint's words.
        message: String,
    },
    /// The endpoint refuses the question itself.
    #[error("refused ({code}): {message}")]
    Refused {
        /// JSON-RPC's number.
        code: i64,
        /// The endpoint's words.
        message: String,
    },
}

/// Why one endpoint gave no result.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another one may answer; this one is asked last for a while.
    Ill(String),
    /// It wants to be left alone for so long.
    TooMany { reason: String, wait: Option<Duration> },
    /// It does not know a block yet that another one knows.
    Behind(String),
    /// Every endpoint would say so.
    Final(RpcError),
}

/// The error object of JSON-RPC.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorObject {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<serde_json::Value>,
}

/// Cut to what is worth keeping.
pub(super) fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

impl From<ErrorObject> for Fault {
    fn from(error: ErrorObject) -> Self {
        let (lower, message) = (error.message.to_ascii_lowercase(), short(&error.message));
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        // −32005 is EIP-1474's limit; providers also say it in words.
        if error.code == -32005 || error.code == 429 || says(&["rate limit", "too many requests"]) {
            return Self::TooMany { reason: message, wait: None };
        }
        if says(&[
            "header not found",
            "unknown block",
            "unsupported block number",
            "block not found",
        ]) {
            return Self::Behind(message);
        }
        if error.code == 3 || says(&["execution reverted", "vm execution error", "revert"]) {
            let data = error.data.and_then(|data| serde_json::from_value::<Data>(data).ok());
            let data = data.unwrap_or_default().0;
            return Self::Final(RpcError::Reverted { data, message });
        }
        // −32603 is the endpoint's own trouble, whatever was asked.
        if error.code == -32603
            && !says(&["nonce", "underpriced", "insufficient funds", "already known"])
        {
            return Self::Ill(message);
        }
        Self::Final(RpcError::Refused { code: error.code, message })
    }
}

impl From<RpcError> for ChainError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Unreachable { reason } => Self::Unreachable { reason },
            RpcError::Reverted { data, message } => Self::Reverted(revert_of(&data, &message)),
            RpcError::Refused { .. } => Self::Unavailable { reason: error.to_string() },
        }
    }
}

/// The contract's reason: its own bytes say it best.
fn revert_of(data: &[u8], message: &str) -> Revert {
    if let Ok(revert) = alloy_sol_types::Revert::abi_decode(data) {
        return Revert::from_text(&revert.reason);
    }
    if let Ok(panic) = alloy_sol_types::Panic::abi_decode(data) {
        return match panic.code {
            code if code == U256::from(0x12) => Revert::NoStakeThisRound,
            code if code == U256::from(0x11) => Revert::Arithmetic,
            code => Revert::from_text(&format!("Panic({code:#x})")),
        };
    }
    // An endpoint that gives no bytes has the text after its own words.
    let text = message.rsplit_once("reverted: ").map_or(message, |(_, text)| text);
    Revert::from_text(text.trim_start_matches("revert: ").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        serde_json::from_str::<ErrorObject>(json).unwrap().into()
    }

    #[test]
    fn reverts_keep_the_contracts_text() {
        let data = alloy_sol_types::Revert { reason: "ticket is used".into() }.abi_encode();
        let json = format!(
            r#"{{"code":3,"message":"execution reverted: x","data":"0x{}"}}"#,
            hex::encode(&data)
        );
        let Fault::Final(error) = fault(&json) else { panic!() };
        assert_eq!(ChainError::from(error), ChainError::Reverted(Revert::Used));
        let bare = fault(r#"{"code":-32000,"message":"execution reverted: ticket is expired"}"#);
        let Fault::Final(error) = bare else { panic!() };
        assert_eq!(ChainError::from(error), ChainError::Reverted(Revert::Expired));
        for (code, revert) in [(0x12, Revert::NoStakeThisRound), (0x11, Revert::Arithmetic)] {
            let data = alloy_sol_types::Panic { code: U256::from(code) }.abi_encode();
            assert_eq!(revert_of(&data, ""), revert);
        }
        let data = alloy_sol_types::Panic { code: U256::from(0x32) }.abi_encode();
        assert_eq!(revert_of(&data, ""), Revert::Other("Panic(0x32)".into()));
        assert_eq!(
            revert_of(&[1, 2, 3], "execution reverted"),
            Revert::Other("execution reverted".into())
        );
    }

    #[test]
    fn whose_fault_it_is() {
        assert!(matches!(fault(r#"{"code":-32005,"message":"x"}"#), Fault::TooMany { .. }));
        assert!(matches!(
            fault(r#"{"code":-32000,"message":"Too Many Requests"}"#),
            Fault::TooMany { .. }
        ));
        assert!(matches!(
            fault(r#"{"code":-32000,"message":"header not found"}"#),
            Fault::Behind(_)
        ));
        assert!(matches!(fault(r#"{"code":-32603,"message":"internal"}"#), Fault::Ill(_)));
        let refused = fault(r#"{"code":-32000,"message":"nonce too low"}"#);
        assert!(matches!(refused, Fault::Final(RpcError::Refused { .. })));
        let long = fault(&format!(r#"{{"code":1,"message":"{}"}}"#, "x".repeat(10_000)));
        let Fault::Final(RpcError::Refused { message, .. }) = long else { panic!() };
        assert_eq!(message.len(), MAX_TEXT);
    }
}

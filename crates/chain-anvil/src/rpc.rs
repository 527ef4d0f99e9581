//! JSON-RPC to anvil: questions, and transactions of accounts whose keys nobody needs (it impersonates them).

use penstock_domain::{Address, U256, keccak256};
use serde_json::{Value, json};
use std::time::Duration;
use thiserror::Error;

/// How long a transaction may take to be in a block. anvil makes one for each as it comes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for its receipt.
const LOOK: Duration = Duration::from_millis(20);

/// anvil did not do what it was asked to. Asking again may help if it was not there.
#[derive(Debug, Error)]
#[error("anvil, {asked}: {reason}")]
pub struct RpcError {
    asked: String,
    reason: String,
}

impl RpcError {
    pub(crate) fn new(asked: &str, reason: impl std::fmt::Display) -> Self {
        Self { asked: asked.to_owned(), reason: reason.to_string() }
    }
}

/// A chain under a URL.
#[derive(Debug, Clone)]
pub struct Rpc {
    http: reqwest::Client,
    url: String,
}

/// A transaction: from whom, to which contract, what it calls there, with how much ether.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) signature: &'a str,
    pub(crate) words: &'a [U256],
    pub(crate) value_wei: U256,
}

impl Rpc {
    /// `url` such as `http://127.0.0.1:8545`.
    ///
    /// # Errors
    ///
    /// No HTTP client can be made.
    pub fn new(url: &str) -> Result<Self, RpcError> {
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
        let http = http.map_err(|error| RpcError::new("making an HTTP client", error))?;
        Ok(Self { http, url: url.to_owned() })
    }

    /// Asks.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let fault = |error: reqwest::Error| RpcError::new(method, error);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let sent = self.http.post(&self.url).json(&body).send().await.map_err(fault)?;
        let mut answer: Value = sent.json().await.map_err(fault)?;
        match answer.get("error") {
            Some(error) => Err(RpcError::new(method, error)),
            None => Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()),
        }
    }

    /// One of the accounts that anvil gives ether to at the start.
    pub(crate) async fn rich(&self, number: usize) -> Result<Address, RpcError> {
        let accounts = self.ask("eth_accounts", json!([])).await?;
        let account =
            accounts.get(number).and_then(Value::as_str).and_then(penstock_domain::parse_address);
        account.ok_or_else(|| RpcError::new("eth_accounts", format!("no account {number}")))
    }

    /// An account's ether, in wei.
    pub(crate) async fn balance_wei(&self, account: Address) -> Result<U256, RpcError> {
        number(&self.ask("eth_getBalance", json!([account.to_string(), "latest"])).await?)
    }

    /// Whether a contract is there.
    pub(crate) async fn has_code(&self, at: Address) -> Result<bool, RpcError> {
        let code = self.ask("eth_getCode", json!([at.to_string(), "latest"])).await?;
        Ok(code.as_str().is_some_and(|code| code.len() > 2))
    }

    /// What a contract answers with, in words of 32 bytes.
    pub(crate) async fn view(
        &self,
        to: Address,
        signature: &str,
        words: &[U256],
    ) -> Result<Vec<U256>, RpcError> {
        let call = json!({ "to": to.to_string(), "data": calldata(signature, words) });
        let answer = self.ask("eth_call", json!([call, "latest"])).await?;
        let bytes = hex::decode(answer.as_str().unwrap_or_default().trim_start_matches("0x"));
        let bytes = bytes.map_err(|error| RpcError::new(signature, error))?;
        Ok(bytes.chunks_exact(32).map(U256::from_be_slice).collect())
    }

    /// Calls a contract in a transaction, and waits until it is in a block.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<(), RpcError> {
        let transaction = json!({
            "from": call.from.to_string(), "to": call.to.to_string(),
            "data": calldata(call.signature, call.words), "value": format!("{:#x}", call.value_wei),
        });
        self.mined(call.signature, transaction).await.map(drop)
    }

    /// Makes a contract of its creation code; where it is.
    pub(crate) async fn deploy(&self, from: Address, code: &str) -> Result<Address, RpcError> {
        let asked = "putting the contracts on the chain";
        let transaction = json!({ "from": from.to_string(), "data": code, "gas": "0x1c9c380" });
        let receipt = self.mined(asked, transaction).await?;
        let address = receipt
            .get("contractAddress")
            .and_then(Value::as_str)
            .and_then(penstock_domain::parse_address);
        address.ok_or_else(|| RpcError::new(asked, "no contract came of it"))
    }

    async fn mined(&self, asked: &str, mut transaction: Value) -> Result<Value, RpcError> {
        // What anvil would offer by itself is no offer where the base fee is almost nothing.
        if let Some(fields) = transaction.as_object_mut() {
            fields.insert("maxPriorityFeePerGas".to_owned(), "0x3b9aca00".into());
            fields.insert("maxFeePerGas".to_owned(), "0x2540be400".into());
        }
        let hash = self.ask("eth_sendTransaction", json!([transaction])).await?;
        let receipt = async {
            loop {
                let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await?;
                if !receipt.is_null() {
                    return Ok(receipt);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| Err(RpcError::new(asked, format!("{hash} is in no block")));
        let receipt = tokio::time::timeout(PATIENCE, receipt).await.unwrap_or_else(late)?;
        if receipt.get("status").is_some_and(|status| status == "0x1") {
            return Ok(receipt);
        }
        Err(RpcError::new(asked, "the contract refused it"))
    }
}

fn calldata(signature: &str, words: &[U256]) -> String {
    let mut data = keccak256(signature).0.get(..4).unwrap_or_default().to_vec();
    for word in words {
        data.extend_from_slice(&word.to_be_bytes::<32>());
    }
    format!("0x{}", hex::encode(data))
}

fn number(text: &Value) -> Result<U256, RpcError> {
    let digits = text.as_str().unwrap_or_default().trim_start_matches("0x");
    U256::from_str_radix(digits, 16).map_err(|error| RpcError::new("reading a number", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_the_beginning_of_a_hash_and_words() {
        // The selector of ERC-20's `transfer(address,uint256)`, as the standard has it.
        let data = calldata("transfer(address,uint256)", &[U256::from(1), U256::from(255)]);
        assert!(data.starts_with("0xa9059cbb"), "{data}");
        assert_eq!(data.len(), 2 + 8 + 128);
        assert!(data.ends_with("ff"));
    }
}

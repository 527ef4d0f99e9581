//! What the contract's own events say of redemptions, read past all that is judged.

use penstock_domain::{Address, B256, U256, Wei, keccak256};
use penstock_testkit::anvil::Anvil;
use serde_json::{Value, json};

const TRANSFER: &str = "WinningTicketTransfer(address,address,uint256)";
const REDEEMED: &str =
    "WinningTicketRedeemed(address,address,uint256,uint256,uint256,uint256,bytes)";

/// A ticket that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// In this transaction.
    pub tx: B256,
    /// Whose it was.
    pub sender: Address,
    /// Its sender's number of it.
    pub nonce: U256,
    /// What the recipient got for it, whatever it promised.
    pub paid: Wei,
}

/// All of them, in the order in which they were redeemed, blocks that were taken back left out.
pub fn used(anvil: &Anvil) -> Vec<Used> {
    let topics = [TRANSFER, REDEEMED].map(|event| keccak256(event).to_string());
    let filter = json!([{ "fromBlock": "0x0", "toBlock": "latest", "topics": [topics] }]);
    let logs = anvil.rpc("eth_getLogs", &filter);
    used_in(logs.as_array().expect("logs"))
}

/// The contract says what it transfers for a ticket before it says that the ticket is used, and nothing of what it does
/// not transfer.
fn used_in(logs: &[Value]) -> Vec<Used> {
    let mut found = Vec::new();
    let mut transferred: Option<(B256, Wei)> = None;
    for log in logs {
        let tx = hash(&log["transactionHash"]);
        if hash(&log["topics"][0]) == keccak256(TRANSFER) {
            transferred = Some((tx, Wei(word(&log["data"], 0))));
            continue;
        }
        let paid =
            transferred.take().filter(|(of, _)| *of == tx).map_or(Wei::ZERO, |(_, paid)| paid);
        let sender = Address::from_word(hash(&log["topics"][1]));
        found.push(Used { tx, sender, nonce: word(&log["data"], 2), paid });
    }
    found
}

fn hash(value: &Value) -> B256 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a hash: {value}"))
}

/// One of the numbers of an event.
fn word(data: &Value, at: usize) -> U256 {
    let digits = data.as_str().and_then(|text| text.strip_prefix("0x"));
    let word = digits.and_then(|digits| digits.get(64 * at..64 * (at + 1)));
    word.and_then(|word| U256::from_str_radix(word, 16).ok()).unwrap_or_else(|| panic!("{data}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(event: &str, tx: u8, words: &[u64]) -> Value {
        let data: String = words.iter().map(|word| format!("{word:064x}")).collect();
        let sender = Address::repeat_byte(5).into_word();
        json!({
            "transactionHash": B256::repeat_byte(tx).to_string(),
            "topics": [keccak256(event).to_string(), sender.to_string()],
            "data": format!("0x{data}"),
        })
    }

    #[test]
    fn each_ticket_has_its_own_payment_and_a_burnt_one_has_none() {
        let logs = [
            log(TRANSFER, 1, &[50]),
            log(REDEEMED, 1, &[50, 0, 7, 0]),
            log(REDEEMED, 1, &[50, 0, 8, 0]),
            log(TRANSFER, 2, &[20]),
            log(REDEEMED, 2, &[50, 0, 9, 0]),
        ];
        let found: Vec<_> =
            used_in(&logs).into_iter().map(|used| (used.tx[0], used.nonce, used.paid)).collect();
        let of = |tx: u8, nonce: u64, wei| (tx, U256::from(nonce), Wei::from_u64(wei));
        assert_eq!(found, [of(1, 7, 50), of(1, 8, 0), of(2, 9, 20)]);
        assert_eq!(used_in(&logs)[0].sender, Address::repeat_byte(5));
    }
}

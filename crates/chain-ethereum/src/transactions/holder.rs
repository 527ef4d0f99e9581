//! Which transaction of an account has a number that is used, where no endpoint shows a receipt of ours: the block in which
//! the count passed it is looked for, and the transaction in it. Only a block that is final is believed: of what may go
//! again, ours could come after all. And which one waits under a number that is free, where an endpoint shows that.

use super::{Call, fees::Fees};
use crate::{
    contracts::ITicketBroker,
    reader::Reader,
    rpc::wire::{Account, Data, Quantity, Word},
};
use alloy_sol_types::SolCall as _;
use penstock_chain::ChainError;
use penstock_domain::{Address, B256};
use serde::Deserialize;
use serde_json::{Value, json};

/// A transaction, as far as it is compared.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Holder {
    hash: Word,
    from: Account,
    nonce: Quantity,
    #[serde(default)]
    to: Option<Account>,
    value: Quantity,
    input: Data,
    #[serde(default)]
    max_fee_per_gas: Option<Quantity>,
    #[serde(default)]
    max_priority_fee_per_gas: Option<Quantity>,
}

/// A block with its transactions, of which there are kinds that we know nothing of.
#[derive(Deserialize)]
struct Block {
    transactions: Vec<Value>,
}

impl Holder {
    pub(super) fn hash(&self) -> B256 {
        self.hash.0
    }

    /// Whether it does the same: somebody brought it in by hand.
    pub(super) fn does(&self, call: &Call) -> bool {
        self.to == Some(Account(call.to))
            && self.value.0 == call.value.0
            && self.input.0 == call.data
    }
}

/// Whose it is. `None`: that is not final yet.
pub(super) async fn holder(
    reader: &Reader,
    account: Address,
    nonce: u64,
    last_final: u64,
) -> Result<Option<Holder>, ChainError> {
    let is_used = async |block: u64| -> Result<bool, ChainError> {
        let asked = json!([Account(account), Quantity::from(block)]);
        let count: Quantity =
            reader.rpc.ask_any("eth_getTransactionCount", asked, &|_| Ok(())).await?;
        let count = count.to_u64().ok_or_else(|| unclear("a count of transactions"))?;
        Ok(count > nonce)
    };
    if !is_used(last_final).await? {
        return Ok(None);
    }
    // Of old blocks an endpoint may know no counts any more, so the newest are looked at first.
    let (mut used, mut step) = (last_final, 1_u64);
    let mut free = loop {
        let Some(before) = used.checked_sub(step) else { break None };
        if !is_used(before).await? {
            break Some(before);
        }
        used = before;
        step = step.saturating_mul(2);
    };
    loop {
        let first = free.map_or(0, |free| free.saturating_add(1));
        if first >= used {
            break;
        }
        let middle = first + (used - first) / 2;
        if is_used(middle).await? {
            used = middle;
        } else {
            free = Some(middle);
        }
    }
    let found = in_block(reader, json!(Quantity::from(used)), account, nonce).await?;
    found.map(Some).ok_or_else(|| unclear("the transactions of a block"))
}

/// A redemption that waits under a number: what it offers, and whose tickets it redeems.
pub(super) async fn waiting(
    reader: &Reader,
    account: Address,
    nonce: u64,
) -> Result<Option<(Fees, Vec<Address>)>, ChainError> {
    let Some(found) = in_block(reader, json!("pending"), account, nonce).await? else {
        return Ok(None);
    };
    let senders = senders_in(&found.input.0);
    let offered = found.max_fee_per_gas.zip(found.max_priority_fee_per_gas);
    let fees =
        offered.and_then(|(max, tip)| Some(Fees { max: max.to_u128()?, tip: tip.to_u128()? }));
    Ok(fees.filter(|_| !senders.is_empty()).map(|fees| (fees, senders)))
}

/// Whose tickets a call redeems; nobody's, if it does something else.
fn senders_in(data: &[u8]) -> Vec<Address> {
    use ITicketBroker::{batchRedeemWinningTicketsCall as Batch, redeemWinningTicketCall as One};
    if let Ok(one) = One::abi_decode(data) {
        return vec![one.ticket.sender];
    }
    Batch::abi_decode(data)
        .map(|batch| batch.tickets.iter().map(|ticket| ticket.sender).collect())
        .unwrap_or_default()
}

async fn in_block(
    reader: &Reader,
    which: Value,
    account: Address,
    nonce: u64,
) -> Result<Option<Holder>, ChainError> {
    let has_it = |block: &Option<Block>| {
        block.as_ref().map(drop).ok_or_else(|| "it does not know a block".to_owned())
    };
    let block: Option<Block> =
        reader.rpc.ask_any("eth_getBlockByNumber", json!([which, true]), &has_it).await?;
    let transactions = block.map(|block| block.transactions).unwrap_or_default();
    let mut known = transactions.into_iter().filter_map(|one| Holder::deserialize(one).ok());
    Ok(known.find(|one| one.from.0 == account && one.nonce.to_u64() == Some(nonce)))
}

fn unclear(what: &str) -> ChainError {
    ChainError::BadAnswer { reason: format!("{what} that does not belong to the others") }
}

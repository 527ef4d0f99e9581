//! Versions of a transaction under one number: what is offered for each, its bytes, and who takes them.

use super::{
    Call,
    fees::{self, Fees, TooDear},
    notes::{Note, Version},
    sender::{Inner, Job, of_money},
    waiting::Seen,
};
use crate::rpc::{
    RpcError,
    wire::{Data, Head, Quantity, Word},
};
use penstock_chain::ChainError;
use penstock_domain::{Address, U256, Wei, keccak256};
use penstock_keys::EthereumTransaction;
use serde_json::json;

/// How often an offer is raised at once to take the place of one that is not known.
const BUMPS_AT_ONCE: usize = 40;

/// What was offered last, and under which number.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub nonce: u64,
    pub fees: Fees,
    /// Whose tickets it redeems, and every version under the number that may still come.
    pub senders: Vec<Address>,
}

impl Offer {
    pub fn of(call: &Call, nonce: u64, fees: Fees, before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.nonce == nonce);
        let mut senders = before.map(|before| before.senders.clone()).unwrap_or_default();
        for least in &call.least {
            if !senders.contains(&least.sender) {
                senders.push(least.sender);
            }
        }
        Self { nonce, fees, senders }
    }
}

/// What came of sending.
enum Sent {
    /// On its way, or perhaps on its way.
    Out,
    /// No endpoint has it: its number is used.
    NonceTooLow,
    /// No endpoint has it: another one under its number offers more.
    Underpriced,
}

impl Inner {
    /// What an earlier life signed last, as it was signed, unless it can be seen to have arrived.
    pub(super) async fn send_again(&self, note: &Note) -> Result<(), ChainError> {
        let seen = self.look(note.nonce, &note.hashes()).await?;
        if let (Seen::Nothing, Some(version)) = (seen, note.versions.last()) {
            let tx = version.hash();
            match self.broadcast(version.raw()).await {
                Ok(_) => tracing::info!(nonce = note.nonce, %tx, "a transaction is sent once more"),
                // Whoever has it already may say so in many ways.
                Err(error) => tracing::debug!(%error, %tx, "not taken once more"),
            }
        }
        Ok(())
    }

    /// Signs and sends a version that is worth more than those before it. `false`: the number is used, and none of ours
    /// is out.
    pub(super) async fn offer(
        &self,
        job: &mut Job<'_>,
        note: &mut Note,
        last: &mut Option<Offer>,
    ) -> Result<bool, ChainError> {
        let nonce = note.nonce;
        let limit = self.most_for_gas(job.call);
        let now = self.first_offer(limit).await?;
        let mut fees = match last.as_ref() {
            Some(before) if before.nonce == nonce => {
                match before.fees.replacement(now, limit) {
                    Ok(fees) => fees,
                    // It is as much as there may be, and enough: perhaps nobody has it any more. What calls off has to be
                    // worth more than what it takes the place of.
                    Err(_)
                        if !job.yields
                            && before.fees.max >= now.max
                            && before.fees.max <= limit =>
                    {
                        before.fees
                    }
                    Err(error) => return Err(too_dear(error)),
                }
            }
            _ => now,
        };
        for _ in 0..BUMPS_AT_ONCE {
            if let Some(notes) = job.notes {
                notes.afford(most(job.call, note.gas_limit, fees)).await?;
            }
            let version = self.signed(job.call, nonce, note.gas_limit, fees).await?;
            let (hash, raw) = (version.hash(), version.raw().clone());
            note.offers(fees, version);
            job.note(Some(note)).await?;
            let before = last.clone();
            *last = Some(Offer::of(job.call, nonce, fees, before.as_ref()));
            penstock_failpoint::hit("chain.before_send");
            let sent = self.broadcast(&raw).await;
            penstock_failpoint::hit("chain.after_send");
            if sent.is_err() {
                // Nobody has this offer, and the next one need not be more: an account that is short of ether would
                // bid itself up to its limit.
                *last = before;
            }
            if matches!(sent, Ok(Sent::Out)) {
                job.may_come = true;
                tracing::info!(account = %self.account(), nonce, tx = %hash,
                    max_fee_per_gas_wei = fees.max, "a transaction is sent");
                return Ok(true);
            }
            // Nobody has this one.
            note.versions.pop();
            if note.versions.is_empty() {
                job.note(None).await?;
            }
            if let Err(error) = &sent
                && !note.versions.is_empty()
            {
                // Whatever is said of this version: an earlier one is out, and may come.
                return Err(ChainError::Unavailable { reason: error.to_string() });
            }
            match sent? {
                // An earlier life of this process offered more under this number.
                Sent::Underpriced if !job.yields => fees = replacement(fees, now, limit)?,
                Sent::Underpriced => break,
                Sent::NonceTooLow | Sent::Out => break,
            }
        }
        Ok(!note.versions.is_empty())
    }

    /// What a first offer would be now.
    async fn first_offer(&self, limit: u128) -> Result<Fees, ChainError> {
        let head: Head = self.reader.head().await?;
        let base = head.base_fee_per_gas.and_then(Quantity::to_u128).ok_or_else(|| {
            ChainError::BadAnswer {
                reason: "blocks without a base fee: this chain is older than EIP-1559".into(),
            }
        })?;
        // An endpoint without this question has blocks in which a tip buys nothing.
        let tip: Result<Quantity, RpcError> =
            self.reader.rpc.ask("eth_maxPriorityFeePerGas", json!([])).await;
        let tip = match tip {
            Ok(tip) => tip.to_u128().unwrap_or(0),
            Err(RpcError::Refused { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        Fees::first(base, tip, limit).map_err(too_dear)
    }

    /// Wei for a unit of gas at most.
    fn most_for_gas(&self, call: &Call) -> u128 {
        let limit = self.patience.max_gas_price_wei;
        if call.least.is_empty() { limit } else { fees::limit_that_leaves_one_more(limit) }
    }

    async fn signed(
        &self,
        call: &Call,
        nonce: u64,
        gas_limit: u64,
        fees: Fees,
    ) -> Result<Version, ChainError> {
        let transaction = EthereumTransaction {
            chain_id: self.reader.rpc.chain_id(),
            nonce,
            max_priority_fee_per_gas: fees.tip,
            max_fee_per_gas: fees.max,
            gas_limit,
            to: call.to,
            value: call.value,
            data: call.data.clone(),
        };
        let signature =
            self.signer.sign_ethereum_transaction(&transaction).await.map_err(|error| {
                ChainError::Key { retryable: error.is_retryable(), reason: error.to_string() }
            })?;
        let raw = transaction.raw(&signature);
        Ok(Version::new(keccak256(&raw), raw))
    }

    /// The same bytes to one endpoint after the other, until one says what it does with them.
    async fn broadcast(&self, raw: &Data) -> Result<Sent, ChainError> {
        let (sent, is_unsure): (Result<Word, RpcError>, bool) =
            self.reader.rpc.submit("eth_sendRawTransaction", json!([raw])).await;
        let error = match sent {
            Err(error @ RpcError::Refused { .. }) if !is_unsure => error,
            // One that did not answer may have it all the same, and then this one refuses it because it is there, or
            // even in a block, already. Waiting will show.
            _ => return Ok(Sent::Out),
        };
        let said = error.to_string().to_ascii_lowercase();
        if said.contains("already known") || said.contains("already imported") {
            return Ok(Sent::Out);
        }
        if said.contains("nonce too low") {
            return Ok(Sent::NonceTooLow);
        }
        if said.contains("underpriced") {
            return Ok(Sent::Underpriced);
        }
        Err(of_money(error))
    }
}

/// What a transaction takes out of the account at most.
fn most(call: &Call, gas_limit: u64, fees: Fees) -> Wei {
    let gas = U256::from(gas_limit).saturating_mul(U256::from(fees.max));
    Wei(call.value.0.saturating_add(gas))
}

fn replacement(before: Fees, now: Fees, limit: u128) -> Result<Fees, ChainError> {
    before.replacement(now, limit).map_err(too_dear)
}

fn too_dear(error: TooDear) -> ChainError {
    ChainError::Gas { reason: error.to_string() }
}

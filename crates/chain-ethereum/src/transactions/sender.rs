//! The one sender of an account.

use super::{
    Call, Patience,
    fees::{Fees, TooDear},
};
use crate::{
    reader::{Reader, height},
    rpc::{
        RpcError,
        wire::{Account, Data, Head, Mined, Quantity, Word},
    },
};
use penstock_chain::{ChainError, Revert};
use penstock_domain::{Address, B256, keccak256};
use penstock_keys::{EthereumTransaction, TypedSigner};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// Gas is allowed for beyond the estimate, in percent: what a call costs depends on what came before it.
const GAS_HEADROOM_PERCENT: u64 = 50;
/// How often a number is asked for anew because another transaction of the account took it.
const NONCE_ATTEMPTS: usize = 5;
/// How often an offer is raised at once to take the place of one that is not known.
const BUMPS_AT_ONCE: usize = 40;
/// Looks for a receipt of ours after another endpoint says that the number is taken: it may not have heard of the block.
const LOOKS_FOR_OURS: u32 = 5;

/// Sends for one account, one transaction at a time. Cheap to clone; clones wait for each other.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    reader: Reader,
    signer: TypedSigner,
    patience: Patience,
    /// Held from the first question to the receipt. What it holds is the last offer under a number that may still wait.
    line: Mutex<Option<Offer>>,
}

/// What was offered last, and under which number.
#[derive(Debug, Clone, Copy)]
struct Offer {
    nonce: u64,
    fees: Fees,
}

/// What came of waiting for a receipt.
enum Waited {
    Mined(Mined),
    /// The number went to a transaction that is none of ours.
    Taken,
    /// Nothing for as long as a transaction is given.
    Stuck,
}

/// What a look shows.
enum Seen {
    /// In a block with enough blocks after it.
    Deep(Mined),
    InBlock,
    /// The number is used, and none of ours is known to any endpoint yet.
    NumberTaken,
    Nothing,
}

/// What came of sending.
enum Sent {
    /// On its way, or perhaps on its way.
    Out,
    NonceTooLow,
    Underpriced,
}

impl Sender {
    pub(crate) fn new(reader: Reader, signer: TypedSigner, patience: Patience) -> Self {
        Self { inner: Arc::new(Inner { reader, signer, patience, line: Mutex::new(None) }) }
    }

    pub(crate) fn account(&self) -> Address {
        self.inner.signer.address()
    }

    /// Tries the call, sends it and waits until it is in a block. Goes on when the caller goes away: a transaction that
    /// is out has to be followed to its end.
    pub(crate) async fn send(&self, call: Call) -> Result<Mined, ChainError> {
        let inner = Arc::clone(&self.inner);
        let sending = tokio::spawn(async move { inner.send(&call).await });
        sending.await.map_err(|error| ChainError::Unavailable { reason: error.to_string() })?
    }
}

impl Inner {
    async fn send(&self, call: &Call) -> Result<Mined, ChainError> {
        let mut last = self.line.lock().await;
        self.try_out(call, json!("latest")).await?;
        let gas_limit = self.gas_limit(call).await?;
        for _ in 0..NONCE_ATTEMPTS {
            let nonce = self.free_nonce().await?;
            match self.bring_in(call, nonce, gas_limit, &mut last).await? {
                Some(mined) if mined.succeeded() => return Ok(mined),
                Some(mined) => return Err(self.why_reverted(call, &mined).await),
                // Somebody else's transaction came first, and may have changed what this one does.
                None => self.try_out(call, json!("latest")).await?,
            }
        }
        Err(ChainError::Unavailable {
            reason: "other transactions of the account kept taking its number".into(),
        })
    }

    /// Sends under one number until it is in a block. `None` = the number went to another transaction.
    async fn bring_in(
        &self,
        call: &Call,
        nonce: u64,
        gas_limit: u64,
        last: &mut Option<Offer>,
    ) -> Result<Option<Mined>, ChainError> {
        let mut hashes: Vec<B256> = Vec::new();
        for _ in 0..=self.patience.replacements {
            let now = self.first_offer().await?;
            let mut fees = match *last {
                Some(before) if before.nonce == nonce => self.replacement(before.fees, now)?,
                _ => now,
            };
            for _ in 0..BUMPS_AT_ONCE {
                *last = Some(Offer { nonce, fees });
                let (hash, raw) = self.signed(call, nonce, gas_limit, fees).await?;
                match self.broadcast(&raw).await? {
                    Sent::Out => {
                        tracing::info!(account = %self.signer.address(), nonce, tx = %hash,
                            max_fee_per_gas_wei = fees.max, "a transaction is sent");
                        hashes.push(hash);
                        break;
                    }
                    // Nothing of ours is out under this number.
                    Sent::NonceTooLow if hashes.is_empty() => return Ok(None),
                    Sent::NonceTooLow => break,
                    // An earlier life of this process offered more under this number.
                    Sent::Underpriced => fees = self.replacement(fees, now)?,
                }
            }
            match self.wait(nonce, &hashes).await? {
                Waited::Mined(mined) => return Ok(Some(mined)),
                Waited::Taken if call.again => return Ok(None),
                Waited::Taken => {
                    let account = self.signer.address();
                    let reason = format!(
                        "number {nonce} of {account} seems to have gone to another transaction than this one: \
                         look at the account before doing it again"
                    );
                    return Err(ChainError::Unavailable { reason });
                }
                Waited::Stuck => {
                    metrics::counter!("ethereum_transactions_stuck_total").increment(1);
                }
            }
        }
        Err(ChainError::Unavailable {
            reason: format!(
                "transaction {nonce} of {} is not in a block after {} replacements",
                self.signer.address(),
                self.patience.replacements
            ),
        })
    }

    /// What a call does as of a block, without sending it.
    async fn try_out(&self, call: &Call, at: Value) -> Result<(), ChainError> {
        let answer: Result<Data, RpcError> =
            self.reader.rpc.ask("eth_call", json!([self.request(call), at])).await;
        answer.map(|_| ()).map_err(of_money)
    }

    async fn gas_limit(&self, call: &Call) -> Result<u64, ChainError> {
        // As of the newest block: what only waits may never come, and makes this one look cheaper than it is.
        let request = json!([self.request(call), "latest"]);
        let answer = self.reader.rpc.ask("eth_estimateGas", request).await;
        let estimate: Quantity = answer.map_err(of_money)?;
        let estimate = estimate
            .to_u64()
            .ok_or_else(|| ChainError::BadAnswer { reason: "no such gas".into() })?;
        Ok(estimate.saturating_add(estimate.saturating_mul(GAS_HEADROOM_PERCENT) / 100))
    }

    fn request(&self, call: &Call) -> Value {
        json!({
            "from": Account(self.signer.address()),
            "to": Account(call.to),
            "value": Quantity(call.value.0),
            "data": Data(call.data.clone()),
        })
    }

    /// The number of the next transaction. What an earlier life or another process left waiting is given its time.
    async fn free_nonce(&self) -> Result<u64, ChainError> {
        let until = Instant::now() + self.patience.before_replacement;
        loop {
            let (mined, waiting) =
                tokio::try_join!(self.count(json!("latest")), self.count(json!("pending")))?;
            if waiting <= mined || Instant::now() >= until {
                return Ok(mined);
            }
            sleep(self.patience.poll).await;
        }
    }

    async fn count(&self, at: Value) -> Result<u64, ChainError> {
        let account = Account(self.signer.address());
        let count: Quantity =
            self.reader.rpc.ask("eth_getTransactionCount", json!([account, at])).await?;
        count
            .to_u64()
            .ok_or_else(|| ChainError::BadAnswer { reason: "no such count of transactions".into() })
    }

    /// What a first offer would be now.
    async fn first_offer(&self) -> Result<Fees, ChainError> {
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
        Fees::first(base, tip, self.patience.max_gas_price_wei).map_err(too_dear)
    }

    fn replacement(&self, before: Fees, now: Fees) -> Result<Fees, ChainError> {
        before.replacement(now, self.patience.max_gas_price_wei).map_err(too_dear)
    }

    async fn signed(
        &self,
        call: &Call,
        nonce: u64,
        gas_limit: u64,
        fees: Fees,
    ) -> Result<(B256, Vec<u8>), ChainError> {
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
        Ok((keccak256(&raw), raw))
    }

    async fn broadcast(&self, raw: &[u8]) -> Result<Sent, ChainError> {
        let raw = Data(raw.to_vec());
        let sent: Result<Word, RpcError> =
            self.reader.rpc.ask("eth_sendRawTransaction", json!([raw])).await;
        let error = match sent {
            Err(error @ RpcError::Refused { .. }) => error,
            // When nobody answers it may be on its way all the same, which waiting will show.
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

    /// Until one of ours is in a block and that block is deep enough, or the number is another's, or the time is up.
    async fn wait(&self, nonce: u64, hashes: &[B256]) -> Result<Waited, ChainError> {
        let patience = self.patience.before_replacement;
        let (mut until, mut looks_for_ours) = (Instant::now() + patience, LOOKS_FOR_OURS);
        loop {
            match self.look(nonce, hashes).await {
                Ok(Seen::Deep(mined)) => return Ok(Waited::Mined(mined)),
                // A block may be taken back, and then the transaction has its time again.
                Ok(Seen::InBlock) => until = Instant::now() + patience,
                Ok(Seen::NumberTaken) if looks_for_ours == 0 => return Ok(Waited::Taken),
                Ok(Seen::NumberTaken) => looks_for_ours -= 1,
                Ok(Seen::Nothing) => {}
                // An endpoint that is away for a moment changes nothing for a transaction that is out.
                Err(error) if error.is_retryable() && Instant::now() < until => {
                    tracing::debug!(%error, "no look at a transaction");
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= until {
                return Ok(Waited::Stuck);
            }
            sleep(self.patience.poll).await;
        }
    }

    async fn look(&self, nonce: u64, hashes: &[B256]) -> Result<Seen, ChainError> {
        // Also what was replaced may have made it while its replacement was on the way.
        if let Some(mined) = self.any_mined(hashes).await? {
            let deep = self.patience.confirmations <= 1 || {
                let (head, block) = (self.reader.head().await?.number, mined.block_number);
                let above = height(head)?.saturating_sub(height(block)?);
                above.saturating_add(1) >= self.patience.confirmations
            };
            return Ok(if deep { Seen::Deep(mined) } else { Seen::InBlock });
        }
        let taken = self.count(json!("latest")).await? > nonce;
        Ok(if taken { Seen::NumberTaken } else { Seen::Nothing })
    }

    async fn any_mined(&self, hashes: &[B256]) -> Result<Option<Mined>, ChainError> {
        for hash in hashes.iter().rev() {
            if let Some(mined) = self.reader.mined(*hash).await? {
                return Ok(Some(mined));
            }
        }
        Ok(None)
    }

    /// A call that passed when it was tried and failed in its block: its reason, as of that block.
    async fn why_reverted(&self, call: &Call, mined: &Mined) -> ChainError {
        match self.try_out(call, json!(mined.block_number)).await {
            Err(error @ ChainError::Reverted(_)) => error,
            _ => {
                let hash = mined.transaction_hash.0;
                ChainError::Reverted(Revert::from_text(&format!(
                    "transaction failed txHash={hash}"
                )))
            }
        }
    }
}

fn too_dear(error: TooDear) -> ChainError {
    ChainError::Unavailable { reason: error.to_string() }
}

/// Refused for want of ether is said so that it is understood.
fn of_money(error: RpcError) -> ChainError {
    match error {
        RpcError::Refused { message, .. }
            if message.to_ascii_lowercase().contains("insufficient funds") =>
        {
            ChainError::Unavailable {
                reason: format!("the account has too little ether to pay for gas: {message}"),
            }
        }
        other => other.into(),
    }
}

//! The one sender of an account.

use super::{
    Call, Patience,
    fees::{self, Fees, TooDear},
    notes::{Book, Note, Version},
};
use crate::{
    reader::{Reader, height},
    rpc::{
        RpcError,
        wire::{Account, Data, Head, Mined, Quantity, Word},
    },
    worth,
};
use penstock_chain::{ChainError, Notes, Revert};
use penstock_domain::{Address, B256, U256, Wei, keccak256};
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
    /// Of the operation that this handle sends for.
    notes: Option<Arc<dyn Notes>>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) reader: Reader,
    signer: TypedSigner,
    pub(super) patience: Patience,
    /// Blocks above one that is final; `None` = the chain says itself which is.
    pub(super) final_blocks: Option<u64>,
    /// Held from the first question to the receipt. What it holds is the last offer under a number that may still wait.
    line: Mutex<Option<Offer>>,
}

/// What was offered last, and under which number.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub nonce: u64,
    pub fees: Fees,
    /// Whose tickets it redeems, and every version under the number that may still come.
    pub senders: Vec<Address>,
}

impl Offer {
    fn of(call: &Call, nonce: u64, fees: Fees, before: Option<&Self>) -> Self {
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

/// A call on its way, and where that is noted.
pub(super) struct Job<'a> {
    pub call: &'a Call,
    pub notes: Option<&'a dyn Notes>,
    pub book: Book,
    /// Somebody may have it, and it is not known what became of it.
    pub may_come: bool,
    /// It does not outbid what it does not know.
    pub yields: bool,
}

impl Job<'_> {
    /// Durable before anybody has the newest version; `None`: nobody has any.
    pub async fn note(&mut self, note: Option<&Note>) -> Result<(), ChainError> {
        let Some(notes) = self.notes else { return Ok(()) };
        self.book.on_its_way = note.cloned();
        self.book.write(notes).await
    }
}

/// Why a call is not done, as far as is known.
#[derive(Debug)]
pub(crate) struct NotDone {
    pub error: ChainError,
    /// It is on its way, or perhaps on its way: it may be done all the same.
    pub may_come: bool,
}

impl NotDone {
    /// It was not sent, or did nothing.
    pub(crate) fn not_sent(error: ChainError) -> Self {
        Self { error, may_come: false }
    }
}

/// What came of waiting for a receipt.
pub(super) enum Waited {
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
    /// No endpoint has it: its number is used.
    NonceTooLow,
    /// No endpoint has it: another one under its number offers more.
    Underpriced,
}

/// What came of everything under one number.
pub(super) enum Followed {
    Mined(Mined),
    /// The number was used before any of ours was out.
    NotSent,
    /// Some of ours were out, and the number went to one that is none of ours: none of ours comes any more, or it does no
    /// harm if it does.
    Taken,
}

impl Sender {
    /// `final_blocks` as in the settings.
    pub(crate) fn new(
        reader: Reader,
        signer: TypedSigner,
        patience: Patience,
        final_blocks: Option<u64>,
    ) -> Self {
        // Shown before there is anything to count: Prometheus sees no increase in what begins with 1.
        for counter in [
            "ethereum_transactions_stuck_total",
            "ethereum_batches_split_total",
            "ethereum_batch_left_out_total",
        ] {
            metrics::counter!(counter).increment(0);
        }
        let line = Mutex::new(None);
        Self {
            inner: Arc::new(Inner { reader, signer, patience, final_blocks, line }),
            notes: None,
        }
    }

    /// Sends for an operation, and waits in the same line.
    pub(crate) fn noting(&self, notes: Arc<dyn Notes>) -> Self {
        Self { inner: Arc::clone(&self.inner), notes: Some(notes) }
    }

    pub(crate) fn account(&self) -> Address {
        self.inner.account()
    }

    /// What the contract would say to a call now.
    pub(crate) async fn preview(&self, call: &Call) -> Result<(), ChainError> {
        self.inner.try_out(call, json!("latest")).await
    }

    /// Gas for a call if it were made now, headroom included; what the contract would refuse is refused.
    pub(crate) async fn gas_of(&self, call: &Call) -> Result<u64, ChainError> {
        self.inner.gas_limit(call).await
    }

    /// Waits until nothing of the account is on its way, for as long as a transaction is given.
    pub(crate) async fn quiet(&self) -> Result<(), ChainError> {
        let _line = self.inner.line.lock().await;
        self.inner.free_nonce(None).await.map(drop)
    }

    /// [`penstock_chain::Chain::call_off`].
    pub(crate) async fn call_off(&self, of: Address) -> Result<(), ChainError> {
        let inner = Arc::clone(&self.inner);
        let calling_off = tokio::spawn(async move {
            let mut last = inner.line.lock().await;
            inner.call_off_what_waits(of, &mut last).await
        });
        let gone =
            |error: tokio::task::JoinError| ChainError::Unavailable { reason: error.to_string() };
        calling_off.await.map_err(gone)?
    }

    /// Gas of one transaction at most.
    pub(crate) fn max_gas(&self) -> u64 {
        self.inner.patience.max_gas
    }

    /// What of the operation was sent last and has no end yet.
    pub(crate) async fn noted(&self) -> Result<Option<Call>, ChainError> {
        let Some(notes) = &self.notes else { return Ok(None) };
        Ok(Book::read(notes.as_ref()).await?.on_its_way.map(|note| note.call()))
    }

    /// Tries the call, sends it and waits until it is in a block. Goes on when the caller goes away: a transaction that
    /// is out has to be followed to its end.
    pub(crate) async fn send(&self, call: Call) -> Result<Mined, NotDone> {
        let (inner, notes) = (Arc::clone(&self.inner), self.notes.clone());
        let sending = tokio::spawn(async move { inner.send(&call, notes.as_deref()).await });
        sending.await.map_err(|error| NotDone {
            error: ChainError::Unavailable { reason: error.to_string() },
            may_come: true,
        })?
    }
}

impl Inner {
    async fn send(&self, call: &Call, notes: Option<&dyn Notes>) -> Result<Mined, NotDone> {
        let mut last = self.line.lock().await;
        let mut job = Job { call, notes, book: Book::default(), may_come: false, yields: false };
        let mined = self.bring_to_an_end(&mut job, &mut last).await;
        let mined = mined.map_err(|error| NotDone { error, may_come: job.may_come })?;
        if let Some(notes) = notes {
            notes.landed().await.map_err(|error| NotDone { error, may_come: true })?;
        }
        if mined.succeeded() {
            Ok(mined)
        } else {
            Err(NotDone::not_sent(self.why_reverted(call, &mined).await))
        }
    }

    async fn bring_to_an_end(
        &self,
        job: &mut Job<'_>,
        last: &mut Option<Offer>,
    ) -> Result<Mined, ChainError> {
        if let Some(mined) = self.left_of(job, last).await? {
            return Ok(mined);
        }
        let call = job.call;
        if job.notes.is_none() && !call.value.is_zero() {
            let reason = "what carries ether is sent only where it can be noted before";
            return Err(ChainError::Refused { reason: reason.to_owned() });
        }
        self.try_out(call, json!("latest")).await?;
        let gas_limit = match call.gas {
            Some(gas) => gas,
            None => self.gas_limit(call).await?,
        };
        for _ in 0..NONCE_ATTEMPTS {
            let nonce = self.free_nonce(Some(call)).await?;
            // That may have taken minutes.
            self.pays(call).await?;
            match self.bring_in(job, Note::of(call, nonce, gas_limit), last).await? {
                Followed::Mined(mined) => return Ok(mined),
                // What was measured before the other one came may not be true any more.
                Followed::NotSent if call.gas.is_some() => break,
                Followed::Taken | Followed::NotSent => {
                    job.note(None).await?;
                    self.try_out(call, json!("latest")).await?;
                }
            }
        }
        Err(ChainError::Unavailable {
            reason: "other transactions of the account kept taking its number".into(),
        })
    }

    /// Brings to its end what an earlier life sent for the operation. That is this call's end if it is the same: whoever
    /// asked for it then has never heard what became of it.
    async fn left_of(
        &self,
        job: &mut Job<'_>,
        last: &mut Option<Offer>,
    ) -> Result<Option<Mined>, ChainError> {
        let Some(notes) = job.notes else { return Ok(None) };
        job.book = Book::read(notes).await?;
        if let Some(tx) = job.book.landed_as(job.call) {
            let mined = self.reader.mined(tx).await?;
            let gone = || ChainError::Unavailable { reason: format!("no block has {tx} any more") };
            return mined.ok_or_else(gone).map(Some);
        }
        let Some(note) = job.book.on_its_way.take() else { return Ok(None) };
        let (left, nonce) = (note.call(), note.nonce);
        let account = self.account();
        tracing::info!(%account, nonce, "a transaction of an earlier life is looked for");
        let book = job.book.clone();
        let mut then = Job { call: &left, notes: job.notes, book, may_come: true, yields: false };
        let followed = self.bring_in(&mut then, note, last).await;
        job.may_come = followed.is_err() && then.may_come;
        match followed? {
            Followed::Mined(mined) if left.is_same(job.call) => return Ok(Some(mined)),
            Followed::Mined(mined) => {
                let (tx, succeeded) = (mined.transaction_hash.0, mined.succeeded());
                tracing::info!(%account, nonce, %tx, succeeded, "it is on the chain");
                job.book.land(&left, tx);
            }
            // It can never come any more, or does no harm.
            Followed::Taken | Followed::NotSent => {
                tracing::warn!(%account, nonce, "its number went to another transaction");
            }
        }
        job.note(None).await?;
        Ok(None)
    }

    pub(super) fn account(&self) -> Address {
        self.signer.address()
    }

    /// Versions under one number.
    pub(super) fn tries(&self) -> u32 {
        self.patience.replacements.saturating_add(1)
    }

    /// Sends under one number until it is in a block.
    async fn bring_in(
        &self,
        job: &mut Job<'_>,
        mut note: Note,
        last: &mut Option<Offer>,
    ) -> Result<Followed, ChainError> {
        let nonce = note.nonce;
        let mut is_left = !note.versions.is_empty();
        if let (true, Some(fees)) = (is_left, note.fees()) {
            *last = Some(Offer::of(job.call, nonce, fees, last.as_ref()));
        }
        for _ in 0..=self.patience.replacements {
            if std::mem::take(&mut is_left) {
                self.send_again(&note).await?;
            } else {
                // One that is out is not made to come sooner if it would be used up for too little, and should not come at all.
                if !note.versions.is_empty()
                    && let Err(error) = self.pays(job.call).await
                {
                    return self.too_little(job, &note, last, error).await;
                }
                if !self.offer(job, &mut note, last).await? {
                    return Ok(Followed::NotSent);
                }
            }
            match self.wait(nonce, &note.hashes()).await? {
                Waited::Mined(mined) => return Ok(Followed::Mined(mined)),
                Waited::Taken => return self.taken(job, nonce, &note.hashes()).await,
                Waited::Stuck => {
                    metrics::counter!("ethereum_transactions_stuck_total").increment(1);
                }
            }
        }
        Err(ChainError::Unavailable {
            reason: format!(
                "transaction {nonce} of {} is not in a block after {} replacements",
                self.account(),
                self.patience.replacements
            ),
        })
    }

    /// What an earlier life signed last, as it was signed, unless it can be seen to have arrived.
    async fn send_again(&self, note: &Note) -> Result<(), ChainError> {
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

    /// What a call does as of a block, without sending it.
    async fn try_out(&self, call: &Call, at: Value) -> Result<(), ChainError> {
        let answer: Result<Data, RpcError> =
            self.reader.rpc.ask("eth_call", json!([self.request(call), at])).await;
        answer.map(|_| ()).map_err(of_money)
    }

    /// Whether what it redeems brings what it has to, as things stand now.
    async fn pays(&self, call: &Call) -> Result<(), ChainError> {
        let checked = worth::check(&self.reader, call.to, call.least.iter().copied()).await?;
        checked.into_iter().collect()
    }

    pub(super) async fn gas_limit(&self, call: &Call) -> Result<u64, ChainError> {
        // As of the newest block: what only waits may never come, and makes this one look cheaper than it is.
        let request = json!([self.request(call), "latest"]);
        let answer = self.reader.rpc.ask("eth_estimateGas", request).await;
        let estimate: Quantity = answer.map_err(of_money)?;
        let estimate = estimate
            .to_u64()
            .ok_or_else(|| ChainError::BadAnswer { reason: "no such gas".into() })?;
        let most = self.patience.max_gas;
        if estimate > most {
            let reason =
                format!("it would take {estimate} units of gas, and --eth-max-gas is {most}");
            return Err(ChainError::Gas { reason });
        }
        let headroom = estimate.saturating_mul(GAS_HEADROOM_PERCENT) / 100;
        Ok(estimate.saturating_add(headroom).min(most))
    }

    fn request(&self, call: &Call) -> Value {
        json!({
            "from": Account(self.account()),
            "to": Account(call.to),
            "value": Quantity(call.value.0),
            "data": Data(call.data.clone()),
        })
    }

    /// The number of the next transaction. What an earlier life or another process left waiting is given its time; it may
    /// have done the same as this call, which is tried after it.
    async fn free_nonce(&self, call: Option<&Call>) -> Result<u64, ChainError> {
        let until = Instant::now() + self.patience.before_replacement;
        let mut has_waited = false;
        loop {
            let (mined, waiting) =
                tokio::try_join!(self.count(json!("latest")), self.count(json!("pending")))?;
            let is_over = Instant::now() >= until;
            if waiting > mined && !is_over {
                has_waited = true;
                sleep(self.patience.poll).await;
                continue;
            }
            if let (true, Some(call)) = (std::mem::take(&mut has_waited), call) {
                self.try_out(call, json!("latest")).await?;
                if !is_over {
                    // Others may have come meanwhile.
                    continue;
                }
            }
            return Ok(mined);
        }
    }

    pub(super) async fn count(&self, at: Value) -> Result<u64, ChainError> {
        let account = Account(self.account());
        let count: Quantity =
            self.reader.rpc.ask("eth_getTransactionCount", json!([account, at])).await?;
        count
            .to_u64()
            .ok_or_else(|| ChainError::BadAnswer { reason: "no such count of transactions".into() })
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

    /// Until one of ours is in a block and that block is deep enough, or the number is another's, or the time is up.
    pub(super) async fn wait(&self, nonce: u64, hashes: &[B256]) -> Result<Waited, ChainError> {
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
            return self.depth(mined).await;
        }
        if self.count(json!("latest")).await? <= nonce {
            return Ok(Seen::Nothing);
        }
        // Nobody but the first endpoint was asked so far, and it may know the number and not the receipt yet.
        for hash in hashes.iter().rev() {
            if let Some(mined) = self.reader.mined_anywhere(*hash).await {
                return self.depth(mined).await;
            }
        }
        Ok(Seen::NumberTaken)
    }

    async fn depth(&self, mined: Mined) -> Result<Seen, ChainError> {
        let deep = self.patience.confirmations <= 1 || {
            let (head, block) = (self.reader.head().await?.number, mined.block_number);
            let above = height(head)?.saturating_sub(height(block)?);
            above.saturating_add(1) >= self.patience.confirmations
        };
        Ok(if deep { Seen::Deep(mined) } else { Seen::InBlock })
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

/// Refused for want of ether is said so that it is understood.
fn of_money(error: RpcError) -> ChainError {
    match error {
        RpcError::Refused { message, .. }
            if message.to_ascii_lowercase().contains("insufficient funds") =>
        {
            ChainError::Gas {
                reason: format!("the account has too little ether to pay for gas: {message}"),
            }
        }
        other => other.into(),
    }
}

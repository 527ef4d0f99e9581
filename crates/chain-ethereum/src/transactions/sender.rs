//! The one sender of an account: what it is asked for, in which order that is done, and whose turn it is.

use super::{
    Call, Patience,
    notes::{Book, Note},
    offers::Offer,
    waiting::Waited,
};
use crate::{
    reader::Reader,
    rpc::{
        RpcError,
        wire::{Account, Data, Mined, Quantity},
    },
    worth,
};
use penstock_chain::{ChainError, Notes, Revert};
use penstock_domain::Address;
use penstock_keys::TypedSigner;
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
    pub(super) signer: TypedSigner,
    pub(super) patience: Patience,
    /// Blocks above one that is final; `None` = the chain says itself which is.
    pub(super) final_blocks: Option<u64>,
    /// Held from the first question to the receipt. What it holds is the last offer under a number that may still wait.
    line: Mutex<Option<Offer>>,
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

/// Refused for want of ether is said so that it is understood.
pub(super) fn of_money(error: RpcError) -> ChainError {
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

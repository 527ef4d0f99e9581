//! Doing operations: one at a time, each once, whoever asks how often, and whichever process dies meanwhile.

use super::{
    Begun, Counted, Ended, OperationFence, OperationLedger, Spend, SpendLimits, Terms, Wanted,
};
use crate::signer::LedgerError;
use async_trait::async_trait;
use penstock_chain::{ChainError, Notes, Receipt};
use penstock_domain::Wei;
use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use thiserror::Error;
use tokio::{sync::Mutex, time};

/// For so long a process that does an operation may be silent before another one goes on with it.
const LEASE: Duration = Duration::from_secs(30);
/// So often it says that it is there.
const RENEW: Duration = Duration::from_secs(10);
/// Operations of earlier lives that are brought to their end before one that is wanted.
const MAX_LEFT: usize = 100;

/// Why an operation was not done, or why nobody can say.
#[derive(Debug, Error)]
pub enum OperationError {
    /// The key was used for something else. Take another one.
    #[error(
        "the idempotency key {0:?} was used for something else: take another one, or the same content"
    )]
    OtherContent(String),
    /// One at a time. Ask again when it is done, with the same key.
    #[error(
        "another operation is on its way ({key}): ask again when it is done, with the same \
         idempotency key; where its process is gone, in {seconds} s at most"
    )]
    UnderWay {
        /// That one's key.
        key: String,
        /// Until somebody else may go on with it.
        seconds: i64,
    },
    /// Another process went on with it. Ask again with the same key.
    #[error("another process went on with the operation: ask again with the same idempotency key")]
    Lost,
    /// The same key asked for it before, and it failed on the chain.
    #[error("{0}")]
    Failed(String),
    /// The chain does not take it, or did not answer.
    #[error(transparent)]
    Chain(ChainError),
    /// The books did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Does them. Clones are the same.
#[derive(Clone)]
pub struct Operations {
    ledger: Arc<dyn OperationLedger>,
    /// Names this process and its earlier lives.
    holder: Arc<str>,
    /// Held while this process does one.
    at_work: Arc<Mutex<()>>,
    /// What is counted before it is signed, and held against these.
    limits: Option<SpendLimits>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl Operations {
    /// `holder` names this process and its earlier lives, and no other one.
    pub fn new(ledger: Arc<dyn OperationLedger>, holder: &str) -> Self {
        Self { ledger, holder: holder.into(), at_work: Arc::default(), limits: None }
    }

    /// Counts what each transaction may cost before it is signed, and holds it against these limits.
    pub fn within(mut self, limits: SpendLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Those limits, where it counts.
    pub fn limits(&self) -> Option<SpendLimits> {
        self.limits
    }

    /// What is counted of this UTC day.
    pub async fn counted_today(&self) -> Result<Wei, LedgerError> {
        self.ledger.counted(day(now_ms())).await
    }

    /// Does what is wanted, unless it was done: then its answer comes again. `act` gets the content of the operation,
    /// which may be one that an earlier life left, and where to note what it sends. It is to run to its end: who may go
    /// away meanwhile has to spawn this.
    pub async fn perform<F>(
        &self,
        wanted: Wanted,
        act: impl Fn(String, Arc<dyn Notes>) -> F,
    ) -> Result<Receipt, OperationError>
    where
        F: Future<Output = Result<Receipt, ChainError>>,
    {
        let under_way = |key: String, until_ms: i64| OperationError::UnderWay {
            key,
            seconds: until_ms.saturating_sub(now_ms()).max(0) / 1_000 + 1,
        };
        let Ok(_at_work) = self.at_work.try_lock() else {
            let until_ms = now_ms().saturating_add(in_ms(LEASE));
            return Err(under_way("of this process".to_owned(), until_ms));
        };
        for _ in 0..MAX_LEFT {
            let holder = self.holder.to_string();
            let terms = Terms { holder, now_ms: now_ms(), lease_ms: in_ms(LEASE) };
            match self.ledger.begin(&wanted, &terms).await? {
                Begun::Done(receipt) => return Ok(receipt),
                Begun::Failed(reason) => return Err(OperationError::Failed(reason)),
                Begun::OtherContent => return Err(OperationError::OtherContent(wanted.key)),
                Begun::UnderWay { key, until_ms } => return Err(under_way(key, until_ms)),
                Begun::Yours { fence, .. } => return self.carry(&wanted, fence, &act).await,
                Begun::First { fence, left } => {
                    tracing::warn!(
                        key = left.key,
                        content = left.content,
                        "an operation of an earlier life is brought to its end"
                    );
                    match self.carry(&left, fence, &act).await {
                        Err(OperationError::Chain(error)) if !error.is_the_end() => {
                            return Err(OperationError::Chain(error));
                        }
                        Err(error @ (OperationError::Lost | OperationError::Ledger(_))) => {
                            return Err(error);
                        }
                        // It has its end, whichever.
                        _ => {}
                    }
                }
            }
        }
        Err(under_way(wanted.key, now_ms()))
    }

    async fn carry<F>(
        &self,
        wanted: &Wanted,
        fence: OperationFence,
        act: &impl Fn(String, Arc<dyn Notes>) -> F,
    ) -> Result<Receipt, OperationError>
    where
        F: Future<Output = Result<Receipt, ChainError>>,
    {
        let ledger = Arc::clone(&self.ledger);
        let notes =
            Arc::new(LedgerNotes { ledger, key: wanted.key.clone(), fence, limits: self.limits });
        let acting = act(wanted.content.clone(), notes);
        let done = tokio::select! {
            done = acting => done,
            never = self.keep(fence) => match never {},
        };
        // It is sent, and nobody knows it but the chain and the note.
        penstock_failpoint::hit("operations.before_end");
        let ended = match &done {
            Ok(receipt) => Ended::Done(*receipt),
            // The contract's word is the end of it, and the operator's; whatever else went wrong, something may be out.
            Err(error) if error.is_the_end() => Ended::Refused(error.to_string()),
            Err(_) => Ended::Open,
        };
        if !self.ledger.end(&wanted.key, fence, &ended, now_ms()).await? {
            return Err(OperationError::Lost);
        }
        done.map_err(OperationError::Chain)
    }

    /// Says for ever that this process is there.
    async fn keep(&self, fence: OperationFence) -> std::convert::Infallible {
        loop {
            time::sleep(RENEW).await;
            match self.ledger.renew(fence, now_ms().saturating_add(in_ms(LEASE))).await {
                Ok(true) => {}
                // What is under way is followed all the same; nothing more of it is sent.
                Ok(false) => {
                    tracing::error!("another process went on with an operation of this one")
                }
                Err(error) => tracing::warn!(%error, "the right to an operation is not renewed"),
            }
        }
    }
}

/// The note of one operation, for as long as this process has the right to it.
struct LedgerNotes {
    ledger: Arc<dyn OperationLedger>,
    key: String,
    fence: OperationFence,
    limits: Option<SpendLimits>,
}

impl fmt::Debug for LedgerNotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerNotes").field("key", &self.key).finish_non_exhaustive()
    }
}

impl LedgerNotes {
    async fn set(&self, note: Option<Vec<u8>>) -> Result<(), ChainError> {
        let unavailable = |reason: String| ChainError::Unavailable { reason };
        match self.ledger.set_note(&self.key, self.fence, note).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(unavailable("another process goes on with this operation".to_owned())),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}

#[async_trait]
impl Notes for LedgerNotes {
    async fn read(&self) -> Result<Option<Vec<u8>>, ChainError> {
        let read = self.ledger.note(&self.key).await;
        read.map_err(|error| ChainError::Unavailable { reason: error.to_string() })
    }

    async fn write(&self, note: Vec<u8>) -> Result<(), ChainError> {
        self.set(Some(note)).await
    }

    async fn clear(&self) -> Result<(), ChainError> {
        self.set(None).await
    }

    async fn afford(&self, most: Wei) -> Result<(), ChainError> {
        let Some(limits) = &self.limits else { return Ok(()) };
        let spend = Spend { most, day: day(now_ms()) };
        let unavailable = |reason: String| ChainError::Unavailable { reason };
        let counted = self.ledger.count(&self.key, self.fence, spend, limits).await;
        match counted.map_err(|error| unavailable(error.to_string()))? {
            Counted::Yes => Ok(()),
            Counted::AboveTransaction { limit } => Err(ChainError::OverLimit {
                reason: format!(
                    "the transaction may cost {most} wei, gas included, and --max-chain-spend-per-transaction is {limit}"
                ),
            }),
            Counted::AboveDay { limit, others } => Err(ChainError::OverLimit {
                reason: format!(
                    "the transaction may cost {most} wei, gas included, {others} are counted of this UTC day, and \
                     --max-chain-spend-per-day is {limit}"
                ),
            }),
            Counted::Lost => {
                Err(unavailable("another process goes on with this operation".to_owned()))
            }
        }
    }

    /// Its end is written with its answer.
    async fn landed(&self) -> Result<(), ChainError> {
        Ok(())
    }
}

/// Unix milliseconds: leases are held against those of other machines.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    in_ms(since)
}

/// Since 1970, in UTC.
fn day(now_ms: i64) -> i64 {
    now_ms.div_euclid(24 * 3_600 * 1_000)
}

fn in_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

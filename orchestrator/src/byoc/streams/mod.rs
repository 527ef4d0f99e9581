//! Streams of brought capabilities: a worker that works for as long as it is paid, and the channels between
//! it and the gateway (byoc.md section 8).
//!
//! [`start`] is the order of a start, [`channels`] what it makes, [`call_off`] what becomes of one that nobody waits for
//! any more, [`life`] what ends it; [`requests`] are the gateway's words to a running one. Here: which ones there are.

mod call_off;
mod channels;
pub mod error;
mod life;
mod requests;
mod start;

pub use life::RELEASE_TIME;
pub use requests::Relayed;
pub use start::Outcome;

use super::{meter::begun_seconds, registry::Brought};
use crate::{clock, signs::LastSign};
use channels::Signs;
use error::StreamError;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use penstock_domain::{Address, Rational, address_lower};
use penstock_payments::fee;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a worker says to its stream's end.
pub type Telling = Shared<BoxFuture<'static, Result<Relayed, Untold>>>;

/// Why a worker has said nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untold {
    /// It was told, and takes its time.
    Late,
    /// It was not there, or broke off.
    Broken,
}

/// What is known of a stream.
pub struct Entry {
    /// Who pays; zero off-chain.
    pub sender: Address,
    /// Whose worker it is at.
    pub brought: Arc<Brought>,
    /// Wei a second.
    pub price: Rational,
    /// Unix ms of its begin.
    pub begun_ms: i64,
    /// Seconds that it was charged for.
    pub seconds: Arc<AtomicU64>,
    /// The gateway wants its end.
    pub stopped: CancellationToken,
    /// When its time began.
    pub begun: Instant,
    /// When it ended, while its worker is told and what is owed is booked.
    pub ended: OnceLock<Instant>,
    /// When the worker last answered anything about it with yes.
    pub answered: LastSign,
    /// The worker's traces in its channels, once it has begun.
    pub signs: OnceLock<Signs>,
    /// The worker is told of the end before it has said yes to the begin.
    early: Mutex<Option<Telling>>,
    /// The worker is told of the end.
    telling: Mutex<Option<Telling>>,
}

impl Entry {
    /// One that begins.
    pub fn new(
        sender: Address,
        brought: Arc<Brought>,
        price: Rational,
        begun: Instant,
        seconds: Arc<AtomicU64>,
    ) -> Self {
        Self {
            sender,
            brought,
            price,
            begun_ms: clock::now_ms(),
            seconds,
            stopped: CancellationToken::new(),
            begun,
            ended: OnceLock::new(),
            answered: LastSign::now(),
            signs: OnceLock::new(),
            early: Mutex::default(),
            telling: Mutex::default(),
        }
    }

    /// Whether the worker has said yes to its start.
    pub fn has_begun(&self) -> bool {
        self.signs.get().is_some()
    }

    /// Tells the worker of the end, if nobody has: whoever is told twice need not know the stream any more. All hear the
    /// same answer, and whoever stops listening takes it from nobody else.
    pub fn tell<F>(&self, tasks: &TaskTracker, tell: impl FnOnce() -> F) -> Telling
    where
        F: Future<Output = Result<Relayed, Untold>> + Send + 'static,
    {
        once(&self.telling, tasks, tell)
    }

    /// The same while it begins: the worker may not know the stream yet, and is told again.
    pub fn tell_early<F>(&self, tasks: &TaskTracker, tell: impl FnOnce() -> F) -> Telling
    where
        F: Future<Output = Result<Relayed, Untold>> + Send + 'static,
    {
        once(&self.early, tasks, tell)
    }

    /// Whether the worker has said yes to an end while it began: it need not know the stream when it is told again.
    pub fn has_ended_early(&self) -> bool {
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = early.and_then(futures::FutureExt::now_or_never).and_then(Result::ok);
        said.is_some_and(|said| said.status.is_success())
    }

    /// When a byte of the worker's came last; `None` before the first.
    pub fn last_byte(&self) -> Option<Instant> {
        self.signs.get().and_then(Signs::last_byte)
    }

    /// When the worker last said yes to something, or a byte of it came.
    pub fn last_sign(&self) -> Instant {
        let answered = self.answered.at();
        self.last_byte().map_or(answered, |byte| byte.max(answered))
    }

    /// The worker has said yes to something else than the end.
    pub fn note_answer(&self) {
        let now = Instant::now();
        if !self.signs.get().is_some_and(|signs| signs.is_cut_off(now)) {
            self.answered.note(now);
        }
    }

    /// Wei of the time that has passed, and is only set aside.
    fn unbooked(&self) -> Rational {
        if !self.has_begun() {
            return Rational::ZERO;
        }
        let until = self.ended.get().copied().unwrap_or_else(Instant::now);
        let passed = begun_seconds(until.saturating_duration_since(self.begun));
        fee(passed.saturating_sub(self.seconds.load(Relaxed)), &self.price)
    }
}

fn once<F>(
    telling: &Mutex<Option<Telling>>,
    tasks: &TaskTracker,
    tell: impl FnOnce() -> F,
) -> Telling
where
    F: Future<Output = Result<Relayed, Untold>> + Send + 'static,
{
    let begin = || {
        let task = tasks.spawn(tell());
        async move { task.await.unwrap_or(Err(Untold::Broken)) }.boxed().shared()
    };
    telling.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(begin).clone()
}

/// All streams, by their gateways' ids: workers know them by these.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<String, Arc<Entry>>>);

/// A stream's place among them; given back when dropped.
pub struct Place {
    streams: Arc<Streams>,
    id: String,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more. How many there may be is the capabilities' room.
    pub fn enter(self: &Arc<Self>, id: &str, entry: Arc<Entry>) -> Result<Place, StreamError> {
        let mut all = self.lock();
        if all.contains_key(id) {
            return Err(StreamError::Exists(id.to_owned()));
        }
        all.insert(id.to_owned(), entry);
        gauge(all.len());
        Ok(Place { streams: Arc::clone(self), id: id.to_owned() })
    }

    /// A sender's stream of that id. Another's is none.
    pub fn get(&self, sender: Address, id: &str) -> Option<Arc<Entry>> {
        self.lock().get(id).filter(|entry| entry.sender == sender).cloned()
    }

    /// Whether there is one of that id, whosever.
    pub fn exists(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// Wei that a sender's streams of a capability have used and that is only set aside.
    pub fn unbooked(&self, sender: Address, capability: &str) -> Rational {
        let all = self.lock();
        let its = |entry: &&Arc<Entry>| entry.sender == sender && entry.brought.name == capability;
        all.values().filter(its).fold(Rational::ZERO, |sum, entry| &sum + &entry.unbooked())
    }

    /// For the operator.
    pub fn view(&self) -> Vec<Value> {
        let row = |(id, entry): (&String, &Arc<Entry>)| {
            json!({
                "id": id,
                "capability": entry.brought.name,
                "sender": address_lower(&entry.sender),
                "begun_ms": entry.begun_ms,
                "seconds_charged": entry.seconds.load(Relaxed),
            })
        };
        self.lock().iter().map(row).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.streams.lock();
        all.remove(&self.id);
        gauge(all.len());
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(streams: usize) {
    metrics::gauge!("orchestrator_byoc_streams").set(streams as f64);
}

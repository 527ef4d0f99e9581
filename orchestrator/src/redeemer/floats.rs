//! Max floats as the redeemer tells them: asked for once, followed by a stream for as long as the sender
//! is in use, and forgotten the moment the stream breaks, so that no old number is taken for a new one.

use super::remote::Remote;
use futures::{FutureExt as _, StreamExt as _};
use penstock_clients::CallError;
use penstock_domain::{Address, Wei};
use penstock_http_kit::{CancellationToken, health::NotReady};
use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

/// A sender that nobody asked about for so long is not followed any more, as in the reference.
const UNUSED: Duration = Duration::from_secs(300);
/// How often a followed sender's max float is asked for all the same: a change that came between the first
/// answer and the begin of the stream is then known late, not never, and a redeemer that stands still is
/// noticed.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Time between attempts while the redeemer is away.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What is known of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Float {
    /// The redeemer is being asked for the first time.
    Asked,
    /// It said so, and says when that changes.
    Known(Wei),
    /// It does not say.
    Away,
}

/// A sender that is followed.
#[derive(Debug)]
struct Followed {
    float: watch::Sender<Float>,
    used: Mutex<Instant>,
}

impl Followed {
    fn new() -> Self {
        Self { float: watch::Sender::new(Float::Asked), used: Mutex::new(Instant::now()) }
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_unused(&self) -> bool {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= UNUSED
    }
}

/// The senders that are followed.
#[derive(Debug)]
pub struct Floats {
    remote: Arc<Remote>,
    patience: Duration,
    max_senders: usize,
    senders: Mutex<HashMap<Address, Arc<Followed>>>,
    stop: CancellationToken,
}

impl Floats {
    /// Follows nobody yet. An offer waits at most `patience`; all ends with `stop`.
    pub fn new(
        remote: Arc<Remote>,
        patience: Duration,
        max_senders: usize,
        stop: CancellationToken,
    ) -> Self {
        Self { remote, patience, max_senders, senders: Mutex::default(), stop }
    }

    /// The redeemer's word on a sender; `None` if there is none now.
    pub async fn of(self: &Arc<Self>, sender: Address) -> Option<Wei> {
        let followed = self.follow(sender)?;
        let mut float = followed.float.subscribe();
        let told = timeout(self.patience, float.wait_for(|float| *float != Float::Asked)).await;
        match told.ok()?.as_deref() {
            Ok(Float::Known(wei)) => Some(*wei),
            _ => None,
        }
    }

    /// For `/readyz`: what works less well while the redeemer is away.
    pub fn readiness(&self) -> Option<NotReady> {
        self.remote.readiness()
    }

    fn follow(self: &Arc<Self>, sender: Address) -> Option<Arc<Followed>> {
        let mut senders = self.senders();
        if let Some(followed) = senders.get(&sender) {
            followed.touch();
            return Some(Arc::clone(followed));
        }
        if senders.len() >= self.max_senders || self.stop.is_cancelled() {
            return None;
        }
        let followed = Arc::new(Followed::new());
        senders.insert(sender, Arc::clone(&followed));
        tokio::spawn(Arc::clone(self).keep(sender, Arc::clone(&followed)));
        Some(followed)
    }

    /// Follows a sender until it is of no use to anybody.
    async fn keep(self: Arc<Self>, sender: Address, followed: Arc<Followed>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = tokio::select! {
                () = self.stop.cancelled() => return,
                ended = self.listen(sender, &followed) => ended,
            };
            let Err(error) = ended else { return };
            if error.is_some() {
                self.remote.note(error.as_ref());
            }
            if matches!(followed.float.send_replace(Float::Away), Float::Known(_)) {
                pause = FIRST_PAUSE;
                tracing::debug!(%sender, ?error, "the redeemer does not tell max floats any more");
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            if self.forget_unused(sender, &followed) {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// `Ok`: nobody uses it any more, and it is forgotten. An error, or none: the stream has ended.
    async fn listen(&self, sender: Address, followed: &Followed) -> Result<(), Option<CallError>> {
        // The stream is begun before the question, so that no change falls between the two.
        let mut changes = pin!(self.remote.client.monitor_max_float(sender));
        let mut answer = pin!(self.remote.max_float(sender).fuse());
        let mut again = interval_at(Instant::now() + ASK_AGAIN, ASK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                biased;
                change = changes.next() => change.ok_or(None)?,
                told = &mut answer => told,
                _ = again.tick() => {
                    if self.forget_unused(sender, followed) {
                        return Ok(());
                    }
                    answer.set(self.remote.max_float(sender).fuse());
                    continue;
                }
            };
            let told = told.map_err(Some)?;
            self.remote.note(None);
            followed.float.send_replace(Float::Known(told));
        }
    }

    fn forget_unused(&self, sender: Address, followed: &Followed) -> bool {
        // Under the lock under which it would be used again.
        let mut senders = self.senders();
        let is_unused = followed.is_unused();
        if is_unused {
            senders.remove(&sender);
        }
        is_unused
    }

    fn senders(&self) -> std::sync::MutexGuard<'_, HashMap<Address, Arc<Followed>>> {
        // A panic cannot leave a map of shared values in a bad state.
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

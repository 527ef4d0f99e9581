//! Training jobs that nobody watches: those of a process that has died or has gone, of an earlier life of this one, say.
//! Whoever finds one first goes on with it where its time stood still; their worker is asked where it was when they
//! began, if one may still be there.

use super::{
    Standing, Training,
    kept::{Hands, Kept},
    life::{Entry, Life},
};
use crate::runner_networks::means_this_host;
use crate::{
    byoc::{
        meter::{Meter, begun_seconds, charge_after},
        registry::Resumed,
    },
    clock,
    node::Node,
    release::Kind,
    service::holds::Hold,
};
use penstock_ledger::orchestrator::{
    LedgerError, OrchestratorLedger, StoredTraining, TrainingNote, Watch,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

/// A look for jobs that nobody watches.
#[derive(Clone, Copy)]
struct Look {
    attempt: Uuid,
    limit: u32,
}

/// Jobs that are for another process, by id: the names of their workers, and where these are.
#[derive(Default)]
struct Elsewhere(HashMap<String, (String, Url)>);

impl Elsewhere {
    fn add(&mut self, id: &str, worker: Resumed) {
        // They are found again.
        if self.0.len() >= MOST_ELSEWHERE {
            self.0.clear();
        }
        self.0.insert(id.to_owned(), (worker.name, worker.url));
    }
}

/// Most that are known to be for another process.
const MOST_ELSEWHERE: usize = 1_024;
/// Most that are taken up at one look.
const AT_ONCE: u32 = 16;
/// After the ledger could not be asked about a charge, how long until the next try.
const PAUSE: Duration = Duration::from_secs(1);
/// How often those that have ended long ago are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Looks for them, as often as workers are asked, until the process goes.
pub async fn watch(node: Arc<Node>, stop: CancellationToken) {
    let Some(cashier) = &node.cashier else { return };
    let mut ticks = interval(node.byoc_poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forgotten: Option<Instant> = None;
    // What an answer that was not heard may have given us: nobody else finds it while this process lives.
    let mut unheard: Option<Look> = None;
    let mut elsewhere = Elsewhere::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = node.trainings.leaving.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Not cut off half-way: what the ledger gives us is ours.
        if let Some(look) = unheard.or_else(|| node.look()) {
            unheard = None;
            if let Err(error) = node.take_up_trainings(&cashier.ledger, look, &mut elsewhere).await
            {
                tracing::warn!(%error, "training jobs that nobody watches wait for the ledger");
                unheard = Some(look);
            }
        }
        if forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
            node.forget_trainings().await;
            forgotten = Some(Instant::now());
        }
    }
}

impl Node {
    /// Whether a worker is on a host that may be another one: a loopback address means each reader's own. One that has
    /// come to this process is on this host.
    fn is_elsewhere(&self, hands: &Hands, worker: &Resumed) -> bool {
        hands.ledger.is_shared()
            && means_this_host(&worker.url)
            && !self.byoc.has_at(&worker.name, &worker.url)
    }

    /// If there is room for one more.
    fn look(&self) -> Option<Look> {
        let limit = self.byoc.free_jobs().min(AT_ONCE);
        (limit > 0).then(|| Look { attempt: Uuid::new_v4(), limit })
    }

    async fn take_up_trainings(
        self: &Arc<Self>,
        ledger: &Arc<dyn OrchestratorLedger>,
        Look { attempt, limit }: Look,
        elsewhere: &mut Elsewhere,
    ) -> Result<(), LedgerError> {
        elsewhere.0.retain(|_, (name, url)| !self.byoc.has_at(name, url));
        let but: Vec<_> = elsewhere.0.keys().cloned().collect();
        for row in ledger.take_up_trainings(attempt, limit, &but).await? {
            let Some(kept) = Kept::read(&row) else {
                tracing::error!(
                    job = row.id,
                    "the ledger holds an unreadable training job; it stays there"
                );
                continue;
            };
            let hands = Hands { ledger: Arc::clone(ledger), attempt };
            if kept.ending.is_none() && self.is_elsewhere(&hands, &kept.worker) {
                tracing::info!(
                    job = row.id.get(..8),
                    capability = kept.worker.name,
                    "a training job is left to the process that its worker comes to"
                );
                elsewhere.add(&row.id, kept.worker);
                self.jobs.spawn(give_back(Arc::clone(self), row, hands));
                continue;
            }
            let node = Arc::clone(self);
            self.jobs.spawn(async move {
                if let Some(life) = resumed(&node, row, kept, hands).await {
                    life.run(node).await;
                }
            });
        }
        Ok(())
    }

    /// Those that ended long ago, and the oldest of too many.
    pub(super) async fn forget_trainings(&self) {
        let Some(cashier) = &self.cashier else { return };
        let kept_for_ms = i64::try_from(self.trainings.kept_for.as_millis()).unwrap_or(i64::MAX);
        let before_ms = clock::now_ms().saturating_sub(kept_for_ms);
        let kept = u32::try_from(self.trainings.kept).unwrap_or(u32::MAX);
        if let Err(error) = cashier.ledger.forget_trainings(before_ms, kept).await {
            tracing::warn!(%error, "training jobs that have ended stay in the ledger for now");
        }
    }
}

/// Nobody watches it again.
async fn give_back(node: Arc<Node>, row: StoredTraining, hands: Hands) {
    let Hands { ledger, attempt } = hands;
    let StoredTraining { id, standing, .. } = row;
    let mut note = TrainingNote { id, attempt, standing, then: Watch::Left, now_ms: 0 };
    loop {
        note.now_ms = clock::now_ms();
        let Err(error) = ledger.note_training(&note).await else { return };
        tracing::warn!(%error, "a training job for another process waits for the ledger");
        tokio::select! {
            () = node.live_stop.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
    }
}

/// `None`: this process goes first.
async fn resumed(node: &Arc<Node>, row: StoredTraining, kept: Kept, hands: Hands) -> Option<Life> {
    let Kept { model, callback, worker, price, mut standing, ending } = kept;
    let StoredTraining { id, account, created_ms, .. } = row;
    // Its time stands still meanwhile.
    while standing.is_leaving && ending.is_none() {
        let Err(error) = standing.find_charge(node, &hands, &id).await else { break };
        tracing::warn!(%error, "what was charged of a training job waits for the ledger");
        tokio::select! {
            () = node.live_stop.cancelled() => return None,
            () = sleep(PAUSE) => {}
        }
    }
    let is_allowed = node.byoc.allows(&worker.url) && !node.is_elsewhere(&hands, &worker);
    let sender = account.sender();
    let slot = node.byoc.resume(worker, sender, Kind::ByocTraining);
    let brought = Arc::clone(slot.capability());
    let hold = Hold::new(Arc::clone(&hands.ledger), account, price.clone());
    let passed = Duration::from_millis(standing.watched_ms);
    let paid = standing.paid();
    let meter = Meter::resumed(Arc::clone(node), slot, Some(hold), &id, passed, paid).await;
    let training = Arc::new(Training {
        id,
        sender,
        brought,
        model,
        callback,
        begun_ms: created_ms,
        begun: meter.begun(),
        price,
        seconds: Arc::clone(meter.seconds()),
        standing: Mutex::new(standing),
        ended: Mutex::default(),
        hands: Some(hands),
    });
    metrics::counter!("orchestrator_byoc_trainings_taken_up_total").increment(1);
    tracing::info!(
        job = training.shown(),
        capability = training.brought.name,
        "a training job is taken up"
    );
    node.trainings.add(&training);
    let entry = match ending {
        Some(ending) => Entry::Over(ending.at_a_worker(is_allowed)),
        None if is_allowed => Entry::TakenUp,
        None => Entry::Barred,
    };
    let heard = CancellationToken::new();
    heard.cancel();
    Some(Life { training, meter, unheard: CancellationToken::new(), heard, entry })
}

impl Standing {
    /// Whether what its last watcher was about to book is in the books. Where the journal cannot tell any more, that is
    /// taken for booked, so that nobody pays for it twice.
    async fn find_charge(
        &mut self,
        node: &Node,
        hands: &Hands,
        id: &str,
    ) -> Result<(), LedgerError> {
        let job = charge_after(id, self.charges);
        let found = match hands.ledger.units_debited(&job).await? {
            None if node.trainings.is_past_telling(self.updated_ms) => {
                tracing::error!(
                    job = id.get(..8),
                    "a training job was left so long ago that nobody can tell whether it was charged; until then it \
                     is not (--journal-hours)"
                );
                let brought = self.brought.as_ref().map_or(0, |(ms, _)| *ms);
                let brought = begun_seconds(Duration::from_millis(brought));
                Some(brought.saturating_sub(self.booked_seconds))
            }
            found => found,
        };
        if let Some(seconds) = found {
            self.booked_seconds = self.booked_seconds.saturating_add(seconds);
            self.charges = self.charges.saturating_add(1);
        }
        self.is_leaving = false;
        Ok(())
    }
}

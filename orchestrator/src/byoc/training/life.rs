//! A training job's life: its worker is asked how it stands until it has ended, while its time is set aside. What it
//! comes to is written down, booked, and only then told. Where there is a ledger, a process that has to go, or finds
//! that another one watches the job by now, leaves it.

use super::{
    Standing, Training,
    ending::{Ending, Over, Said},
};
use crate::{
    byoc::{
        meter::{Cut, Meter, charge_after},
        worker,
    },
    error::JobError,
    node::Node,
    release::Reason,
    service::cashier::MoneyError,
};
use axum::body::Body;
use http::StatusCode;
use penstock_ledger::orchestrator::Watch;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Questions in a row without an answer that end a job.
const MOST_FAILURES: u32 = 12;
/// For one question.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Questions at the end of a job's money, and the time for all of them: its worker may miss one.
const LAST_QUESTIONS: u32 = 3;
const LAST_PATIENCE: Duration = Duration::from_secs(20);
/// How long what is in the ledger of a job that says nothing new may be behind.
const NOTED_EVERY: Duration = Duration::from_secs(5);
/// After a fee could not be booked, how long until the next try.
const PAUSE: Duration = Duration::from_secs(5);

/// How a life begins.
pub(super) enum Entry {
    /// With the job.
    Begin,
    /// With a job that another process watched.
    TakenUp,
    /// With one whose worker may not be asked any more.
    Barred,
    /// With one that is over and may be charged already.
    Over(Ending),
}

/// A job that runs.
pub(super) struct Life {
    /// It.
    pub training: Arc<Training>,
    /// Its room and its money.
    pub meter: Meter,
    /// Cancelled when the client did not hear of it.
    pub unheard: CancellationToken,
    /// Cancelled when the client did.
    pub heard: CancellationToken,
    pub entry: Entry,
}

/// Why a process watches a job no longer that goes on.
#[derive(Debug, Clone, Copy)]
enum Left {
    /// The process goes.
    Stopping,
    /// Another process watches it.
    Lost,
}

/// A question's answer.
enum Answer {
    Said(Said),
    /// The worker knows no such job.
    Unknown,
    TooLarge,
    TooDeep,
    None,
}

impl Life {
    /// To the end, or until another process goes on.
    pub async fn run(mut self, node: Arc<Node>) {
        let was_over = matches!(self.entry, Entry::Over(_));
        let ending = match std::mem::replace(&mut self.entry, Entry::Begin) {
            Entry::Over(ending) => ending,
            entry => match self.watch_on(&node, &entry).await {
                Ok(over) => {
                    let ending = over.ending(&self.training, &mut self.meter);
                    let now = self.training.standing_now();
                    if !self.training.keep_surely(&node, &now, Some(&ending), Watch::On).await {
                        return self.leave(&node, Left::Lost, None).await;
                    }
                    penstock_failpoint::hit("orchestrator.training_ended");
                    ending
                }
                Err(left) => return self.leave(&node, left, None).await,
            },
        };
        if !self.book(&node, &ending, was_over).await {
            return self.leave(&node, Left::Stopping, Some(&ending)).await;
        }
        if ending.is_delivered {
            self.meter.delivered();
        }
        penstock_failpoint::hit("orchestrator.training_booked");
        self.end(&node, ending).await;
    }

    /// It is over and booked.
    async fn end(mut self, node: &Arc<Node>, mut ending: Ending) {
        let training = Arc::clone(&self.training);
        ending.standing.booked_seconds = self.meter.booked();
        // Told only now, so that whoever hears of the end hears of all that it cost.
        if !training.keep_surely(node, &ending.standing, None, Watch::Ended).await {
            // It is over all the same, and its worker may be at work for nobody.
            if ending.is_worker_told {
                let why = ending.standing.reason.unwrap_or(Reason::Internal);
                training.call_off(node, why).await;
            }
            return self.leave(node, Left::Lost, Some(&ending)).await;
        }
        let balance = self.meter.left().await;
        *training.lock() = ending.standing.clone();
        training.has_ended();
        let Ending { standing, is_worker_told, .. } = ending;
        let why = standing.reason.unwrap_or(Reason::Internal);
        self.meter.because(why);
        if is_worker_told {
            training.call_off(node, why).await;
        }
        drop(self);
        let (status, reason) = (standing.status.as_str(), why.as_str());
        metrics::counter!("orchestrator_byoc_trainings_total", "status" => status).increment(1);
        tracing::info!(job = training.shown(), status, reason, error = standing.error, balance_wei = %balance, "training ended");
        if training.hands.is_some() {
            // From here on the ledger tells of it, at every process.
            node.trainings.remove(&training);
            node.forget_trainings().await;
        }
        if let Some(url) = &training.callback {
            // Once, and wherever peers' URLs may lead; whoever does not hear it asks.
            let told = node.fetcher.tell(url, training.told(node).await.to_string()).await;
            if let Err(error) = told {
                tracing::info!(%error, job = training.shown(), "a callback was not heard");
            }
        }
    }

    /// It goes on without this process.
    async fn leave(mut self, node: &Node, left: Left, ending: Option<&Ending>) {
        self.meter.because(match left {
            Left::Stopping => Reason::Stopping,
            Left::Lost => Reason::LedgerUnavailable,
        });
        let mut now = self.training.standing_now();
        if matches!(left, Left::Stopping) && ending.is_none() {
            now = self.hand_on(now).await;
        }
        let training = &self.training;
        match training.keep(now, ending.cloned(), Watch::Left).await {
            Ok(true) => {
                tracing::info!(job = training.shown(), "a training job is left to another process")
            }
            Ok(false) => {
                tracing::info!(job = training.shown(), "another process watches a training job")
            }
            Err(error) => {
                tracing::warn!(%error, job = training.shown(), "a training job is left without a word");
            }
        }
        node.trainings.remove(training);
    }

    /// What is only set aside is free for other work once this process has gone: what the worker has brought is booked
    /// before that. That it is about to be is noted first, so that whoever goes on looks for it, and does not book it
    /// again.
    async fn hand_on(&mut self, mut now: Standing) -> Standing {
        let training = Arc::clone(&self.training);
        let Some((ms, _)) = now.brought else { return now };
        let leaving = Standing { is_leaving: true, ..now.clone() };
        match training.keep(leaving, None, Watch::On).await {
            Ok(true) => {}
            Ok(false) => return now,
            Err(error) => {
                tracing::warn!(%error, job = training.shown(), "a training job is left without a charge");
                return now;
            }
        }
        now.is_leaving = !self.meter.hand_on(training.begun + Duration::from_millis(ms)).await;
        let paid = self.meter.paid_so_far();
        (now.charges, now.booked_seconds) = (paid.charges, paid.seconds);
        penstock_failpoint::hit("orchestrator.training_left");
        now
    }

    /// Books what is owed; `false`: not before the process has to go.
    async fn book(&mut self, node: &Node, ending: &Ending, was_over: bool) -> bool {
        loop {
            let Err(error) = self.try_to_book(node, ending, was_over).await else { return true };
            tracing::warn!(%error, job = self.training.shown(), "a training job could not be charged; trying again");
            tokio::select! {
                () = node.live_stop.cancelled() => return false,
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Once, whoever began with it: a fee that is in the journal is not booked again, and where that cannot be told any
    /// more, it is not booked at all.
    async fn try_to_book(
        &mut self,
        node: &Node,
        ending: &Ending,
        was_over: bool,
    ) -> Result<(), MoneyError> {
        if let (true, Some(hands)) = (was_over, &self.training.hands) {
            let job = charge_after(&self.training.id, ending.standing.charges);
            if let Some(seconds) = hands.ledger.units_debited(&job).await? {
                self.meter.was_booked(seconds);
                return Ok(());
            }
            if node.trainings.is_past_telling(ending.decided_ms) {
                tracing::error!(
                    job = self.training.shown(),
                    "a training job ended so long ago that nobody can tell whether it was charged; it is not \
                     (--journal-hours)"
                );
                return Ok(());
            }
        }
        self.meter.book(ending.owed_seconds).await
    }

    async fn watch_on(&mut self, node: &Node, entry: &Entry) -> Result<Over, Left> {
        if matches!(entry, Entry::Barred) {
            return Ok(Over::Barred);
        }
        let Self { training, meter, unheard, heard, .. } = self;
        let is_kept = training.hands.is_some();
        let ends = async {
            tokio::select! {
                biased;
                () = unheard.cancelled() => Ok(Over::Unheard),
                // Not before it is known whether its client has heard of it.
                () = async { node.trainings.leaving.cancelled().await; heard.cancelled().await },
                    if is_kept => Err(Left::Stopping),
                () = node.live_stop.cancelled() => {
                    if is_kept { Err(Left::Stopping) } else { Ok(Over::Stopping) }
                }
                over = training.watched(node, matches!(entry, Entry::TakenUp)) => over,
            }
        };
        match meter.during(None, ends).await {
            Ok(over) => over,
            Err(Cut::NoBooks) => Ok(Over::Cut(Cut::NoBooks)),
            Err(cut) => Ok(training.cut_off(node, cut).await),
        }
    }
}

impl Training {
    /// Its id for the log: its begin. Whoever knows all of it may ask about it.
    pub(super) fn shown(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }

    async fn call_off(&self, node: &Node, why: Reason) {
        let told = worker::cancel(&node.byoc_http, &self.brought, &self.id, why);
        if !matches!(timeout(PATIENCE, told).await, Ok(Ok(_))) {
            tracing::warn!(job = self.shown(), "the worker was not told of a job's end");
        }
    }

    /// Its client's money is used up, for what its worker is asked once more: it may have been dead for longer than
    /// anybody has noticed.
    async fn cut_off(&self, node: &Node, cut: Cut) -> Over {
        match timeout(LAST_PATIENCE, self.ask_surely(node)).await.unwrap_or(Answer::None) {
            Answer::Said(said) if said.status().is_end() => Over::Worker(said),
            Answer::Unknown => Over::Unknown,
            Answer::None => Over::Unreachable,
            Answer::Said(_) | Answer::TooLarge | Answer::TooDeep => Over::Cut(cut),
        }
    }

    /// Until it answers, a few times.
    async fn ask_surely(&self, node: &Node) -> Answer {
        for _ in 1..LAST_QUESTIONS {
            match timeout(PATIENCE, self.ask(node)).await.unwrap_or(Answer::None) {
                Answer::None => sleep(node.byoc_poll).await,
                answer => return answer,
            }
        }
        timeout(PATIENCE, self.ask(node)).await.unwrap_or(Answer::None)
    }

    /// Asks at an interval; of a job that was taken up, at once.
    async fn watched(&self, node: &Node, at_once: bool) -> Result<Over, Left> {
        let (mut failures, mut noted) = (0, Instant::now());
        let mut waits = !at_once;
        while failures < MOST_FAILURES {
            if std::mem::replace(&mut waits, true) {
                sleep(node.byoc_poll).await;
            }
            match timeout(PATIENCE, self.ask(node)).await.unwrap_or(Answer::None) {
                Answer::Said(said) => {
                    failures = 0;
                    if said.status().is_end() {
                        return Ok(Over::Worker(said));
                    }
                    let mut now = self.standing_now();
                    let says_more = now.take(said, now.watched_ms);
                    if says_more || noted.elapsed() >= NOTED_EVERY {
                        if !self.note(&now).await? {
                            continue;
                        }
                        noted = Instant::now();
                    }
                    // What is told of it is in the ledger.
                    *self.lock() = now;
                }
                Answer::Unknown => return Ok(Over::Unknown),
                Answer::TooLarge => return Ok(Over::TooLarge),
                Answer::TooDeep => return Ok(Over::TooDeep),
                Answer::None => failures += 1,
            }
        }
        Ok(Over::Unreachable)
    }

    /// Writes down how it stands; `false`: the ledger is away, and how long that may last, the job's money says.
    async fn note(&self, now: &Standing) -> Result<bool, Left> {
        match self.keep(now.clone(), None, Watch::On).await {
            Ok(true) => Ok(true),
            Ok(false) => Err(Left::Lost),
            Err(error) => {
                tracing::warn!(%error, job = self.shown(), "how a training job stands was not noted");
                Ok(false)
            }
        }
    }

    async fn ask(&self, node: &Node) -> Answer {
        let Ok(answer) = worker::training(&node.byoc_http, &self.brought, &self.id).await else {
            return Answer::None;
        };
        if answer.status() == StatusCode::NOT_FOUND {
            return Answer::Unknown;
        }
        if !answer.status().is_success() {
            return Answer::None;
        }
        let body = Body::from_stream(answer.bytes_stream());
        match node.bodies.read(body, node.limits.training_answer_bytes).await {
            Ok(held) => match serde_json::from_slice::<Said>(&held.data) {
                Ok(said) if said.is_too_deep() => Answer::TooDeep,
                Ok(said) => Answer::Said(said),
                Err(_) => Answer::None,
            },
            Err(JobError::BodyTooLarge(_)) => Answer::TooLarge,
            Err(_) => Answer::None,
        }
    }
}

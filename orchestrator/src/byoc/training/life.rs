//! A training job's life: its worker is asked how it stands until it has ended, while its time is set aside. What it
//! costs is booked at the end: all of its time if it is done, or its client is to blame that it is not; otherwise the
//! time until its worker last gave a result of it, and nothing if there is none.

use super::{Standing, Status, Training};
use crate::{
    byoc::{
        meter::{Cut, Meter},
        worker,
    },
    clock,
    node::Node,
    release::Reason,
};
use axum::body::Body;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Questions in a row without an answer that end a job.
const MOST_FAILURES: u32 = 12;
/// For one question.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Characters that are told of a worker's words.
const MAX_WORDS: usize = 1024;

/// A job that runs.
pub(super) struct Life {
    /// It.
    pub training: Arc<Training>,
    /// Its room and its money.
    pub meter: Meter,
    /// Cancelled when the client did not hear of it.
    pub unheard: CancellationToken,
}

/// What a worker says of a job.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    status: Option<String>,
    progress: Option<f64>,
    result: Option<Value>,
    error: Option<String>,
}

impl Said {
    fn standing(&self) -> Status {
        Status::read(self.status.as_deref().unwrap_or_default())
    }

    /// The same again is no other result.
    fn brings_more_than(&self, known: Option<&Value>) -> bool {
        let result = self.result.as_ref().filter(|result| is_result(result));
        result.is_some() && result != known
    }
}

fn is_result(said: &Value) -> bool {
    said.as_object().is_some_and(|result| !result.is_empty())
}

/// What ends a job.
#[derive(Debug)]
enum Over {
    /// In its worker's words.
    Worker(Said),
    Unreachable,
    Unknown,
    Unheard,
    Stopping,
    Cut(Cut),
}

impl Over {
    fn reason(&self) -> Reason {
        match self {
            Self::Worker(said) => match said.standing() {
                Status::Completed => Reason::Completed,
                Status::Failed => Reason::WorkerRefused,
                _ => Reason::WorkerStopped,
            },
            Self::Unreachable | Self::Unknown => Reason::WorkerLost,
            Self::Unheard => Reason::Unheard,
            Self::Stopping => Reason::Stopping,
            Self::Cut(cut) => cut.reason(),
        }
    }
}

impl Life {
    /// To the end.
    pub async fn run(mut self, node: Arc<Node>) {
        let over = self.first_end(&node).await;
        let why = over.reason();
        if self.owe(&over) {
            self.meter.delivered();
        }
        let balance = self.meter.settle_patiently().await;
        let training = Arc::clone(&self.training);
        // Told only now, so that whoever hears of the end hears of all that it cost.
        if training.end(over) {
            let told = worker::cancel(&node.byoc_http, &training.brought, &training.id, why);
            if !matches!(timeout(PATIENCE, told).await, Ok(Ok(_))) {
                tracing::warn!(job = training.shown(), "the worker was not told of a job's end");
            }
        }
        drop(self);
        let standing = training.lock().clone();
        let (status, reason) = (standing.status.as_str(), why.as_str());
        metrics::counter!("orchestrator_byoc_trainings_total", "status" => status).increment(1);
        tracing::info!(job = training.shown(), status, reason, error = standing.error, %balance, "training ended");
        if let Some(url) = &training.callback {
            // Once, and wherever peers' URLs may lead; whoever does not hear it asks.
            let told = node.fetcher.tell(url, training.told(&node).await.to_string()).await;
            if let Err(error) = told {
                tracing::info!(%error, job = training.shown(), "a callback was not heard");
            }
        }
    }

    /// Says what is owed at the end; whether the client has what that is for.
    fn owe(&mut self, over: &Over) -> bool {
        let Self { training, meter, .. } = self;
        let why = over.reason();
        meter.because(why);
        let (known, brought) = {
            let standing = training.lock();
            (standing.result.clone(), standing.brought)
        };
        if let Some(then) = brought {
            meter.owe_until(then);
        }
        match over {
            Over::Worker(said) if said.standing() == Status::Completed => {
                meter.went_well();
                true
            }
            Over::Worker(said) if said.brings_more_than(known.as_ref()) => {
                meter.worker_failed(why);
                meter.owe();
                true
            }
            Over::Worker(_) | Over::Unreachable | Over::Unknown => {
                meter.worker_failed(why);
                true
            }
            Over::Stopping | Over::Cut(Cut::NoBooks) => true,
            // It was the client's to listen, and to have more there.
            Over::Unheard | Over::Cut(Cut::Funds | Cut::Time) => {
                meter.owe();
                false
            }
        }
    }

    async fn first_end(&mut self, node: &Node) -> Over {
        let Self { training, meter, unheard } = self;
        let ends = async {
            tokio::select! {
                over = training.watched(node) => over,
                () = unheard.cancelled() => Over::Unheard,
                () = node.live_stop.cancelled() => Over::Stopping,
            }
        };
        match meter.during(None, ends).await {
            Ok(over) => over,
            Err(cut) => Over::Cut(cut),
        }
    }
}

impl Training {
    /// Its id for the log: its begin. Whoever knows all of it may ask about it.
    pub(super) fn shown(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }

    async fn watched(&self, node: &Node) -> Over {
        let mut failures = 0;
        while failures < MOST_FAILURES {
            sleep(node.byoc_poll).await;
            match timeout(PATIENCE, self.ask(node)).await {
                Ok(Ok(Some(said))) => {
                    failures = 0;
                    if said.standing().is_end() {
                        return Over::Worker(said);
                    }
                    self.note(said);
                }
                Ok(Ok(None)) => return Over::Unknown,
                Ok(Err(())) | Err(_) => failures += 1,
            }
        }
        Over::Unreachable
    }

    /// `None`: the worker knows no such job.
    async fn ask(&self, node: &Node) -> Result<Option<Said>, ()> {
        let answer = worker::training(&node.byoc_http, &self.brought, &self.id).await;
        let answer = answer.map_err(|_| ())?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(());
        }
        let body = Body::from_stream(answer.bytes_stream());
        let held =
            node.bodies.read(body, node.limits.training_answer_bytes).await.map_err(|_| ())?;
        serde_json::from_slice(&held.data).map(Some).map_err(|_| ())
    }

    /// Takes a worker's word.
    fn note(&self, said: Said) {
        let status = said.standing();
        let mut standing = self.lock();
        standing.status = status;
        if let Some(progress) = said.progress {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let progress = progress.clamp(0.0, 100.0) as u8;
            standing.progress = progress;
        }
        if said.brings_more_than(standing.result.as_ref()) {
            standing.brought = Some(Instant::now());
        }
        // What it has given once, its client has.
        if let Some(result) = said.result.filter(Value::is_object) {
            standing.result = Some(result);
        }
        standing.error = said.error.map(|words| words.chars().take(MAX_WORDS).collect());
        standing.updated_ms = clock::now_ms();
        if status.is_end() {
            standing.ended = Some(Instant::now());
        }
    }

    /// Notes the end; whether the worker has to be told.
    fn end(&self, over: Over) -> bool {
        let (status, error) = match over {
            Over::Worker(said) => {
                self.note(said);
                return false;
            }
            Over::Unreachable => (Status::Failed, "the worker cannot be reached"),
            Over::Unknown => (Status::Failed, "the worker does not know the job"),
            Over::Unheard => (Status::Cancelled, "nobody heard of its begin"),
            Over::Stopping => (Status::Cancelled, "the orchestrator stopped"),
            Over::Cut(Cut::NoBooks) => (Status::Failed, "the ledger is not available"),
            Over::Cut(Cut::Funds | Cut::Time) => (Status::Failed, "insufficient balance"),
        };
        let mut standing: std::sync::MutexGuard<'_, Standing> = self.lock();
        standing.status = status;
        standing.error = Some(error.to_owned());
        standing.updated_ms = clock::now_ms();
        standing.ended = Some(Instant::now());
        true
    }
}

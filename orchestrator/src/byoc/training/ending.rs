//! What ends a training job, what it costs then, and what is told of it: all of its time if it is done, or its client
//! is to blame that it is not; otherwise the time until its worker last gave a result of it, and nothing if there is
//! none.

use super::{Standing, Status, Training};
use crate::{
    byoc::meter::{Cut, Meter},
    clock,
    release::Reason,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Characters that are told of a worker's words.
const MAX_WORDS: usize = 1024;
/// Levels of arrays and objects in a result. What the ledger keeps of it has some more around it, and has to be read
/// again by a parser that takes 127.
const MAX_LEVELS: usize = 64;

/// What a worker says of a job.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    status: Option<String>,
    progress: Option<f64>,
    result: Option<Value>,
    error: Option<String>,
}

impl Said {
    /// In the SDK's words.
    pub fn status(&self) -> Status {
        Status::read(self.status.as_deref().unwrap_or_default())
    }

    /// Whether its result is nested deeper than we keep, and give back.
    pub fn is_too_deep(&self) -> bool {
        self.result.as_ref().is_some_and(|result| !is_within(result, MAX_LEVELS))
    }

    /// Names its result, if it has one: the same again is no other.
    fn mark(&self) -> Option<String> {
        let result = self.result.as_ref()?;
        let is_result = result.as_object().is_some_and(|result| !result.is_empty());
        is_result.then(|| hex::encode(Sha256::digest(result.to_string())))
    }
}

/// Whether so many levels of arrays and objects hold all of it.
fn is_within(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return !value.is_array() && !value.is_object();
    };
    match value {
        Value::Array(all) => all.iter().all(|value| is_within(value, below)),
        Value::Object(all) => all.values().all(|value| is_within(value, below)),
        _ => true,
    }
}

impl Standing {
    /// Names a result that its worker has not given before.
    fn news(&self, said: &Said) -> Option<String> {
        let known = self.brought.as_ref().map(|(_, mark)| mark);
        said.mark().filter(|mark| known != Some(mark))
    }

    /// Takes a worker's word; whether it says anything new.
    pub(super) fn take(&mut self, said: Said, watched_ms: u64) -> bool {
        let before = self.clone();
        if let Some(mark) = self.news(&said) {
            self.brought = Some((watched_ms, mark));
        }
        self.status = said.status();
        if let Some(progress) = said.progress {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let progress = progress.clamp(0.0, 100.0) as u8;
            self.progress = progress;
        }
        // What it has given once, its client has.
        if let Some(result) = said.result.filter(Value::is_object) {
            self.result = Some(result);
        }
        self.error = said.error.map(|words| words.chars().take(MAX_WORDS).collect());
        let says_more = *self != before;
        self.updated_ms = clock::now_ms();
        says_more
    }
}

/// What ends a job.
#[derive(Debug)]
pub(super) enum Over {
    /// In its worker's words.
    Worker(Said),
    Unreachable,
    Unknown,
    /// Its worker says more than we read.
    TooLarge,
    /// Its worker's result is nested deeper than we keep.
    TooDeep,
    /// Its worker is where none may be any more.
    Barred,
    Unheard,
    Stopping,
    Cut(Cut),
}

/// What a job comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ending {
    /// How it stands when all is booked.
    pub standing: Standing,
    /// Seconds from its begin that are owed.
    pub owed_seconds: u64,
    /// Whether the client has what that is for.
    pub is_delivered: bool,
    /// Whether the worker has to hear of it from us.
    pub is_worker_told: bool,
    /// Unix milliseconds at which it was found out.
    pub decided_ms: i64,
}

impl Ending {
    /// As another process, or another life, goes on with it: a worker where none may be any more is told nothing.
    pub fn at_a_worker(mut self, is_allowed: bool) -> Self {
        self.is_worker_told &= is_allowed;
        self
    }
}

impl Over {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Worker(said) => match said.status() {
                Status::Completed => Reason::Completed,
                Status::Failed => Reason::WorkerRefused,
                _ => Reason::WorkerStopped,
            },
            Self::Unreachable | Self::Unknown | Self::Barred => Reason::WorkerLost,
            Self::TooLarge | Self::TooDeep => Reason::WorkerFailed,
            Self::Unheard => Reason::Unheard,
            Self::Stopping => Reason::Stopping,
            Self::Cut(cut) => cut.reason(),
        }
    }

    /// Says what is owed; whether the client has what that is for.
    fn owe(&self, training: &Training, meter: &mut Meter) -> bool {
        let why = self.reason();
        meter.because(why);
        let standing = training.lock().clone();
        if let Some((ms, _)) = standing.brought {
            meter.owe_until(training.begun + Duration::from_millis(ms));
        }
        match self {
            Self::Worker(said) if said.status() == Status::Completed => {
                meter.went_well();
                true
            }
            Self::Worker(said) if standing.news(said).is_some() => {
                meter.worker_failed(why);
                meter.owe();
                true
            }
            Self::Worker(_)
            | Self::Unreachable
            | Self::Unknown
            | Self::TooLarge
            | Self::TooDeep => {
                meter.worker_failed(why);
                true
            }
            Self::Barred | Self::Stopping | Self::Cut(Cut::NoBooks) => true,
            // It was the client's to listen, and to have more there.
            Self::Unheard | Self::Cut(Cut::Funds | Cut::Time) => {
                meter.owe();
                false
            }
        }
    }

    /// What the job comes to, if it ends so now.
    pub fn ending(self, training: &Training, meter: &mut Meter) -> Ending {
        let is_delivered = self.owe(training, meter);
        let (now_ms, watched_ms) = (clock::now_ms(), training.watched_ms());
        let mut standing = training.lock().clone();
        standing.reason = Some(self.reason());
        standing.watched_ms = watched_ms;
        let is_worker_told = !matches!(self, Self::Worker(_) | Self::Barred);
        if let Some((status, error)) = self.words() {
            (standing.status, standing.error) = (status, Some(error.to_owned()));
            standing.updated_ms = now_ms;
        } else if let Self::Worker(said) = self {
            standing.take(said, watched_ms);
        }
        let owed_seconds = meter.owed_now();
        Ending { standing, owed_seconds, is_delivered, is_worker_told, decided_ms: now_ms }
    }

    /// Ours, where the worker has said nothing.
    fn words(&self) -> Option<(Status, &'static str)> {
        Some(match self {
            Self::Worker(_) => return None,
            Self::Unreachable => (Status::Failed, "the worker cannot be reached"),
            Self::Unknown => (Status::Failed, "the worker does not know the job"),
            Self::TooLarge => (
                Status::Failed,
                "the worker's answer is larger than this orchestrator reads \
                 (--limit-training-answer-bytes)",
            ),
            Self::TooDeep => {
                (Status::Failed, "the worker's result is nested deeper than 64 levels")
            }
            Self::Barred => (Status::Failed, "the worker is where none may be (--runner-networks)"),
            Self::Unheard => (Status::Cancelled, "nobody heard of its begin"),
            Self::Stopping => (Status::Cancelled, "the orchestrator stopped"),
            Self::Cut(Cut::NoBooks) => (Status::Failed, "the ledger is not available"),
            Self::Cut(Cut::Funds | Cut::Time) => (Status::Failed, "insufficient balance"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(said: Value) -> Said {
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn a_result_is_so_deep_at_most() {
        let nested = |levels| {
            let text = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
            said(
                json!({ "status": "completed", "result": serde_json::from_str::<Value>(&text).unwrap() }),
            )
        };
        assert!(!nested(MAX_LEVELS).is_too_deep());
        assert!(nested(MAX_LEVELS + 1).is_too_deep());
        // What is taken reads back, with all that the ledger has around it.
        let mut standing = Standing::begun(1);
        standing.take(nested(MAX_LEVELS), 10);
        let ending = Ending {
            standing,
            owed_seconds: 1,
            is_delivered: true,
            is_worker_told: false,
            decided_ms: 1,
        };
        let text = json!({ "now": { "in": ending } }).to_string();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::from_value::<Ending>(read["now"]["in"].clone()).unwrap(), ending);
        assert!(said(json!({ "result": [[1]] })).result.is_some_and(|r| !is_within(&r, 1)));
    }

    #[test]
    fn the_same_result_again_is_no_other() {
        let mut standing = Standing::begun(1);
        assert!(standing.take(said(json!({ "status": "running", "progress": 7.9 })), 10));
        assert_eq!((standing.status, standing.progress), (Status::Running, 7));
        assert!(!standing.take(said(json!({ "status": "running", "progress": 7 })), 20));
        assert!(!standing.take(said(json!({ "status": "running", "result": 3 })), 25));
        assert_eq!(standing.brought, None);
        let part = || json!({ "status": "running", "result": { "loss": 0.1 } });
        assert!(standing.take(said(part()), 30));
        let brought = standing.brought.clone().unwrap();
        assert_eq!(brought.0, 30);
        // Also after it was written down and read again.
        let text = serde_json::to_string(&standing).unwrap();
        let mut standing: Standing = serde_json::from_str(&text).unwrap();
        assert!(!standing.take(said(part()), 40));
        assert_eq!(standing.brought, Some(brought));
        // An empty one takes nothing away from what was brought.
        standing.take(said(json!({ "status": "running", "result": {} })), 50);
        assert_eq!(standing.brought.as_ref().unwrap().0, 30);
        assert!(
            standing.take(said(json!({ "status": "nonsense", "result": { "loss": 0.2 } })), 60)
        );
        assert_eq!((standing.brought.unwrap().0, standing.status), (60, Status::Running));
    }
}

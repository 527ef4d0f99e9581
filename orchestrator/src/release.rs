//! Why room was given back: one name space for sessions, reservations and job slots of all kinds, for
//! programs. A reason has the same text in the log, in the metric, in messages to peers and in answers.

use http::HeaderName;
use serde::{Deserialize, Serialize};

/// Tells a peer why its session, or its job, is over.
pub const RELEASE_REASON: HeaderName = HeaderName::from_static("livepeer-release-reason");

/// What the room was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A transcoding session.
    Transcoding,
    /// A batch AI job.
    Ai,
    /// A session of live video.
    LiveVideo,
    /// A session, or a single call, of a live runner.
    LiveRunner,
    /// A job of a brought capability.
    ByocJob,
    /// A stream of one.
    ByocStream,
    /// A training job of one.
    ByocTraining,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Transcoding,
        Self::Ai,
        Self::LiveVideo,
        Self::LiveRunner,
        Self::ByocJob,
        Self::ByocStream,
        Self::ByocTraining,
    ];

    /// As metrics and logs call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transcoding => "transcoding",
            Self::Ai => "ai",
            Self::LiveVideo => "live_video",
            Self::LiveRunner => "live_runner",
            Self::ByocJob => "byoc_job",
            Self::ByocStream => "byoc_stream",
            Self::ByocTraining => "byoc_training",
        }
    }
}

/// Why it was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The job, or the one call, is done.
    Completed,
    /// The client said so.
    ClientStopped,
    /// The client hung up, closed its channel, or sent nothing for too long.
    ClientGone,
    /// Nobody used it for so long.
    LeaseExpired,
    /// Nobody heard of its begin.
    Unheard,
    /// The request turned out to make no sense.
    RequestRefused,
    /// It was not paid for in the first place.
    PaymentFailed,
    /// The balance does not cover what has passed, or comes next.
    OutOfFunds,
    /// The books could not be read or written.
    LedgerUnavailable,
    /// Memory, or a bound of this process, is used up.
    Busy,
    /// It took longer than it may.
    TimedOut,
    /// The worker said no, or that it has failed.
    WorkerRefused,
    /// The worker ended it by itself.
    WorkerStopped,
    /// The worker did not answer, broke off, or gave a wrong answer.
    WorkerFailed,
    /// The worker went away, and no other has room.
    WorkerLost,
    /// The runner ended it by itself.
    RunnerStopped,
    /// The runner cannot be reached, did not begin, or broke off.
    RunnerFailed,
    /// The runner brought nothing of what its client sent, for too long.
    NoOutput,
    /// The runner took itself away.
    RunnerUnregistered,
    /// The runner was not heard of any more.
    RunnerExpired,
    /// The runner is not well any more.
    RunnerUnwell,
    /// This process stops.
    Stopping,
    /// Something of ours broke.
    Internal,
}

impl Reason {
    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientStopped => "client_stopped",
            Self::ClientGone => "client_gone",
            Self::LeaseExpired => "lease_expired",
            Self::Unheard => "unheard",
            Self::RequestRefused => "request_refused",
            Self::PaymentFailed => "payment_failed",
            Self::OutOfFunds => "out_of_funds",
            Self::LedgerUnavailable => "ledger_unavailable",
            Self::Busy => "busy",
            Self::TimedOut => "timed_out",
            Self::WorkerRefused => "worker_refused",
            Self::WorkerStopped => "worker_stopped",
            Self::WorkerFailed => "worker_failed",
            Self::WorkerLost => "worker_lost",
            Self::RunnerStopped => "runner_stopped",
            Self::RunnerFailed => "runner_failed",
            Self::NoOutput => "no_output",
            Self::RunnerUnregistered => "runner_unregistered",
            Self::RunnerExpired => "runner_expired",
            Self::RunnerUnwell => "runner_unwell",
            Self::Stopping => "stopping",
            Self::Internal => "internal",
        }
    }

    /// Whether the runner is to blame: what was not delivered is not paid for then.
    pub fn is_runners_fault(self) -> bool {
        matches!(
            self,
            Self::RunnerStopped
                | Self::RunnerFailed
                | Self::NoOutput
                | Self::RunnerUnregistered
                | Self::RunnerExpired
                | Self::RunnerUnwell
        )
    }

    /// Whether the runner, or this process, has ended what its client would have gone on with: of that, nothing is paid
    /// for of which nothing was delivered.
    pub fn spares_client(self) -> bool {
        self.is_runners_fault() || self == Self::Stopping
    }
}

/// Counts one release.
pub fn released(kind: Kind, why: Reason) {
    let (kind, reason) = (kind.as_str(), why.as_str());
    metrics::counter!("orchestrator_released_total", "kind" => kind, "reason" => reason)
        .increment(1);
    tracing::debug!(kind, reason, "room was given back");
}

/// Room that is taken. Its release is counted when this is dropped, with the last reason that was given; who is
/// dropped without any was waited for by nobody.
#[derive(Debug)]
pub struct Taken {
    kind: Kind,
    why: Reason,
}

impl Taken {
    /// From now on.
    pub fn by(kind: Kind) -> Self {
        Self { kind, why: Reason::ClientGone }
    }

    /// Should it end now, this is why.
    pub fn because(&mut self, why: Reason) {
        self.why = why;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        released(self.kind, self.why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What this file calls kinds and reasons.
    fn names() -> Vec<&'static str> {
        let (source, _) = include_str!("release.rs").split_once("#[cfg(test)]").unwrap();
        let arms = source.lines().filter_map(|line| line.split_once(" => \""));
        arms.map(|(_, name)| name.trim_end_matches("\",")).collect()
    }

    /// The names in the first column of the table under a heading of the manual.
    fn table(heading: &str) -> Vec<String> {
        let manual = include_str!("../../docs/orchestrator.md");
        let (_, after) = manual.split_once(heading).expect(heading);
        let section = after.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_reason_is_written_down_as_it_is_told() {
        for why in [Reason::Completed, Reason::OutOfFunds, Reason::WorkerLost, Reason::Stopping] {
            assert_eq!(serde_json::to_value(why).unwrap(), why.as_str());
        }
    }

    #[test]
    fn the_manual_has_each_reason_and_kind_once_and_no_other() {
        let (names, documented) = (names(), table("\n## Reasons\n"));
        assert!(names.contains(&Kind::ByocTraining.as_str()));
        assert!(names.contains(&Reason::Internal.as_str()));
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "each once");
        assert_eq!(documented.len(), names.len());
        let documented: BTreeSet<_> = documented.iter().map(String::as_str).collect();
        assert_eq!(documented, names.into_iter().collect());
    }
}

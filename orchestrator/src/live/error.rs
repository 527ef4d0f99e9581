//! Why a live video session does not begin.

use crate::service::cashier::Shortfall;
use penstock_trickle::Refusal;
use thiserror::Error;

/// Why a live video session does not begin. The texts go to the gateway (live-video.md section 6).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LiveError {
    /// No runner has room for this model, or none that has room is well; known before any payment is
    /// taken. A gateway goes elsewhere without blame.
    #[error("insufficient capacity")]
    Capacity,
    /// A bound of the channels is met; known before any payment is taken.
    #[error("OrchestratorBusy")]
    Channels(#[source] Refusal),
    /// What is there does not cover the time up to the first charge. It stays the sender's next session's.
    #[error(
        "Insufficient balance: {0} are free in this account, which live video needs to begin \
         (--live-payment-interval-ms of it, a ticket's worth at least, --ticket-ev); pay more"
    )]
    Short(Shortfall),
    /// No runner would begin. What was paid is the sender's next session's.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// A session of this manifest runs already: its client may pay it on, and not begin it again.
    #[error("a session of this manifest is running")]
    Running,
    /// The runner of `/scope` said no to the request: its own word, passed on.
    #[error("{message}")]
    Handshake {
        /// It wants to know who asks (401); else the request makes no sense to it (400).
        unauthorized: bool,
        /// Its words.
        message: String,
    },
    /// No random numbers: ours.
    #[error("internal error")]
    Random,
}

impl RunnerError {
    /// Whether the request, and not the runner, is to blame: another runner would say the same.
    pub fn is_requests_fault(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 415 | 422, .. })
    }

    /// Whether nobody is there to speak to.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Unreachable(why) if why == NO_CONNECTION)
    }

    /// Whether it is certain that nothing was begun, so that another runner may begin.
    pub fn began_nothing(&self) -> bool {
        match self {
            Self::Status { .. } => true,
            Self::Unreachable(_) => self.is_gone(),
            Self::WorkerAway { sent } => !sent,
            Self::Malformed => false,
        }
    }
}

/// Why a runner cannot be reached that was not spoken to at all.
pub const NO_CONNECTION: &str = "no connection";

/// A call to a runner gave nothing. No text says where the runner is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunnerError {
    /// It said no.
    #[error("live-video-to-video container returned {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// No connection, or it broke, or it took too long.
    #[error("live-video-to-video container cannot be reached: {0}")]
    Unreachable(String),
    /// Its worker has no connection, or lost it. That says nothing of the runner.
    #[error("live-video-to-video container cannot be reached: its worker is away")]
    WorkerAway {
        /// The call was sent to the worker before.
        sent: bool,
    },
    /// Its answer makes no sense.
    #[error("live-video-to-video container gave a malformed answer")]
    Malformed,
}

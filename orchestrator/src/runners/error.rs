//! Why a live runner, or somebody who wants one, is refused. The texts begin with the documented ones;
//! where a bound was met they go on with both numbers and the setting.

use crate::release::Reason;
use crate::service::cashier::{MoneyError, Shortfall};
use penstock_trickle::Refusal;
use thiserror::Error;

/// Why not.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// There are none here (404).
    #[error("live runners are not supported")]
    Off,
    /// Only the operator's own (404).
    #[error("dynamic live runner registration is disabled")]
    RegistrationOff,
    /// Not the secret of `--secret-file` (401).
    #[error("invalid registration authorization")]
    RegistrationSecret,
    /// Not the secret that the registration was answered with (401).
    #[error("invalid heartbeat authorization")]
    HeartbeatSecret,
    /// Not the token of this session, or not the secret of this runner (401).
    #[error("invalid authorization")]
    Token,
    /// Nobody of that name, or it is not ready (404).
    #[error("runner not found")]
    NoRunner,
    /// No session of that name, or not any more (404).
    #[error("runner session not found")]
    NoSession(Option<Reason>),
    /// No proxy of that name (404).
    #[error("live runner proxy not found")]
    NoProxy,
    /// No channel of that name (404).
    #[error("trickle channel not found")]
    NoChannel,
    /// The operator's own does not speak for itself (400).
    #[error("static runner cannot heartbeat")]
    StaticHeartbeat,
    /// The same (400).
    #[error("static runner cannot unregister with heartbeat credentials")]
    StaticUnregister,
    /// It does single calls (400).
    #[error("only persistent runners have sessions")]
    NotPersistent,
    /// It has sessions (400).
    #[error("runner is not single-shot")]
    NotSingleShot,
    /// What was said makes no sense (400).
    #[error("{0}")]
    Senseless(String),
    /// Its URL leads where no runner may be (400).
    #[error("invalid runner_url: no runner may be at its address (--runner-networks)")]
    Place,
    /// The path leads elsewhere than below the runner's (400).
    #[error("invalid path")]
    Path,
    /// It is not for applications (405).
    #[error("CONNECT and TRACE are not passed on")]
    Method,
    /// Such a session is there (409).
    #[error("session already exists")]
    Exists,
    /// All its room is taken (503).
    #[error(
        "no capacity available for runner: {used} of {capacity} sessions taken (the runner's capacity)"
    )]
    Full {
        /// Sessions it has.
        used: usize,
        /// Sessions it may have.
        capacity: usize,
    },
    /// A bound of this process is met (503).
    #[error("no capacity available: {most} of {most} {what} ({setting})")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
        /// What says so.
        setting: &'static str,
    },
    /// It has no price in wei now (503).
    #[error("live runner price unavailable: {0}")]
    NoPrice(&'static str),
    /// It does not answer, or not as one that is well: nothing was paid (503).
    #[error("the runner is not well; nothing was charged")]
    Unwell,
    /// Nobody says who pays (402, in the envelope).
    #[error("invalid live runner payment signer address")]
    NoPayer,
    /// No ticket parameters can be made (500; 503 where another orchestrator may do better).
    #[error("{0}")]
    Offer(#[source] MoneyError),
    /// The payment was not taken (400; 503 if that is our fault).
    #[error("{0}")]
    Payment(#[source] MoneyError),
    /// The manifest is not that of the token (403).
    #[error("mismatched manifest and auth token")]
    Manifest,
    /// The manifest is not that of the session (403).
    #[error("mismatched session and payment manifest")]
    SessionManifest,
    /// Somebody else pays the session (403).
    #[error("mismatched session and payment sender")]
    SessionPayer,
    /// Another price (400).
    #[error(
        "payment price does not match live runner price: {said} wei a unit said, {asked} asked"
    )]
    Price {
        /// As the payment says.
        said: String,
        /// At least.
        asked: i64,
    },
    /// It is paid once (409).
    #[error("fixed-price live runner sessions do not accept follow-up payments")]
    Fixed,
    /// Paid too little to begin (400).
    #[error("Insufficient balance: {short} for {what}; pay more at once")]
    Short {
        /// What is there, and what is needed.
        short: Shortfall,
        /// What for.
        what: &'static str,
    },
    /// A request is larger than allowed (413).
    #[error("the body is larger than {0} bytes (--live-runner-body-bytes)")]
    BodyTooLarge(u64),
    /// A request broke off (400).
    #[error("the body ended early")]
    BodyBroken,
    /// A request whose client sends no more of it (408).
    #[error("the request was silent for {0} ms (--live-runner-idle-ms)")]
    BodySilent(u128),
    /// The runner cannot be reached, or broke off (502).
    #[error("the runner cannot be reached")]
    Unreachable,
    /// The runner took too long (502).
    #[error("the runner was silent for {0} ms (--live-runner-idle-ms)")]
    Silent(u128),
    /// A bound of the channels is met (503).
    #[error("no channel: {0} ({1})")]
    Channels(#[source] Refusal, &'static str),
    /// No random numbers, or a task died: ours (500).
    #[error("internal error")]
    Internal,
}

//! What can go wrong with a call, whose fault it is, what to do next, and whether the call may
//! have been paid.

use penstock_wire::WireError;
use thiserror::Error;

/// Status of a signer: the session's token or ticket parameters are (nearly) out of date; ask the
/// orchestrator again and repeat (remote-signer.md section 4).
pub const STATUS_REFRESH_SESSION: u16 = 480;
/// Status of a signer: the price is above a ceiling.
pub const STATUS_PRICE_EXCEEDED: u16 = 481;
/// Status of a signer: the units asked for need no ticket yet.
pub const STATUS_NO_TICKETS: u16 = 482;

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Operation {
    /// gRPC `GetOrchestrator`.
    #[error("GetOrchestrator")]
    GetOrchestrator,
    /// gRPC `Ping`.
    #[error("Ping")]
    Ping,
    /// gRPC `EndTranscodingSession`.
    #[error("EndTranscodingSession")]
    EndSession,
    /// `GET /discovery` of an orchestrator.
    #[error("GET /discovery")]
    Discovery,
    /// `POST /segment`.
    #[error("POST /segment")]
    Segment,
    /// `POST /payment`.
    #[error("POST /payment")]
    Payment,
    /// A batch AI route.
    #[error("AI job")]
    AiJob,
    /// `GET /process/token`.
    #[error("GET /process/token")]
    ByocToken,
    /// `POST /process/request/…`.
    #[error("POST /process/request")]
    ByocJob,
    /// Fetching a result.
    #[error("download")]
    Download,
    /// `POST /sign-orchestrator-info`.
    #[error("POST /sign-orchestrator-info")]
    SignOrchestratorInfo,
    /// `POST /generate-live-payment`.
    #[error("POST /generate-live-payment")]
    GeneratePayment,
    /// `POST /sign-segment-credentials`.
    #[error("POST /sign-segment-credentials")]
    SignSegment,
    /// `POST /sign-byoc-job`.
    #[error("POST /sign-byoc-job")]
    SignByocJob,
    /// `GET /discover-orchestrators`, or an operator's webhook.
    #[error("GET /discover-orchestrators")]
    DiscoverOrchestrators,
    /// `POST /v1/verify`.
    #[error("POST /v1/verify")]
    Verify,
    /// gRPC `QueueTicket` of a redeemer.
    #[error("QueueTicket")]
    QueueTicket,
    /// gRPC `MaxFloat` of a redeemer.
    #[error("MaxFloat")]
    MaxFloat,
    /// gRPC `MonitorMaxFloat` of a redeemer.
    #[error("MonitorMaxFloat")]
    MonitorMaxFloat,
}

impl Operation {
    /// Whether the call carries tickets.
    pub fn carries_payment(self) -> bool {
        matches!(self, Self::Segment | Self::Payment | Self::AiJob | Self::ByocJob)
    }

    /// Whether a redeemer is asked. There is one, and what it is asked may be repeated.
    pub fn is_redeemer(self) -> bool {
        matches!(self, Self::QueueTicket | Self::MaxFloat | Self::MonitorMaxFloat)
    }

    /// Whether the signer is asked.
    pub fn is_signer(self) -> bool {
        matches!(
            self,
            Self::SignOrchestratorInfo
                | Self::GeneratePayment
                | Self::SignSegment
                | Self::SignByocJob
                | Self::DiscoverOrchestrators
                | Self::Verify
        )
    }
}

/// A call that gave no result.
#[derive(Debug, Error)]
#[error("{operation} at {peer}")]
pub struct CallError {
    /// Which call.
    pub operation: Operation,
    /// Origin of the peer, `https://host:port`.
    pub peer: String,
    /// What happened.
    #[source]
    pub kind: CallErrorKind,
}

/// What happened to a call.
#[derive(Debug, Error)]
pub enum CallErrorKind {
    /// The URL cannot be called: not http(s), or not where this client may connect to.
    #[error("not a URL that may be called: {0}")]
    Url(String),
    /// The request could not be built.
    #[error("bad request: {0}")]
    Request(String),
    /// No connection; nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No answer began in time.
    #[error("header timeout")]
    HeaderTimeout,
    /// The answer did not end in time.
    #[error("body timeout")]
    BodyTimeout,
    /// The peer, or its host, gave no sign of life: whatever was under way on the connection is lost.
    #[error("no sign of life")]
    Silent,
    /// The connection ended before the answer did.
    #[error("connection broke: {0}")]
    Broken(String),
    /// An answer that is not a success.
    #[error("answered {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The peer's words, bounded.
        message: String,
        /// The peer's error code, if it is one of ours.
        code: Option<String>,
        /// `Retry-After` in seconds.
        retry_after_s: Option<u64>,
    },
    /// A gRPC error.
    #[error("gRPC status {code}: {message}")]
    Grpc {
        /// gRPC status code.
        code: i32,
        /// The peer's words, bounded.
        message: String,
    },
    /// An answer above its limit.
    #[error("answer is longer than {max} bytes")]
    AnswerTooLong {
        /// The limit.
        max: u64,
    },
    /// An answer of the wrong form.
    #[error("unusable answer")]
    Answer(#[source] WireError),
    /// The orchestrator did take the job and says that it failed (`TranscodeResult.error`).
    #[error("{0}")]
    Job(String),
    /// The orchestrator's result is neither data nor error.
    #[error("UnknownResponse")]
    NoResult,
}

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Our configuration, or what we sent.
    Us,
    /// The caller's job or media: it would fail anywhere.
    Job,
    /// The peer.
    Peer,
    /// Something between us and the peer, or the peer is gone.
    Network,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask the orchestrator for a new offer (token, ticket parameters) and repeat there.
    Refresh,
    /// The price is above a ceiling: another orchestrator.
    PriceTooHigh,
    /// The signer needs more units before a ticket is worth making: ask for more.
    NoTickets,
    /// The balance there is below a ticket's EV: buy more and repeat there.
    BuyMore,
    /// It has no room now: another orchestrator, without holding it against this one.
    Busy,
    /// Another orchestrator, and suspend this one.
    Elsewhere,
    /// The same call again, later; it is idempotent.
    RetrySame,
    /// The job would fail anywhere: tell the caller.
    Reject,
    /// Nothing helps until an operator does.
    GiveUp,
}

/// Whether tickets that went along with a failed call were credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paid {
    /// Certainly not, or there were none: they may be sent elsewhere in the same session.
    No,
    /// Unknown: count on neither.
    Maybe,
    /// Certainly: they are credit at that orchestrator.
    Yes,
}

impl CallError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        crate::classify::verdict(self.operation, &self.kind).fault
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        crate::classify::verdict(self.operation, &self.kind).next
    }

    /// Whether tickets in the call were credited.
    pub fn paid(&self) -> Paid {
        crate::classify::verdict(self.operation, &self.kind).paid
    }

    /// The peer's own words, if it answered; else our description.
    pub fn message(&self) -> String {
        match &self.kind {
            CallErrorKind::Status { message, .. } | CallErrorKind::Grpc { message, .. } => {
                message.clone()
            }
            other => other.to_string(),
        }
    }

    /// Seconds after which the peer said that it is worth coming again.
    pub fn retry_after_s(&self) -> Option<u32> {
        match &self.kind {
            CallErrorKind::Status { retry_after_s, .. } => {
                retry_after_s.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
            }
            _ => None,
        }
    }

    /// The peer's own word for what happened, if it said one.
    pub fn code(&self) -> Option<&str> {
        match &self.kind {
            CallErrorKind::Status { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// The HTTP status, if the peer answered with one.
    pub fn status(&self) -> Option<u16> {
        match self.kind {
            CallErrorKind::Status { status, .. } => Some(status),
            _ => None,
        }
    }
}

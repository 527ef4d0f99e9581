//! The one place where what went wrong becomes an HTTP status. Bodies are plain text with a line
//! end, as the network's gateways read them (orchestrator-wire.md section 1).

use crate::ai::audio::AudioError;
use crate::byoc::{error::ByocError, streams::error::StreamError, training::error::TrainingError};
use crate::live::error::LiveError;
use crate::release::{RELEASE_REASON, Reason};
use crate::runners::error::RunnerError;
use crate::service::{
    cashier::{MoneyError, Shortfall},
    credentials::HeaderRefusal,
    fetch::FetchError,
};
use crate::workers::ai::AiError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use thiserror::Error;

/// What passes may be asked for again after so many seconds.
pub const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Why a request is not served.
#[derive(Debug, Error)]
pub enum JobError {
    /// The two headers (402 or 403).
    #[error(transparent)]
    Headers(#[from] HeaderRefusal),
    /// No offer can be made for the answer (row 9).
    #[error("Internal Server Error")]
    Info(#[source] MoneyError),
    /// The chain or the ledger is away, or what an ether costs is not known: ours, and it passes.
    #[error("{0}")]
    Away(#[source] MoneyError),
    /// The payment was not taken, or not whole (row 10).
    #[error("{0}")]
    Payment(#[source] MoneyError),
    /// Paid too little to begin (row 11).
    #[error(
        "Insufficient balance: {0} are free in this account, which a job needs to begin (a ticket's worth, \
         --ticket-ev); pay more"
    )]
    InsufficientBalance(Shortfall),
    /// The body broke off.
    #[error("the body ended early")]
    BodyBroken,
    /// The body did not come.
    #[error("the body came too slowly (--peer-pause-ms)")]
    BodyTooSlow,
    /// The body is larger than allowed.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(u64),
    /// The segment's URL cannot be fetched (row 13).
    #[error("BadRequest")]
    Fetch(#[source] FetchError),
    /// The data is not what was signed (row 14).
    #[error("Forbidden")]
    WrongHash,
    /// An AI request that makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// How much work it is cannot be told.
    #[error("Unable to calculate duration")]
    Audio(#[source] AudioError),
    /// No room for this model, or the job failed.
    #[error("{0}")]
    Ai(#[source] AiError),
    /// Live video does not begin.
    #[error("{0}")]
    Live(#[from] LiveError),
    /// A brought capability's job, or terms for one.
    #[error("{0}")]
    Byoc(#[from] ByocError),
    /// A stream of one.
    #[error("{0}")]
    Stream(#[from] StreamError),
    /// A training job of one.
    #[error("{0}")]
    Training(#[from] TrainingError),
    /// A live runner, or a session of one.
    #[error("{0}")]
    Runner(#[from] RunnerError),
    /// A worker's upload cannot be stored.
    #[error("Could not create storage to receive results")]
    Storage,
    /// Memory for bodies is used up.
    #[error("OrchestratorBusy")]
    Busy,
    /// The process is stopping.
    #[error("OrchestratorCapped")]
    Draining,
}

impl JobError {
    /// No offer can be made, or a fee not be booked. The reference says 500 to all of it; what passes is
    /// worth asking for again, so that it is 503 here, as where a payment meets it.
    pub fn of_money(error: MoneyError) -> Self {
        if error.passes() { Self::Away(error) } else { Self::Info(error) }
    }

    /// Whether the same request may do in a moment: what we lean on is away. The answer says so.
    fn passes(&self) -> bool {
        match self {
            Self::Away(_)
            | Self::Byoc(ByocError::NoBooks)
            | Self::Stream(StreamError::Start(ByocError::NoBooks))
            | Self::Training(TrainingError::Money(ByocError::NoBooks) | TrainingError::Ledger(_)) => {
                true
            }
            Self::Payment(error)
            | Self::Byoc(ByocError::Money(error) | ByocError::Terms(error))
            | Self::Stream(
                StreamError::Start(ByocError::Money(error))
                | StreamError::Payment(ByocError::Money(error)),
            )
            | Self::Training(TrainingError::Money(ByocError::Money(error)))
            | Self::Runner(RunnerError::Payment(error) | RunnerError::Offer(error)) => {
                error.passes()
            }
            _ => false,
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Headers(HeaderRefusal::Payment(_)) => StatusCode::PAYMENT_REQUIRED,
            Self::Headers(HeaderRefusal::Credential(_) | HeaderRefusal::Denied(_))
            | Self::WrongHash => StatusCode::FORBIDDEN,
            Self::Info(_) | Self::Storage => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Payment(error) if !error.is_callers_fault() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Payment(_) | Self::InsufficientBalance(_) => StatusCode::BAD_REQUEST,
            Self::BodyBroken | Self::Fetch(_) | Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Audio(AudioError::Probe(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Audio(_) => StatusCode::BAD_REQUEST,
            Self::Live(LiveError::Capacity | LiveError::Channels(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Live(LiveError::Running) => StatusCode::CONFLICT,
            Self::Live(LiveError::Short(_)) => StatusCode::BAD_REQUEST,
            Self::Live(LiveError::Handshake { unauthorized: true, .. }) => StatusCode::UNAUTHORIZED,
            Self::Live(LiveError::Handshake { unauthorized: false, .. }) => StatusCode::BAD_REQUEST,
            Self::Live(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Byoc(
                ByocError::NoCapacity
                | ByocError::Full { .. }
                | ByocError::NoBooks
                | ByocError::Money(_),
            ) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Byoc(ByocError::Terms(error)) if error.is_elsewhere_better() => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Byoc(_) => StatusCode::BAD_REQUEST,
            Self::Stream(error) => error.status(),
            Self::Training(error) => error.status(),
            Self::Ai(AiError::Capacity) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Ai(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Runner(error) => runner_status(error),
            Self::Away(_) | Self::Busy | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl JobError {
    /// Why the room that was taken for a job is given back when it ends so.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Info(error) | Self::Away(error) | Self::Payment(error) => error.reason(),
            Self::Headers(_) | Self::InsufficientBalance(_) => Reason::PaymentFailed,
            Self::BodyBroken | Self::BodyTooSlow | Self::Ai(AiError::Unheard) => Reason::ClientGone,
            Self::BodyTooLarge(_)
            | Self::Fetch(_)
            | Self::WrongHash
            | Self::BadRequest(_)
            | Self::Audio(AudioError::Format | AudioError::NoDuration) => Reason::RequestRefused,
            Self::Ai(AiError::Capacity) => Reason::Busy,
            Self::Ai(AiError::WorkersLost) => Reason::WorkerLost,
            Self::Ai(AiError::Worker(_)) => Reason::WorkerRefused,
            Self::Ai(AiError::TooLong) => Reason::TimedOut,
            Self::Live(LiveError::Capacity | LiveError::Channels(_)) => Reason::Busy,
            Self::Live(LiveError::Short(_)) => Reason::PaymentFailed,
            Self::Live(LiveError::Runner(_)) => Reason::RunnerFailed,
            Self::Live(LiveError::Running | LiveError::Handshake { .. }) => Reason::RequestRefused,
            Self::Byoc(error) | Self::Stream(StreamError::Start(error)) => error.reason(),
            Self::Stream(StreamError::Channels(_)) => Reason::Busy,
            Self::Stream(StreamError::Worker) | Self::Training(TrainingError::Worker) => {
                Reason::WorkerFailed
            }
            Self::Training(TrainingError::Money(error)) => error.reason(),
            Self::Training(TrainingError::Ledger(_)) => Reason::LedgerUnavailable,
            Self::Stream(_) | Self::Training(_) => Reason::RequestRefused,
            Self::Runner(RunnerError::NoSession(Some(reason))) => *reason,
            Self::Runner(_) => Reason::RequestRefused,
            Self::Busy => Reason::Busy,
            Self::Draining => Reason::Stopping,
            Self::Audio(AudioError::Probe(_)) | Self::Live(LiveError::Random) | Self::Storage => {
                Reason::Internal
            }
        }
    }

    /// Whether a job that had begun, or a session, ended so: then the answer says why, for programs.
    fn is_an_end(&self) -> bool {
        match self {
            Self::Ai(error) => *error != AiError::Capacity,
            Self::Live(LiveError::Runner(_))
            | Self::Stream(StreamError::Worker)
            | Self::Training(TrainingError::Worker | TrainingError::Money(_))
            | Self::Runner(RunnerError::NoSession(Some(_))) => true,
            _ => false,
        }
    }
}

fn runner_status(error: &RunnerError) -> StatusCode {
    use RunnerError as E;
    match error {
        E::Off | E::RegistrationOff | E::NoRunner | E::NoSession(_) | E::NoProxy | E::NoChannel => {
            StatusCode::NOT_FOUND
        }
        E::RegistrationSecret | E::HeartbeatSecret | E::Token => StatusCode::UNAUTHORIZED,
        E::StaticHeartbeat
        | E::StaticUnregister
        | E::NotPersistent
        | E::NotSingleShot
        | E::Senseless(_)
        | E::Place
        | E::Path
        | E::BodyBroken
        | E::Price { .. }
        | E::Short { .. } => StatusCode::BAD_REQUEST,
        E::Method => StatusCode::METHOD_NOT_ALLOWED,
        E::Exists | E::Fixed => StatusCode::CONFLICT,
        E::Full { .. } | E::TooMany { .. } | E::NoPrice(_) | E::Unwell | E::Channels(..) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        E::NoPayer => StatusCode::PAYMENT_REQUIRED,
        E::Offer(error) if error.is_elsewhere_better() => StatusCode::SERVICE_UNAVAILABLE,
        E::Offer(_) | E::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        E::Payment(error) if !error.is_callers_fault() => StatusCode::SERVICE_UNAVAILABLE,
        E::Payment(_) => StatusCode::BAD_REQUEST,
        E::Manifest | E::SessionManifest | E::SessionPayer => StatusCode::FORBIDDEN,
        E::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        E::BodySilent(_) => StatusCode::REQUEST_TIMEOUT,
        E::Unreachable | E::Silent(_) => StatusCode::BAD_GATEWAY,
    }
}

impl IntoResponse for JobError {
    fn into_response(self) -> Response {
        let status = self.status();
        metrics::counter!("orchestrator_requests_refused_total", "status" => status.as_u16().to_string())
            .increment(1);
        let passes = self.passes();
        let cause = std::error::Error::source(&self).map(ToString::to_string);
        if status.is_server_error() {
            tracing::warn!(error = %self, cause, %status, "request failed");
        } else {
            tracing::debug!(error = %self, cause, %status, "request refused");
        }
        let mut answer = match &self {
            // The one answer that the network's clients read as JSON.
            Self::Runner(RunnerError::NoPayer) => {
                penstock_http_kit::ApiError::new(status, self.to_string()).into_response()
            }
            error if error.is_an_end() => {
                let told = HeaderValue::from_static(error.reason().as_str());
                ([(RELEASE_REASON, told)], text(status, self.to_string())).into_response()
            }
            _ => text(status, self.to_string()),
        };
        if passes {
            answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        answer
    }
}

/// A plain text answer with a line end.
pub fn text(status: StatusCode, message: impl Into<String>) -> Response {
    let mut body = message.into();
    body.push('\n');
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(header::CONTENT_TYPE, plain)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_chain::ChainError;
    use penstock_domain::Address;
    use penstock_ledger::orchestrator::{LeaseTime, LedgerError, open};

    #[tokio::test]
    async fn what_passes_may_be_asked_for_again() {
        let told = |error: MoneyError| {
            let error = JobError::of_money(error);
            let told = (error.status().as_u16(), error.to_string());
            let again = error.into_response().headers().contains_key(header::RETRY_AFTER);
            assert_eq!(again, told.0 == 503, "{told:?}");
            told
        };
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("books").display());
        let ledger = open(&url, LeaseTime::default()).await.unwrap();
        ledger.close().await;
        let away = ledger.totals().await.unwrap_err();
        assert_eq!(told(away.into()), (503, "the ledger is not available".to_owned()));
        let silent = ChainError::Unavailable { reason: "asleep".into() };
        assert_eq!(told(silent.into()), (503, "the chain is not available".to_owned()));
        let pool = MoneyError::Inactive { recipient: Address::ZERO, round: 7 };
        let (status, text) = told(pool);
        assert!(status == 503 && text.contains("inactive in round 7"), "{status} {text}");
        assert_eq!(told(MoneyError::Lost).0, 503);
        // These are there tomorrow as well.
        let internal = (500, "Internal Server Error".to_owned());
        assert_eq!(told(LedgerError::Corrupt { what: "nonce" }.into()), internal);
        assert_eq!(told(MoneyError::Internal), internal);
    }
}

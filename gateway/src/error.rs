//! The only place where failures become HTTP statuses. Texts are the documented ones
//! (ingest-playback.md section 3.2, ai-pipelines.md section 2.3); the body is always the JSON
//! envelope, whose `message` carries the text.
//!
//! Three statuses differ from the Go node on purpose, because it answers 500 to what the caller has
//! to change: a body that is too large (413), a duration out of range (400), a configuration header
//! with impossible renditions (400).

use crate::{
    front::{
        auth::Refused,
        caller::NotAllowed,
        idempotency::KeyError,
        limits::{NothingDone, OverLimit},
        workload::Busy,
    },
    media::{config_header::BadConfig, path::BadPath},
    service::{
        ai::{AiError, BadRequest},
        byoc::ByocError,
        error::JobError,
        push::PushError,
        recording::RecordingError,
        stream_auth::NotAdmitted,
    },
};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use penstock_http_kit::ApiError;
use penstock_store::{SEGMENT, StoreError};
use thiserror::Error;

/// What bounds a file in the segment store.
const FILE_SETTINGS: &str =
    "--segment-store-file-bytes (in Redis) or --segment-store-bytes (in memory, on a disk)";
/// Seconds after which a client may try again when the gateway or the network has no room.
const RETRY_AFTER_S: u32 = 2;

/// A request that gets no result.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// `Livepeer-Transcode-Configuration`.
    #[error("failed to parse transcode config header: {0}")]
    Config(#[from] BadConfig),
    /// The URL of a push.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// A body above its limit.
    #[error("Error reading http request body: input bigger than max buffer size")]
    TooLarge,
    /// The body ended early or broke.
    #[error("Error reading http request body: {0}")]
    Body(String),
    /// No place for it.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// `Content-Slice-From` after `Content-Slice-To`.
    #[error("Invalid slice config from={from_ms}ms to={to_ms}ms")]
    Slice {
        /// Milliseconds.
        from_ms: u64,
        /// Milliseconds.
        to_ms: u64,
    },
    /// A duration below 0 or above 300 s.
    #[error(
        "http push error processing segment url={url} manifestID={stream} err=\"invalid duration {duration}\""
    )]
    Duration {
        /// The path.
        url: String,
        /// The stream.
        stream: String,
        /// As sent.
        duration: String,
    },
    /// A push without a result.
    #[error("{}", push_text(.url, .stream, .error))]
    Push {
        /// The path.
        url: String,
        /// The stream.
        stream: String,
        /// Why.
        error: PushError,
    },
    /// An AI job without a result.
    #[error(transparent)]
    Ai(#[from] AiError),
    /// A brought job without an answer.
    #[error(transparent)]
    Byoc(#[from] ByocError),
    /// A multipart form that cannot be read, or a field that is wrong.
    #[error("{0}")]
    Form(String),
    /// Anything else.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A recording that cannot be given.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The caller's account does not have it.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// No such stream, rendition or segment.
    #[error("not found")]
    NotFound,
    /// Nobody is let in by this credential.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// More than the caller may ask for.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// `Idempotency-Key`.
    #[error("invalid Idempotency-Key: 1 to 128 printable ASCII characters without spaces")]
    IdempotencyKey,
    /// The key cannot be used so.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A handler was reached around the front door: a bug, and nobody is let in by it.
    #[error("the caller is not known")]
    Unguarded,
    /// The task of the request ended without an answer.
    #[error("the request was given up")]
    Lost,
}

fn push_text(url: &str, stream: &str, error: &PushError) -> String {
    match error {
        PushError::NoMedia => format!("Error getting codec info url={url}"),
        PushError::UnknownCodec => format!("Unknown input stream codec url={url}"),
        PushError::NotAdmitted(NotAdmitted::Denied) => {
            format!("Could not create stream ID: url={url}")
        }
        PushError::NotAdmitted(why) => {
            format!("Could not create stream ID: url={url} err=\"{why}\"")
        }
        PushError::Job(JobError::NoOrchestrators(_)) => "No sessions available".to_owned(),
        other => format!(
            "http push error processing segment url={url} manifestID={stream} err=\"{other}\""
        ),
    }
}

impl GatewayError {
    /// The status and a stable word for programs.
    fn status(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::Config(_) => (S::BAD_REQUEST, "bad_transcode_config"),
            Self::Path(BadPath::Extension(_)) => (S::BAD_REQUEST, "bad_extension"),
            Self::Path(BadPath::Stream(_)) => (S::BAD_REQUEST, "bad_url"),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::Body(_) => (S::BAD_REQUEST, "bad_body"),
            Self::Busy(Busy::Caller { .. }) => (S::TOO_MANY_REQUESTS, "too_many_jobs"),
            Self::Busy(_) => (S::SERVICE_UNAVAILABLE, "busy"),
            Self::Refused(Refused::Missing | Refused::Unknown(_)) => {
                (S::UNAUTHORIZED, "unauthorized")
            }
            Self::Refused(Refused::Forbidden(_)) => (S::FORBIDDEN, "forbidden"),
            Self::Refused(Refused::Unavailable(_)) => (S::SERVICE_UNAVAILABLE, "auth_unavailable"),
            Self::OverLimit(OverLimit::Rate { .. }) => (S::TOO_MANY_REQUESTS, "rate_limited"),
            Self::OverLimit(OverLimit::Day { .. }) => (S::TOO_MANY_REQUESTS, "quota_exceeded"),
            Self::Key(KeyError::Reused) => (S::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            Self::Key(KeyError::UnderWay) => (S::CONFLICT, "idempotency_in_progress"),
            Self::Key(KeyError::AnswerGone) => (S::CONFLICT, "idempotent_answer_gone"),
            Self::IdempotencyKey => (S::BAD_REQUEST, "bad_idempotency_key"),
            Self::Slice { .. } => (S::BAD_REQUEST, "bad_slice"),
            Self::Duration { .. } => (S::BAD_REQUEST, "bad_duration"),
            Self::Push { error: PushError::NoMedia, .. } => (S::UNPROCESSABLE_ENTITY, "no_media"),
            Self::Push { error: PushError::UnknownCodec, .. } => {
                (S::UNPROCESSABLE_ENTITY, "unknown_codec")
            }
            Self::Push { error: PushError::PixelFormat, .. } => {
                (S::UNPROCESSABLE_ENTITY, "unsupported_input")
            }
            Self::Push { error: PushError::NotAllowed(_), .. } | Self::NotAllowed(_) => {
                (S::FORBIDDEN, "not_allowed")
            }
            Self::Push { error: PushError::NotAdmitted(why), .. } => match why {
                NotAdmitted::Denied => (S::FORBIDDEN, "stream_denied"),
                NotAdmitted::Mismatch => (S::BAD_REQUEST, "profiles_mismatch"),
                NotAdmitted::Id(_) => (S::BAD_REQUEST, "bad_manifest_id"),
                NotAdmitted::RecordStore(_) => (S::BAD_REQUEST, "bad_record_store"),
                NotAdmitted::Webhook(_) => (S::SERVICE_UNAVAILABLE, "stream_webhook_unavailable"),
            },
            Self::Push { error: PushError::Job(error), .. } => match error {
                JobError::Rejected(_) => (S::UNPROCESSABLE_ENTITY, "unsupported_input"),
                JobError::Exhausted(_) => (S::UNPROCESSABLE_ENTITY, "attempts_exhausted"),
                other => job_status(other),
            },
            Self::Byoc(ByocError::Capability) => (S::BAD_REQUEST, "bad_capability"),
            Self::Byoc(ByocError::TooLong { .. }) => (S::BAD_REQUEST, "bad_field"),
            Self::Byoc(ByocError::Nobody(_)) => (S::BAD_REQUEST, "nobody_has_it"),
            Self::Byoc(ByocError::NotAllowed(_)) => (S::FORBIDDEN, "not_allowed"),
            Self::Byoc(ByocError::Refused { status, .. }) => {
                let (other, code) = (S::BAD_REQUEST, "worker_refused");
                (S::from_u16(*status).unwrap_or(other), code)
            }
            Self::Byoc(ByocError::Job(error)) => job_status(error),
            Self::Ai(AiError::Bad(bad)) => bad_request(bad),
            Self::Ai(AiError::NotAllowed(_)) => (S::FORBIDDEN, "not_allowed"),
            Self::Ai(AiError::Machine(_)) => (S::INTERNAL_SERVER_ERROR, "internal"),
            Self::Ai(AiError::Job(error)) | Self::Job(error) => match error {
                JobError::Rejected(_) => (S::BAD_REQUEST, "bad_request"),
                other => job_status(other),
            },
            Self::Form(_) => (S::BAD_REQUEST, "bad_form"),
            Self::Recording(error) => match error {
                RecordingError::NotFound | RecordingError::NoFilm => (S::NOT_FOUND, "not_found"),
                RecordingError::Kind => (S::BAD_REQUEST, "bad_extension"),
                RecordingError::Busy => (S::SERVICE_UNAVAILABLE, "busy"),
                RecordingError::NotAdmitted(NotAdmitted::Webhook(_)) => {
                    (S::SERVICE_UNAVAILABLE, "stream_webhook_unavailable")
                }
                RecordingError::NotAdmitted(_) => (S::FORBIDDEN, "stream_denied"),
                RecordingError::Store(error) if error.is_retryable() => {
                    (S::SERVICE_UNAVAILABLE, "store_unavailable")
                }
                RecordingError::Store(_) => (S::INTERNAL_SERVER_ERROR, "internal"),
            },
            Self::NotFound => (S::NOT_FOUND, "not_found"),
            Self::Unguarded | Self::Lost => (S::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

fn bad_request(bad: &BadRequest) -> (StatusCode, &'static str) {
    use StatusCode as S;
    match bad {
        BadRequest::Json(_) => (S::BAD_REQUEST, "bad_json"),
        BadRequest::Image => (S::BAD_REQUEST, "bad_image"),
        BadRequest::Duration(_) => (S::BAD_REQUEST, "bad_audio"),
        BadRequest::Model => (S::BAD_REQUEST, "bad_model"),
        BadRequest::TooMuch => (S::BAD_REQUEST, "too_much"),
        _ => (S::BAD_REQUEST, "bad_field"),
    }
}

impl From<BadRequest> for GatewayError {
    fn from(bad: BadRequest) -> Self {
        Self::Ai(bad.into())
    }
}

fn job_status(error: &JobError) -> (StatusCode, &'static str) {
    use StatusCode as S;
    match error {
        JobError::NoOrchestrators(_) => (S::SERVICE_UNAVAILABLE, "no_orchestrators"),
        JobError::Exhausted(_) => (S::SERVICE_UNAVAILABLE, "attempts_exhausted"),
        JobError::Busy(_) => (S::SERVICE_UNAVAILABLE, "busy"),
        JobError::Rejected(_) => (S::BAD_REQUEST, "bad_request"),
        JobError::Budget { .. } => (S::TOO_MANY_REQUESTS, "budget_exceeded"),
        JobError::Forbidden(_) => (S::FORBIDDEN, "forbidden"),
        JobError::Signer(_) => (S::SERVICE_UNAVAILABLE, "signer_unavailable"),
        JobError::Store(error) if error.is_retryable() => {
            (S::SERVICE_UNAVAILABLE, "store_unavailable")
        }
        JobError::Store(StoreError::TooLarge { what: SEGMENT, .. }) => {
            (S::PAYLOAD_TOO_LARGE, "file_too_large")
        }
        JobError::Store(_) | JobError::Internal(_) => (S::INTERNAL_SERVER_ERROR, "internal"),
    }
}

impl IntoResponse for GatewayError {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let text = self.to_string();
        // The push route's texts are part of the protocol; elsewhere what happened inside is for
        // the log and not for the client (ai-pipelines.md section 2.3).
        let is_push = matches!(self, Self::Push { .. });
        if status.is_server_error() {
            tracing::warn!(%status, code, error = text, "a request failed");
        }
        metrics::counter!("penstock_gateway_errors_total", "code" => code).increment(1);
        let message = match status {
            StatusCode::INTERNAL_SERVER_ERROR => "Internal Server Error".to_owned(),
            StatusCode::SERVICE_UNAVAILABLE if !is_push => "Service Unavailable Error".to_owned(),
            _ if code == "file_too_large" => format!("{text}: see {FILE_SETTINGS}"),
            _ => text,
        };
        let mut error = ApiError::new(status, message).with_code(code);
        if let Some(seconds) = self.retry_after_s(status, code) {
            error = error.with_retry_after(seconds);
        }
        if status == StatusCode::UNAUTHORIZED {
            error = error.with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let mut response = error.into_response();
        if self.is_before_work() {
            response.extensions_mut().insert(NothingDone);
        }
        if let Self::OverLimit(over) = &self {
            over.standing().write(response.headers_mut());
        }
        response
    }
}

impl GatewayError {
    /// Whether the request was turned away before anything was tried, by the state of things and not for what
    /// it asks.
    fn is_before_work(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Byoc(ByocError::Nobody(_)) => true,
            Self::Ai(AiError::Job(error))
            | Self::Job(error)
            | Self::Byoc(ByocError::Job(error))
            | Self::Push { error: PushError::Job(error), .. } => {
                matches!(error, JobError::NoOrchestrators(_) | JobError::Busy(_))
            }
            _ => false,
        }
    }

    /// When it is worth coming again, seconds.
    fn retry_after_s(&self, status: StatusCode, code: &str) -> Option<u32> {
        match (self, status) {
            (Self::OverLimit(over), _) => Some(over.retry_after_s()),
            (
                Self::Ai(AiError::Job(error))
                | Self::Job(error)
                | Self::Byoc(ByocError::Job(error))
                | Self::Push { error: PushError::Job(error), .. },
                StatusCode::TOO_MANY_REQUESTS,
            ) => error.retry_after_s().or(Some(RETRY_AFTER_S)),
            (Self::Key(KeyError::UnderWay) | Self::Byoc(ByocError::Nobody(_)), _) => {
                Some(RETRY_AFTER_S)
            }
            // The store comes back by itself, and soon.
            (_, StatusCode::SERVICE_UNAVAILABLE) if code == "store_unavailable" => Some(1),
            (_, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
                Some(RETRY_AFTER_S)
            }
            _ => None,
        }
    }
}

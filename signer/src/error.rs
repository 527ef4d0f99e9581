//! Everything that can go wrong, and the one place that gives it an HTTP status.
//!
//! Texts and statuses of `/generate-live-payment` are those of remote-signer.md section 4. As
//! there, 500 and 503 never say more than their name to the caller; the log has the cause.

use crate::{
    auth::{AuthError, manage::ManageError, webhook::Refusal as Denied},
    service::{
        charges::OverSpend,
        limits::{Limit, TooManyTickets},
    },
};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use penstock_keys::{KeyError, Refusal};
use penstock_ledger::signer::LedgerError;
use penstock_payments::{BillingError, MaxPriceError, PriceExceeded, SenderError};
use thiserror::Error;

/// "Refresh the session": ask the orchestrator for new parameters, then try again.
pub const REFRESH_SESSION: u16 = 480;
/// "Price exceeded": a ceiling is below the orchestrator's price.
pub const PRICE_EXCEEDED: u16 = 481;
/// "No tickets": the balance still covers the request; nothing was booked.
pub const NO_TICKETS: u16 = 482;
/// Tells the caller of a 480 whom to ask.
pub const ORCHESTRATOR_URL: HeaderName = HeaderName::from_static("livepeer-orchestrator-url");

/// Why a request was not answered. Each variant's comment says what to do next.
#[derive(Debug, Error)]
pub enum SignerError {
    /// The caller was not let in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The body is above the limit. Send less.
    #[error("the body is larger than the limit of {0} bytes")]
    BodyTooLarge(usize),
    /// The body did not arrive in whole. Send it again.
    #[error("the body could not be read")]
    BodyUnreadable,
    /// Not JSON of the right shape (row 2). Fix the request; so for all that follow with 400.
    #[error("{0}")]
    BadJson(String),
    /// Row 3.
    #[error("missing orchestrator")]
    MissingOrchestrator,
    /// Row 4.
    #[error("proto: cannot parse OrchestratorInfo: {0}")]
    BadOrchestrator(String),
    /// Row 5.
    #[error("missing or zero priceInfo")]
    MissingPrice,
    /// Row 5, which the reference lets pass to later checks.
    #[error("negative priceInfo")]
    NegativePrice,
    /// Row 6.
    #[error("missing ticketParams in OrchestratorInfo")]
    MissingTicketParams,
    /// There is no such thing. Ask for another.
    #[error("{0}")]
    NotFound(String),
    /// It was changed meanwhile, or exists already. Look at it again.
    #[error("{0}")]
    Conflict(String),
    /// A field of the caller's that no row names.
    #[error("{0}")]
    BadField(String),
    /// Row 7.
    #[error("invalid sig")]
    InvalidSig,
    /// Row 8, and a state that the ledger does not know. Start without a state.
    #[error("invalid state")]
    InvalidState,
    /// Row 9.
    #[error("orchestratorAddress mismatch")]
    OrchestratorMismatch,
    /// Row 10.
    #[error("app mismatch")]
    AppMismatch,
    /// Row 11.
    #[error("job type mismatch")]
    JobTypeMismatch,
    /// Row 12.
    #[error("missing manifestID")]
    MissingManifest,
    /// A session keeps the manifest id that it was told.
    #[error("manifestID mismatch")]
    ManifestMismatch,
    /// Row 13.
    #[error("proto: cannot parse Capabilities: {0}")]
    BadCapabilities(String),
    /// Row 17, for what the sender's own checks say of one ticket.
    #[error("remote signer could not check whether to refresh session: {refused}{suffix}", refused = .0, suffix = Limit::suffix(.0))]
    OfferRefused(SenderError),
    /// Rows 14 and 17.
    #[error("remote signer could not check whether to refresh session: {0}")]
    CannotCheckRefresh(String),
    /// Rows 15 and 16, and a hash whose nonces are used up. Ask the orchestrator again, repeat.
    #[error("refresh session for remote signer")]
    RefreshSession {
        /// `OrchestratorInfo.transcoder`.
        orchestrator_url: String,
    },
    /// Tickets are signed only for recipients that are active this round.
    #[error("recipient {recipient} is not an active orchestrator in round {round}")]
    InactiveRecipient {
        /// Whom the tickets would pay.
        recipient: penstock_domain::Address,
        /// The round asked about.
        round: u64,
    },
    /// Rows 18 and 19.
    #[error(transparent)]
    Billing(#[from] BillingError),
    /// Row 20.
    #[error(transparent)]
    MaxPrice(#[from] MaxPriceError),
    /// Row 22. Choose another orchestrator or raise the limit.
    #[error(transparent)]
    PriceExceeded(#[from] PriceExceeded),
    /// Row 24. Use up the credit, or ask for more units.
    #[error("no tickets")]
    NoTickets,
    /// Row 25. Ask for fewer units, or an orchestrator with a larger ticket EV.
    #[error("{0}")]
    TooManyTickets(Box<TooManyTickets>),
    /// Row 27.
    #[error("payment refused: {refused}{suffix}", refused = .0, suffix = Limit::suffix(.0))]
    PaymentRefused(SenderError),
    /// The account may not do that. Ask the operator.
    #[error("{0}")]
    Forbidden(String),
    /// A ticket of this offer is worth more than the account's rules allow. Choose another orchestrator,
    /// whose tickets are worth less.
    #[error("ticket EV {ev} > account {account}'s max ticket EV {max}", ev = .ev.to_fixed(5), max = .max.to_fixed(5))]
    AccountTicketEv {
        /// Whose rules.
        account: String,
        /// Of the offer, wei.
        ev: penstock_domain::Rational,
        /// Of the rules, wei.
        max: penstock_domain::Rational,
    },
    /// The auth webhook said no, or did not answer.
    #[error("{0}")]
    Webhook(Denied),
    /// A budget or a spend rate is used up. Wait for the next period.
    #[error(transparent)]
    OverSpend(Box<OverSpend>),
    /// A budget in dollars without a price of ether to compare with. Retry.
    #[error("the price of ether is not known or too old, and a budget is in dollars")]
    NoEthPrice,
    /// The reservation was taken back while the key worked: it took too long. Retry.
    #[error("the payment's reservation expired before it was stored")]
    ReservationExpired,
    /// Row 32.
    #[error("remote signer auth ID changed")]
    AuthIdChanged,
    /// The state or idempotency key was used before with something else. Do not repeat as it is.
    #[error("already used with another {0}")]
    ReplayMismatch(&'static str),
    /// It was answered so long ago that the answer is not kept (`--retain-answers-days`). Start anew.
    #[error("this was answered long ago, and the answer is not kept any more")]
    AnswerGone,
    /// A credential that is not one to sign.
    #[error("{0}")]
    BadCredential(String),
    /// The key refused: a shape that could be a ticket.
    #[error("refused to sign: {0}")]
    RefusedToSign(#[from] Refusal),
    /// No orchestrator is known. Retry.
    #[error("no orchestrator is known")]
    NoOrchestrators,
    /// Too many requests at once. Retry.
    #[error("too many requests at once")]
    Overloaded,
    /// The request took too long. Retry with the same state.
    #[error("the request took longer than {0} ms")]
    TimedOut(u64),
    /// What is known of the chain is too old to pay on. Retry.
    #[error("chain facts are {0}")]
    ChainStale(String),
    /// The books.
    #[error("ledger")]
    Ledger(#[from] LedgerError),
    /// The key's home did not answer. Retry.
    #[error("key")]
    Key(#[source] KeyError),
    /// A bug of ours.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl From<KeyError> for SignerError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Refused(refusal) => Self::RefusedToSign(refusal),
            other => Self::Key(other),
        }
    }
}

impl From<Denied> for SignerError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::PriceExceeded(price) => Self::PriceExceeded(price),
            Denied::AuthIdChanged => Self::AuthIdChanged,
            other => Self::Webhook(other),
        }
    }
}

impl From<ManageError> for SignerError {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Field { .. } => Self::BadField(error.to_string()),
            ManageError::Absent { .. } => Self::NotFound(error.to_string()),
            ManageError::Conflict(text) => Self::Conflict(text),
            ManageError::Ledger(error) => Self::Ledger(error),
        }
    }
}

impl From<crate::state_blob::StateError> for SignerError {
    fn from(error: crate::state_blob::StateError) -> Self {
        match error {
            crate::state_blob::StateError::Signature => Self::InvalidSig,
            crate::state_blob::StateError::Content => Self::InvalidState,
        }
    }
}

impl SignerError {
    /// The status of every error there is.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Auth(error) => auth_status(error),
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyUnreadable
            | Self::BadJson(_)
            | Self::MissingOrchestrator
            | Self::BadOrchestrator(_)
            | Self::MissingPrice
            | Self::NegativePrice
            | Self::MissingTicketParams
            | Self::BadField(_)
            | Self::InvalidSig
            | Self::InvalidState
            | Self::OrchestratorMismatch
            | Self::AppMismatch
            | Self::JobTypeMismatch
            | Self::MissingManifest
            | Self::ManifestMismatch
            | Self::BadCapabilities(_)
            | Self::CannotCheckRefresh(_)
            | Self::OfferRefused(_)
            | Self::InactiveRecipient { .. }
            | Self::Billing(_)
            | Self::MaxPrice(_)
            | Self::TooManyTickets(_)
            | Self::BadCredential(_)
            | Self::RefusedToSign(_) => StatusCode::BAD_REQUEST,
            Self::RefreshSession { .. } => own(REFRESH_SESSION),
            Self::PriceExceeded(_) => own(PRICE_EXCEEDED),
            Self::NoTickets => own(NO_TICKETS),
            Self::Webhook(denied) => denied.status(),
            Self::Forbidden(_) | Self::AccountTicketEv { .. } => StatusCode::FORBIDDEN,
            Self::OverSpend(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::ReplayMismatch(_) | Self::AnswerGone | Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NoOrchestrators
            | Self::Overloaded
            | Self::TimedOut(_)
            | Self::ChainStale(_)
            | Self::NoEthPrice
            | Self::ReservationExpired
            | Self::Ledger(LedgerError::Unavailable(_) | LedgerError::Closed) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::PaymentRefused(_)
            | Self::AuthIdChanged
            | Self::Ledger(LedgerError::Corrupt(_) | LedgerError::Misuse(_))
            | Self::Key(_)
            | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The operator's own limit that was reached, if that is what happened.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::OfferRefused(error) | Self::PaymentRefused(error) => Limit::of(error),
            Self::TooManyTickets(_) => Some(Limit::Tickets),
            Self::OverSpend(over) => over.limit,
            _ => None,
        }
    }

    /// A stable word for programs, beside the reference's text.
    pub fn code(&self) -> &'static str {
        if let Some(limit) = self.limit() {
            return limit.name();
        }
        if matches!(self, Self::OverSpend(_)) {
            return "budget_exceeded";
        }
        if matches!(self, Self::AccountTicketEv { .. }) {
            return Limit::TicketEv.name();
        }
        if matches!(self, Self::AnswerGone) {
            return "answer_expired";
        }
        match self.status().as_u16() {
            REFRESH_SESSION => "refresh_session",
            PRICE_EXCEEDED => "price_exceeded",
            NO_TICKETS => "no_tickets",
            401 => "unauthorized",
            403 => "forbidden",
            429 => "rate_limited",
            404 => "not_found",
            409 => "conflict",
            413 => "body_too_large",
            400 => "bad_request",
            503 => "unavailable",
            _ => "internal",
        }
    }

    /// What the caller reads: the text, except that 500 and 503 say only their name.
    pub fn public_message(&self) -> String {
        match self.status() {
            StatusCode::INTERNAL_SERVER_ERROR => "Internal Server Error".to_owned(),
            StatusCode::SERVICE_UNAVAILABLE => "Service Unavailable Error".to_owned(),
            _ => self.to_string(),
        }
    }
}

fn auth_status(error: &AuthError) -> StatusCode {
    match error {
        AuthError::Unauthenticated | AuthError::BadToken(_) => StatusCode::UNAUTHORIZED,
        AuthError::BadHeader(_) => StatusCode::BAD_REQUEST,
        AuthError::Expired(_)
        | AuthError::Revoked(_)
        | AuthError::Blocked(_)
        | AuthError::BlockedSubject(_)
        | AuthError::OtherSubject(_)
        | AuthError::NoAccount
        | AuthError::NotTrusted => StatusCode::FORBIDDEN,
        AuthError::RateLimited { .. } | AuthError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
        AuthError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn own(status: u16) -> StatusCode {
    // 480 to 482 are inside what a status may be; the fallback is never used.
    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST)
}

impl IntoResponse for SignerError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            let cause = std::error::Error::source(&self).map(ToString::to_string);
            tracing::error!(status = status.as_u16(), error = %self, cause, "request failed");
        } else {
            tracing::info!(status = status.as_u16(), error = %self, "request refused");
        }
        let error = serde_json::json!({ "message": self.public_message(), "code": self.code() });
        let body = format!("{}\n", serde_json::json!({ "error": error }));
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::Auth(AuthError::RateLimited { retry_after_s, .. }) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            Self::Auth(AuthError::Busy { .. }) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Auth(AuthError::Unauthenticated | AuthError::BadToken(_)) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::RefreshSession { orchestrator_url } => {
                if let Ok(url) = HeaderValue::from_str(&orchestrator_url) {
                    headers.insert(ORCHESTRATOR_URL, url);
                }
            }
            Self::OverSpend(over) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(over.retry_after_s));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_errors_are_masked() {
        let secret = SignerError::PaymentRefused(SenderError::NoDeposit);
        assert_eq!(secret.public_message(), "Internal Server Error");
        assert_eq!(SignerError::Overloaded.public_message(), "Service Unavailable Error");
        assert_eq!(SignerError::NoTickets.public_message(), "no tickets");
    }

    #[test]
    fn a_refresh_names_the_orchestrator() {
        let refresh = |url: &str| SignerError::RefreshSession { orchestrator_url: url.into() };
        let response = refresh("https://o:8935").into_response();
        assert_eq!(response.status().as_u16(), 480);
        assert_eq!(response.headers()[ORCHESTRATOR_URL], "https://o:8935");
        // A peer's text that cannot be a header is left out, not a panic.
        assert!(refresh("https://o\n").into_response().headers().get(ORCHESTRATOR_URL).is_none());
    }
}

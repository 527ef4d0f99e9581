//! `POST /generate-live-payment` (remote-signer.md sections 3 and 4).

use super::{AppState, Body, views};
use crate::{auth::Caller, error::SignerError};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use penstock_telemetry::go;
use penstock_wire::json::LivePaymentRequest;
use std::sync::Arc;

/// Units that the payment is for, which the body does not say.
const BILLED_UNITS: HeaderName = HeaderName::from_static("penstock-billed-units");
/// `true` when the answer had been given before.
const REPLAYED: HeaderName = HeaderName::from_static("penstock-replayed");

/// Tickets for an orchestrator, with the headers ready to be sent, and the next payment state.
/// The same state again gives the same answer, byte for byte, and no new tickets.
#[utoipa::path(
    post,
    path = "/generate-live-payment",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "First requests only: the same key gives the same answer. At most 128 printable ASCII characters."),
        ("Signer-Auth-Id" = Option<String>, Header, description = "Whom a trusted account acts for; fixed for a payment session once told."),
    ),
    request_body(content = views::PaymentRequest),
    responses(
        (status = 200, body = views::PaymentAnswer, headers(
            ("Penstock-Billed-Units" = u64, description = "Units that this payment is for."),
            ("Penstock-Replayed" = bool, description = "Whether this answer had been given before."),
        )),
        (status = 400, body = views::ErrorBody, description = "The request cannot be answered as it is; the texts are the Go signer's."),
        (status = 401, body = views::ErrorBody),
        (status = 403, body = views::ErrorBody, description = "The account may not pay for that."),
        (status = 409, body = views::ErrorBody, description = "State or idempotency key were used with another account, orchestrator, app, type or manifest id; or (code `answer_expired`) so long ago that the answer is not kept any more."),
        (status = 413, body = views::ErrorBody),
        (status = 429, body = views::ErrorBody, description = "A budget, a spend rate or the rate of requests is used up; `Retry-After` says until when."),
        (status = 480, body = views::ErrorBody, description = "Ask the orchestrator again, then repeat.", headers(
            ("Livepeer-Orchestrator-URL" = String, description = "Whom to ask."),
        )),
        (status = 481, body = views::ErrorBody, description = "A price ceiling is below the orchestrator's price."),
        (status = 482, body = views::ErrorBody, description = "The balance covers the request: no tickets are needed. Nothing was booked."),
        (status = 500, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "Ledger or chain are away, or too many requests: repeat with the same state."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn generate_live_payment(
    caller: Caller,
    State(state): State<AppState>,
    Body(body): Body,
) -> Result<Response, SignerError> {
    let answer = pay(caller, state, &body).await;
    if let Err(error) = &answer {
        let status = error.status().as_u16().to_string();
        metrics::counter!("signer_payments_refused_total", "status" => status).increment(1);
        // What is refused is no error there.
        if error.status().is_server_error() {
            metrics::counter!("livepeer_payment_create_errors", go::labels([])).increment(1);
        }
        if let Some(limit) = error.limit() {
            metrics::counter!("signer_limit_refusals_total", "limit" => limit.name()).increment(1);
            tracing::warn!(setting = limit.setting(), error = %error, "a limit was reached");
        }
    }
    answer
}

async fn pay(caller: Caller, state: AppState, body: &[u8]) -> Result<Response, SignerError> {
    let request =
        LivePaymentRequest::parse(body).map_err(|e| SignerError::BadJson(e.to_string()))?;
    let answer = Arc::clone(&state.signer).pay(caller, request).await?;
    let mut response =
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer.body)
            .into_response();
    let replayed = HeaderValue::from_static(if answer.replayed { "true" } else { "false" });
    response.headers_mut().insert(BILLED_UNITS, HeaderValue::from(answer.units));
    response.headers_mut().insert(REPLAYED, replayed);
    penstock_failpoint::hit("signer.before_reply");
    Ok(response)
}

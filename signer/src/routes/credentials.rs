//! `POST /sign-segment-credentials`: our own.

use super::{AppState, Body, views};
use crate::{auth::Caller, error::SignerError};
use axum::{Json, extract::State};
use penstock_wire::json::{SegmentCredentialsAnswer, SegmentCredentialsRequest};
use serde_json::Value;
use std::sync::Arc;

/// Signs the credential of one video segment within a payment session: its manifest id must be
/// the session's, its signature empty.
#[utoipa::path(
    post,
    path = "/sign-segment-credentials",
    request_body(content = views::CredentialsRequest),
    responses(
        (status = 200, body = views::CredentialsAnswer),
        (status = 400, body = views::ErrorBody),
        (status = 401, body = views::ErrorBody),
        (status = 403, body = views::ErrorBody),
        (status = 409, body = views::ErrorBody),
        (status = 413, body = views::ErrorBody),
        (status = 429, body = views::ErrorBody),
        (status = 500, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn sign_segment_credentials(
    caller: Caller,
    State(state): State<AppState>,
    Body(body): Body,
) -> Result<Json<Value>, SignerError> {
    let request =
        SegmentCredentialsRequest::parse(&body).map_err(|e| SignerError::BadJson(e.to_string()))?;
    let seg_creds = Arc::clone(&state.signer).sign_segment_credentials(caller, request).await?;
    Ok(Json(SegmentCredentialsAnswer { seg_creds }.to_json()))
}

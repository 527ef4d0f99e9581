//! `POST /sign-byoc-job`: as the Python SDK calls it; the Go signer does not have it.

use super::{AppState, Body, views};
use crate::{auth::Caller, error::SignerError};
use axum::{Json, extract::State};
use penstock_wire::{
    json::{SignByocJobRequest, sign_byoc_job_answer},
    limits,
};
use serde_json::Value;
use std::sync::Arc;

/// Signs the request of a job for a brought capability, so that an orchestrator knows who pays for
/// it. Both texts have to be JSON objects (`parameters` may be empty); together they are at most
/// 768 KiB, and not 32, 168 or 232 bytes, which is what tickets look like.
#[utoipa::path(
    post,
    path = "/sign-byoc-job",
    request_body(content = views::ByocJobRequest),
    responses(
        (status = 200, body = views::ByocJobAnswer),
        (status = 400, body = views::ErrorBody),
        (status = 401, body = views::ErrorBody),
        (status = 403, body = views::ErrorBody, description = "The account may not use this capability."),
        (status = 413, body = views::ErrorBody),
        (status = 429, body = views::ErrorBody),
        (status = 500, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn sign_byoc_job(
    caller: Caller,
    State(state): State<AppState>,
    Body(body): Body<{ limits::SIGN_BYOC_JOB_BYTES }>,
) -> Result<Json<Value>, SignerError> {
    let request =
        SignByocJobRequest::parse(&body).map_err(|e| SignerError::BadJson(e.to_string()))?;
    let signature = Arc::clone(&state.signer).sign_byoc_job(caller, request).await?;
    Ok(Json(sign_byoc_job_answer(&state.signer.key.address(), signature.as_bytes())))
}

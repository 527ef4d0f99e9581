//! `POST /sign-orchestrator-info` (remote-signer.md section 2).

use super::{AppState, views};
use crate::auth::Caller;
use axum::{Json, extract::State};
use serde_json::Value;

/// The signer's address and its signature for GetOrchestrator requests. The body is ignored.
#[utoipa::path(
    post,
    path = "/sign-orchestrator-info",
    responses(
        (status = 200, body = views::SignInfo),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn sign_orchestrator_info(
    _caller: Caller,
    State(state): State<AppState>,
) -> Json<Value> {
    Json(state.identity.to_json())
}

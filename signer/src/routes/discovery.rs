//! `GET /discover-orchestrators` (remote-signer.md section 10).

use super::{AppState, views};
use crate::{auth::Caller, error::SignerError};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use serde_json::Value;

/// The orchestrators known, those with any of the wanted capabilities first to last wanted.
#[utoipa::path(
    get,
    path = "/discover-orchestrators",
    params(
        ("caps" = Option<Vec<String>>, Query, description = "`pipeline/model` or an application; exact match, repeatable, any of them suffices. Empty values are dropped; none means all."),
    ),
    responses(
        (status = 200, body = Vec<views::DiscoveryEntry>),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "No orchestrator is known."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn discover_orchestrators(
    _caller: Caller,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, SignerError> {
    let wanted: Vec<String> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(name, value)| name == "caps" && !value.is_empty())
        .map(|(_, value)| value.into_owned())
        .collect();
    let entries = state.discovery.list(&wanted).await?;
    Ok(Json(entries.iter().map(|entry| entry.to_json()).collect()))
}

//! `GET /v1/events`: how deliveries of events go.

use super::{AppState, views};
use crate::{error::SignerError, events::EventsReport};
use axum::{Json, extract::State};

/// Where events go, what waits, and why.
#[utoipa::path(
    get,
    path = "/v1/events",
    responses(
        (status = 200, body = EventsReport),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "The ledger is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn events_report(
    State(state): State<AppState>,
) -> Result<Json<EventsReport>, SignerError> {
    Ok(Json(state.events.report().await?))
}

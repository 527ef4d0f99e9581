//! The operator's view of the books.

use super::{AppState, views};
use crate::error::SignerError;
use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;

/// Lines in a list when nothing is said.
const DEFAULT_LIMIT: u32 = 100;
/// Most lines in a list.
const MAX_LIMIT: u32 = 10_000;

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<u32>,
}

impl Page {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }
}

/// A page, or a 400 in the envelope.
type PageQuery = Result<Query<Page>, axum::extract::rejection::QueryRejection>;

fn page(query: PageQuery) -> Result<Page, SignerError> {
    let Query(page) = query.map_err(|e| SignerError::BadField(e.body_text()))?;
    Ok(page)
}

/// The newest payments, newest first.
#[utoipa::path(
    get,
    path = "/v1/payments",
    params(("limit" = Option<u32>, Query, description = "Lines, at most 10000.")),
    responses(
        (status = 200, body = Vec<views::PaymentView>),
        (status = 400, body = views::ErrorBody),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "The ledger is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn payments(
    State(state): State<AppState>,
    query: PageQuery,
) -> Result<Json<Vec<views::PaymentView>>, SignerError> {
    let rows = state.signer.ledger.payments(page(query)?.limit()).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

/// The newest payment sessions, newest first.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    params(("limit" = Option<u32>, Query, description = "Lines, at most 10000.")),
    responses(
        (status = 200, body = Vec<views::SessionView>),
        (status = 400, body = views::ErrorBody),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "The ledger is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn sessions(
    State(state): State<AppState>,
    query: PageQuery,
) -> Result<Json<Vec<views::SessionView>>, SignerError> {
    let rows = state.signer.ledger.sessions(page(query)?.limit()).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

/// Totals over all payments.
#[utoipa::path(
    get,
    path = "/v1/summary",
    responses(
        (status = 200, body = views::SummaryView),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "The ledger is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn summary(
    State(state): State<AppState>,
) -> Result<Json<views::SummaryView>, SignerError> {
    Ok(Json(state.signer.ledger.summary().await?.into()))
}

//! Questions to the chain.

use super::{extract::Segments, faults};
use crate::{
    node::{Node, NodeError, Rejection},
    state::claimable_reserve,
    wire::{
        AccountView, ClaimView, ClaimableView, OrchestratorView, RedemptionView, SenderView,
        Status, TicketView,
    },
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use penstock_domain::{parse_address, parse_b256};
use penstock_http_kit::ApiError;
use serde::Deserialize;

/// Redemptions in one answer.
const MAX_REDEMPTIONS: u32 = 1_000;

#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(default = "hundred")]
    limit: u32,
}

fn hundred() -> u32 {
    100
}

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn status(State(node): State<Node>) -> Json<Status> {
    Json(node.status())
}

pub(super) async fn sender(
    State(node): State<Node>,
    Segments(text): Segments<String>,
) -> Answer<SenderView> {
    let address = parse_address(&text).ok_or_else(no_address)?;
    Ok(Json(SenderView::of(address, node.read(|state| state.sender_info(address)))))
}

pub(super) async fn claim(
    State(node): State<Node>,
    Segments((holder, claimant)): Segments<(String, String)>,
) -> Answer<ClaimView> {
    let holder = parse_address(&holder).ok_or_else(no_address)?;
    let claimant = parse_address(&claimant).ok_or_else(no_address)?;
    let claimed_wei = node.read(|state| state.claimed_reserve(holder, claimant));
    Ok(Json(ClaimView { claimed_wei }))
}

pub(super) async fn claimable(
    State(node): State<Node>,
    Segments((holder, claimant)): Segments<(String, String)>,
) -> Answer<ClaimableView> {
    let holder = parse_address(&holder).ok_or_else(no_address)?;
    let claimant = parse_address(&claimant).ok_or_else(no_address)?;
    let claimable = node.read(|state| claimable_reserve(state, holder, claimant));
    let reverted = |revert| faults::answer(NodeError::Rejected(Rejection::Reverted(revert)));
    Ok(Json(ClaimableView { claimable_wei: claimable.map_err(reverted)? }))
}

pub(super) async fn orchestrators(State(node): State<Node>) -> Json<Vec<OrchestratorView>> {
    Json(node.read(crate::state::State::active_orchestrators))
}

pub(super) async fn orchestrator(
    State(node): State<Node>,
    Segments(text): Segments<String>,
) -> Answer<OrchestratorView> {
    let address = parse_address(&text).ok_or_else(no_address)?;
    Ok(Json(node.read(|state| state.orchestrator_view(address))))
}

pub(super) async fn account(
    State(node): State<Node>,
    Segments(text): Segments<String>,
) -> Answer<AccountView> {
    let address = parse_address(&text).ok_or_else(no_address)?;
    Ok(Json(node.read(|state| state.account_view(address))))
}

pub(super) async fn ticket(
    State(node): State<Node>,
    Segments(text): Segments<String>,
) -> Answer<TicketView> {
    let hash = parse_b256(&text).ok_or_else(no_hash)?;
    let redemption = node.read(|state| state.redemptions.get(&hash).map(RedemptionView::from));
    Ok(Json(TicketView { used: redemption.is_some(), redemption }))
}

pub(super) async fn redemptions(
    State(node): State<Node>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer<Vec<RedemptionView>> {
    let Query(Page { limit }) =
        page.map_err(|error| ApiError::bad_request(error.body_text()).with_code("bad_request"))?;
    if limit > MAX_REDEMPTIONS {
        let text = format!("limit is at most {MAX_REDEMPTIONS}");
        return Err(ApiError::bad_request(text).with_code("bad_request"));
    }
    let newest = node.redemptions(limit).await.map_err(faults::answer)?;
    Ok(Json(newest.iter().map(RedemptionView::from).collect()))
}

fn no_address() -> ApiError {
    ApiError::bad_request("the path holds no address: 0x and 40 hex digits")
        .with_code("bad_request")
}

fn no_hash() -> ApiError {
    ApiError::bad_request("the path holds no hash: 0x and 64 hex digits").with_code("bad_request")
}

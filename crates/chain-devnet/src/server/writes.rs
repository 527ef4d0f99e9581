//! Transactions, and mining.

use super::{extract::Body, faults};
use crate::{
    node::{Node, Outcome, Request},
    state::Mining,
    wire::{
        FundRequest, MineRequest, ReceiptView, RedeemRequest, RedemptionView, Status,
        TransactionRequest,
    },
};
use axum::{Json, extract::State};
use penstock_chain::WinningTicket;
use penstock_http_kit::ApiError;

pub(super) async fn redeem(
    State(node): State<Node>,
    Body(request): Body<RedeemRequest>,
) -> Result<Json<RedemptionView>, ApiError> {
    let request = Request::Redeem(Box::new(WinningTicket::from(request)));
    match node.submit(request).await.map_err(faults::answer)? {
        Outcome::Redeemed(redemption) => Ok(Json(RedemptionView::from(&redemption))),
        Outcome::Done(_) | Outcome::Mined => Err(ApiError::internal()),
    }
}

pub(super) async fn fund(
    State(node): State<Node>,
    Body(request): Body<FundRequest>,
) -> Result<Json<ReceiptView>, ApiError> {
    let FundRequest { account, deposit_wei: deposit, reserve_wei: reserve } = request;
    receipt(&node, Request::Fund { account, deposit, reserve }).await
}

pub(super) async fn transact(
    State(node): State<Node>,
    Body(request): Body<TransactionRequest>,
) -> Result<Json<ReceiptView>, ApiError> {
    let TransactionRequest { payload, sig } = request;
    receipt(&node, Request::Act { payload, sig }).await
}

pub(super) async fn mine(
    State(node): State<Node>,
    Body(request): Body<MineRequest>,
) -> Result<Json<Status>, ApiError> {
    let how = match (request.blocks, request.rounds) {
        (Some(blocks), None) => Mining::Blocks(blocks),
        (None, Some(rounds)) => Mining::Rounds(rounds),
        _ => {
            let text = "say either blocks or rounds";
            return Err(ApiError::bad_request(text).with_code("bad_request"));
        }
    };
    let initialize = request.initialize_rounds;
    node.submit(Request::Mine { how, initialize }).await.map_err(faults::answer)?;
    Ok(Json(node.status()))
}

/// Performs a request that is answered with a receipt.
async fn receipt(node: &Node, request: Request) -> Result<Json<ReceiptView>, ApiError> {
    match node.submit(request).await.map_err(faults::answer)? {
        Outcome::Done(receipt) => Ok(Json(receipt.into())),
        Outcome::Redeemed(_) | Outcome::Mined => Err(ApiError::internal()),
    }
}

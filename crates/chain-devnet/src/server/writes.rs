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
use penstock_chain::{Receipt, WinningTicket};
use penstock_domain::B256;
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
    let request = Request::Fund { account, deposit, reserve };
    node.submit(request).await.map(receipt).map_err(faults::answer)
}

pub(super) async fn transact(
    State(node): State<Node>,
    Body(request): Body<TransactionRequest>,
) -> Result<Json<ReceiptView>, ApiError> {
    let TransactionRequest { payload, sig } = request;
    let request = Request::Act { payload, sig };
    node.submit(request).await.map(receipt).map_err(faults::answer)
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

fn receipt(outcome: Outcome) -> Json<ReceiptView> {
    let receipt = match outcome {
        Outcome::Done(receipt) => receipt,
        Outcome::Redeemed(r) => Receipt { tx_hash: r.tx_hash, l1_block: r.l1_block },
        // Mining has a route of its own; there is no transaction to name.
        Outcome::Mined => Receipt { tx_hash: B256::ZERO, l1_block: 0 },
    };
    Json(receipt.into())
}

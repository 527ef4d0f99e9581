//! `/v1/deposit…`: the account's deposit and reserve, and what changes them.

use super::{AppState, views};
use crate::{
    auth::idempotency_key,
    error::SignerError,
    service::{
        deposit::{Change, Standing},
        reserve_watch::guarantee,
        runway::Runway,
    },
};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::HeaderMap,
};
use penstock_chain::Receipt;
use penstock_domain::{Wei, address_lower};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// How deposit and reserve stand.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DepositView {
    /// Whose: `0x` and 40 hex digits.
    address: String,
    deposit_wei: String,
    reserve_wei: String,
    /// The reserve before anything was taken in this round.
    reserve_at_round_start_wei: String,
    /// Orchestrators that share it.
    orchestrators: u64,
    /// The most that one of them can take in a round, and a ticket's face value; null: there are none.
    reserve_float_wei: Option<String>,
    /// Taken from the reserve by all recipients in this round.
    claimed_in_current_round_wei: String,
    /// First round in which both may be withdrawn; 0: locked.
    withdraw_round: u64,
    /// The newest initialised round.
    current_round: u64,
    /// Whether this process changes them (`--deposit-transactions`).
    transactions: bool,
    /// What tickets of the last seven days were worth, by the day, whole wei.
    spent_wei_per_day: String,
    /// Whole days that the deposit lasts at that rate; null: nothing was spent.
    runway_days: Option<u64>,
    /// Most that one transaction may cost, gas included (`--max-chain-spend-per-transaction`); null: no limit.
    max_chain_spend_per_transaction_wei: Option<String>,
    /// Most that all transactions of a UTC day may cost (`--max-chain-spend-per-day`); null: no limit.
    max_chain_spend_per_day_wei: Option<String>,
    /// What those of this UTC day may cost so far.
    chain_spend_today_wei: String,
    /// What is to be looked after, in words.
    troubles: Vec<String>,
}

/// What is added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FundBody {
    /// To the deposit; text.
    #[schema(value_type = String)]
    deposit_wei: Wei,
    /// To the reserve; text.
    #[schema(value_type = String)]
    reserve_wei: Wei,
}

/// A transaction that is on the chain.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransactionView {
    /// `0x` and 64 hex digits.
    tx_hash: String,
    /// The L1 block that it is in.
    l1_block: u64,
}

impl DepositView {
    fn of(standing: Standing, runway: &Runway) -> Self {
        let (info, limits) = (standing.info, standing.limits);
        let orchestrators = standing.orchestrators;
        let guarantee = guarantee(&info, orchestrators);
        let troubles = runway.troubles_of(&info, orchestrators, standing.round);
        let text = |wei: Wei| wei.to_string();
        Self {
            address: address_lower(&standing.account),
            deposit_wei: info.deposit.to_string(),
            reserve_wei: info.reserve.funds_remaining.to_string(),
            reserve_at_round_start_wei: text(guarantee.at_round_start),
            orchestrators,
            reserve_float_wei: guarantee.float.map(text),
            claimed_in_current_round_wei: info.reserve.claimed_in_current_round.to_string(),
            withdraw_round: info.withdraw_round,
            current_round: standing.round,
            transactions: standing.is_allowed,
            spent_wei_per_day: runway.per_day().unwrap_or_default().to_fixed(0),
            runway_days: runway.days(info.deposit),
            max_chain_spend_per_transaction_wei: limits.per_transaction.map(text),
            max_chain_spend_per_day_wei: limits.per_day.map(text),
            chain_spend_today_wei: text(standing.counted_today),
            troubles: troubles.into_iter().map(|(_, said)| said).collect(),
        }
    }
}

impl From<Receipt> for TransactionView {
    fn from(receipt: Receipt) -> Self {
        Self { tx_hash: format!("{:#x}", receipt.tx_hash), l1_block: receipt.l1_block }
    }
}

/// Deposit and reserve of the account, as the chain says it now.
#[utoipa::path(
    get,
    path = "/v1/deposit",
    responses(
        (status = 200, body = DepositView),
        (status = 401, body = views::ErrorBody),
        (status = 409, body = views::ErrorBody, description = "The chain refuses."),
        (status = 503, body = views::ErrorBody, description = "The chain is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn show(State(state): State<AppState>) -> Result<Json<DepositView>, SignerError> {
    let standing = state.deposit.standing().await?;
    state.runway.look().await?;
    Ok(Json(DepositView::of(standing, &state.runway)))
}

/// Adds to deposit and reserve out of the account's ether; answers when it is on the chain. An unlock in progress goes
/// on.
#[utoipa::path(
    post,
    path = "/v1/deposit/fund",
    params(("Idempotency-Key" = String, Header, description = "Names this wish: asked for again with the same key, it is not done twice, and the answer is the same. 1 to 128 printable ASCII characters without spaces.")),
    request_body = FundBody,
    responses(
        (status = 200, body = TransactionView),
        (status = 400, body = views::ErrorBody),
        (status = 401, body = views::ErrorBody),
        (status = 403, body = views::ErrorBody, description = "Without --deposit-transactions, or above --max-chain-spend-per-transaction or --max-chain-spend-per-day."),
        (status = 409, body = views::ErrorBody, description = "The chain refuses, in its own words; the key was used for something else; or another change is on its way."),
        (status = 503, body = views::ErrorBody, description = "The chain is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn fund(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Result<Json<FundBody>, JsonRejection>,
) -> Result<Json<TransactionView>, SignerError> {
    let Json(body) = body.map_err(|error| SignerError::BadJson(error.body_text()))?;
    let change = Change::Fund { deposit: body.deposit_wei, reserve: body.reserve_wei };
    changed(&state, &headers, change).await
}

/// Begins the way out: in the contract's time deposit and reserve can be withdrawn, and tickets are not paid any more.
#[utoipa::path(
    post,
    path = "/v1/deposit/unlock",
    params(("Idempotency-Key" = String, Header, description = "Names this wish: asked for again with the same key, it is not done twice, and the answer is the same. 1 to 128 printable ASCII characters without spaces.")),
    responses(
        (status = 200, body = TransactionView),
        (status = 400, body = views::ErrorBody, description = "Without Idempotency-Key."),
        (status = 401, body = views::ErrorBody),
        (status = 403, body = views::ErrorBody, description = "Without --deposit-transactions, or above --max-chain-spend-per-transaction or --max-chain-spend-per-day."),
        (status = 409, body = views::ErrorBody, description = "The chain refuses, in its own words; the key was used for something else; or another change is on its way."),
        (status = 503, body = views::ErrorBody, description = "The chain is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn unlock(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Json<TransactionView>, SignerError> {
    changed(&state, &headers, Change::Unlock).await
}

/// Ends an unlock in progress.
#[utoipa::path(
    post,
    path = "/v1/deposit/cancel-unlock",
    params(("Idempotency-Key" = String, Header, description = "Names this wish: asked for again with the same key, it is not done twice, and the answer is the same. 1 to 128 printable ASCII characters without spaces.")),
    responses(
        (status = 200, body = TransactionView),
        (status = 400, body = views::ErrorBody, description = "Without Idempotency-Key."),
        (status = 401, body = views::ErrorBody),
        (status = 403, body = views::ErrorBody, description = "Without --deposit-transactions, or above --max-chain-spend-per-transaction or --max-chain-spend-per-day."),
        (status = 409, body = views::ErrorBody, description = "The chain refuses, in its own words; the key was used for something else; or another change is on its way."),
        (status = 503, body = views::ErrorBody, description = "The chain is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn cancel_unlock(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Json<TransactionView>, SignerError> {
    changed(&state, &headers, Change::CancelUnlock).await
}

/// Takes deposit and reserve back to the account, all of it, once they are unlocked.
#[utoipa::path(
    post,
    path = "/v1/deposit/withdraw",
    params(("Idempotency-Key" = String, Header, description = "Names this wish: asked for again with the same key, it is not done twice, and the answer is the same. 1 to 128 printable ASCII characters without spaces.")),
    responses(
        (status = 200, body = TransactionView),
        (status = 400, body = views::ErrorBody, description = "Without Idempotency-Key."),
        (status = 401, body = views::ErrorBody),
        (status = 403, body = views::ErrorBody, description = "Without --deposit-transactions, or above --max-chain-spend-per-transaction or --max-chain-spend-per-day."),
        (status = 409, body = views::ErrorBody, description = "The chain refuses, in its own words; the key was used for something else; or another change is on its way."),
        (status = 503, body = views::ErrorBody, description = "The chain is away."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn withdraw(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Json<TransactionView>, SignerError> {
    changed(&state, &headers, Change::Withdraw).await
}

async fn changed(
    state: &AppState,
    headers: &HeaderMap,
    change: Change,
) -> Result<Json<TransactionView>, SignerError> {
    let key = idempotency_key(headers)?.ok_or_else(|| {
        SignerError::BadField("Idempotency-Key is missing: it names what is wanted".to_owned())
    })?;
    Ok(Json(Arc::clone(&state.deposit).change(key, change).await?.into()))
}

//! `GET /v1/invoices/{session}`: a session's arithmetic, exact, for its operator. On the admin address only.

use super::admin::{Limit, failed, ledger};
use crate::node::Node;
use axum::{
    Json,
    extract::{Path, Query, State},
};
use penstock_domain::{Address, address_lower, parse_address};
use penstock_http_kit::ApiError;
use penstock_ledger::orchestrator::{Invoice, InvoiceQuery};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub struct Asked {
    sender: Option<String>,
    limit: Option<u32>,
}

/// The route. A balance of AI jobs is the sender's and the model's, so a session may have several payers.
pub async fn of_session(
    State(node): State<Arc<Node>>,
    Path(session): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let sender = match asked.sender.as_deref().map(parse_address) {
        None => None,
        Some(Some(sender)) => Some(sender),
        Some(None) => return Err(ApiError::bad_request("sender must be an address in hex")),
    };
    let query = InvoiceQuery { session, sender, limit: Limit { limit: asked.limit }.rows() };
    let invoices = ledger(&node)?.invoices(&query).await.map_err(failed)?;
    if invoices.is_empty() {
        let text = "nobody has paid or owed anything for this session";
        return Err(ApiError::not_found(text).with_code("no_such_account"));
    }
    Ok(Json(invoices.iter().map(invoice).collect()))
}

fn invoice(invoice: &Invoice) -> Value {
    let account = &invoice.account;
    let sender: Address = account.key.sender();
    let credits = invoice.credits.iter().map(|line| {
        json!({
            "at_ms": line.at_ms,
            "tickets": line.tickets,
            "recipient_rand_hash": line.recipient_rand_hash,
            "amount_wei": line.amount,
        })
    });
    let debits = invoice.debits.iter().map(|line| {
        json!({
            "job_id": line.job_id,
            "from_ms": line.from_ms,
            "to_ms": line.to_ms,
            "units": line.work.as_ref().map(|(units, _)| units),
            "price_wei_per_unit": line.work.as_ref().map(|(_, price)| price),
            "amount_wei": line.amount,
        })
    });
    json!({
        "sender": address_lower(&sender),
        "session_id": account.key.session(),
        "credits": credits.collect::<Vec<_>>(),
        "debits": debits.collect::<Vec<_>>(),
        "is_whole": invoice.is_whole,
        "tickets": account.tickets,
        "credited_wei": account.credited,
        "debited_wei": account.debited,
        "balance_wei": account.balance(),
        "fixed_price_wei_per_unit": account.pinned(),
        "updated_ms": account.updated_ms,
    })
}

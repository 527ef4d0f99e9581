//! `POST /payment` and `POST /refresh-payment` (orchestrator-wire.md sections 7 and 8).

use crate::{
    clock,
    error::JobError,
    node::Node,
    service::{credentials::Work, offers::OfferFor},
};
use axum::{
    Json,
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use penstock_http_kit::ApiError;
use penstock_ledger::orchestrator::AccountKey;
use penstock_payments::{TOKEN_LIFETIME_S, wire_price};
use penstock_wire::{
    OrchestratorOffer,
    json::{PaymentChallenge, RefreshPaymentRequest},
    net,
};
use prost::Message;
use std::sync::Arc;

/// Credits a payment to the credential's manifest id.
pub async fn payment(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    let admission = node.admit(&headers, Work::Ai)?;
    let bad_key = |_| JobError::BadRequest("invalid manifest id".into());
    let session =
        AccountKey::new(admission.sender, admission.token.session_id.clone()).map_err(bad_key)?;
    let account = AccountKey::new(admission.sender, admission.credential.manifest_id.as_str())
        .map_err(bad_key)?;
    let info = node
        .info(&OfferFor {
            sender: admission.sender,
            account: Some(&session),
            job: Some(&admission.capabilities),
            token: Some(&admission.token),
        })
        .await
        .map_err(JobError::of_money)?;
    if let Some(cashier) = &node.cashier {
        let runners = node.runners.as_ref();
        let paid = runners.and_then(|r| r.registry.paid_by_name(account.session()));
        let paid = paid.filter(|paid| paid.payer == account.sender());
        let taken = match (node.live.sessions.work_of(&account), paid) {
            (Some(live), _) => cashier.take_for(&account, Some(&live), admission.payment).await,
            (None, Some(paid)) => cashier.take_at(&account, paid.price, admission.payment).await,
            (None, None) => cashier.take(&account, admission.payment).await,
        };
        taken.map_err(JobError::Payment)?;
    }
    let result = net::PaymentResult { info: Some((&info).into()) };
    Ok(Bytes::from(result.encode_to_vec()).into_response())
}

/// New ticket parameters at a session's pinned price. Errors are in the JSON envelope.
pub async fn refresh(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = node
        .bodies
        .read(request.into_body(), node.limits.refresh_body_bytes)
        .await
        .map_err(|error| ApiError::new(error.status(), error.to_string()))?;
    let asked = RefreshPaymentRequest::parse(&body.data)
        .map_err(|error| ApiError::bad_request(refresh_text(&error)))?;
    let none = || {
        ApiError::new(http::StatusCode::CONFLICT, "fixed price not found for session")
            .with_code("no_fixed_price")
    };
    let cashier = node.cashier.as_ref().ok_or_else(none)?;
    let key = AccountKey::new(asked.sender, asked.manifest_id.clone())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let unavailable = |error: crate::service::cashier::MoneyError| {
        tracing::warn!(%error, "no fresh ticket parameters");
        match () {
            () if error.is_callers_fault() => ApiError::bad_request(error.to_string()),
            () if error.passes() => ApiError::unavailable(error.to_string(), 1),
            () => ApiError::internal(),
        }
    };
    let price =
        cashier.pinned(&key, clock::now_ms()).await.map_err(unavailable)?.ok_or_else(none)?;
    let to = OfferFor { sender: asked.sender, account: Some(&key), job: None, token: None };
    let full = node.info(&to).await.map_err(unavailable)?;
    // The token stays with the session when its id is one; other balance keys get a new session.
    let expiration = clock::now_s().saturating_add(TOKEN_LIFETIME_S);
    let token = node.token_for(&asked.manifest_id, expiration).ok().or(full.auth_token);
    let offer = OrchestratorOffer {
        transcoder: full.transcoder,
        address: full.address,
        price: wire_price(&price).ok(),
        ticket_params: full.ticket_params,
        auth_token: token,
        capabilities: None,
        storage: None,
        capabilities_prices: Vec::new(),
        hardware: Vec::new(),
        nodes: Vec::new(),
    };
    let challenge = PaymentChallenge {
        payment_params: offer.encode(),
        orchestrator: node.service_uri().to_owned(),
        manifest_id: asked.manifest_id,
        payment_url: format!("{}/payment", node.service_uri()),
    };
    Ok(Json(challenge.to_json()).into_response())
}

/// The documented texts: `invalid sender`, `missing manifest_id`.
fn refresh_text(error: &penstock_wire::WireError) -> String {
    match error {
        penstock_wire::WireError::Invalid { what, .. } => format!("invalid {what}"),
        other => other.to_string(),
    }
}

//! HTTP in, use case, HTTP out. Nothing is decided here.

mod accounts;
mod admin;
mod byoc;
mod credentials;
mod deposit;
mod discovery;
mod events;
mod forecast;
mod log_level;
mod payment;
mod sign_info;
mod usage;
mod verify;
mod views;

use crate::{
    auth::{Accounts, Caller},
    discovery::Discovery,
    error::SignerError,
    events::Dispatcher,
    service::{Signer, deposit::Deposit, runway::Runway},
    stack::BODY_BYTES,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, Request, rejection::BytesRejection,
    },
    routing::get,
};
use http::{StatusCode, request::Parts};
use penstock_http_kit::{
    health::{self, NotReady, Readiness},
    metrics_route, stack,
    tls::PeerCertificate,
};
use penstock_telemetry::MetricsHandle;
use penstock_wire::{json::SignOrchestratorInfo, limits};
use std::{ops::Deref, sync::Arc, time::Instant};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use views::BearerAuth;

/// What handlers share. One pointer: the router clones it for every request and every layer.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

impl AppState {
    /// Makes it shared.
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The parts of [`AppState`].
pub struct Shared {
    /// The use cases.
    pub signer: Arc<Signer>,
    /// The account's own deposit and reserve.
    pub deposit: Arc<Deposit>,
    /// How long the deposit lasts.
    pub runway: Arc<Runway>,
    /// Who may call.
    pub accounts: Arc<Accounts>,
    /// The own address with its signature.
    pub identity: Arc<SignOrchestratorInfo>,
    /// The list of orchestrators.
    pub discovery: Arc<Discovery>,
    /// Deliveries of events.
    pub events: Arc<Dispatcher>,
    /// For `/metrics`.
    pub metrics: Option<MetricsHandle>,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = SignerError;

    /// A handler that takes a [`Caller`] runs for known callers only, and before its body is read.
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, SignerError> {
        let certificate = parts.extensions.get::<PeerCertificate>().map(|c| &c.sha256);
        Ok(state.accounts.authenticate(&parts.headers, certificate).await?)
    }
}

/// The whole body, bounded; the content type is not looked at, as in the reference.
pub(crate) struct Body<const MAX: usize = BODY_BYTES>(pub Bytes);

impl<const MAX: usize> FromRequest<AppState> for Body<MAX> {
    type Rejection = SignerError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, SignerError> {
        // An announced size is enough to refuse by: nobody waits for a body that will not be read.
        let announced = request.headers().get(http::header::CONTENT_LENGTH);
        let announced = announced.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| usize::try_from(bytes).is_ok_and(|n| n > MAX)) {
            return Err(SignerError::BodyTooLarge(MAX));
        }
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) => Err(body_error(&error, MAX)),
        }
    }
}

fn body_error(error: &BytesRejection, max: usize) -> SignerError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => SignerError::BodyTooLarge(max),
        _ => SignerError::BodyUnreadable,
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Penstock signer",
        description = "Signs tickets and credentials for gateways that hold no key. \
            Every error is `{\"error\":{\"message\",\"code\"}}`; 500 and 503 say only their name."
    ),
    modifiers(&BearerAuth)
)]
struct Api;

/// The documented routes with their document.
fn documented() -> (Router<AppState>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(sign_info::sign_orchestrator_info))
        .routes(routes!(payment::generate_live_payment))
        .routes(routes!(credentials::sign_segment_credentials))
        .merge(byoc())
        .routes(routes!(discovery::discover_orchestrators))
        .routes(routes!(verify::verify))
        .split_for_parts()
}

/// Its body may be larger than the others'.
fn byoc() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(byoc::sign_byoc_job))
        .layer(DefaultBodyLimit::max(limits::SIGN_BYOC_JOB_BYTES))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Penstock signer: operators",
        description = "The operator's side, served on the admin address. Wei are text, `n` or `n/d`. \
            Every error is `{\"error\":{\"message\",\"code\"}}`."
    ),
    modifiers(&BearerAuth)
)]
struct AdminApi;

/// The operator's routes with their document.
fn documented_admin() -> (Router<AppState>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(AdminApi::openapi())
        .routes(routes!(admin::payments))
        .routes(routes!(admin::sessions))
        .routes(routes!(admin::summary))
        .routes(routes!(deposit::show))
        .routes(routes!(deposit::fund))
        .routes(routes!(deposit::unlock))
        .routes(routes!(deposit::cancel_unlock))
        .routes(routes!(deposit::withdraw))
        .routes(routes!(accounts::list_accounts, accounts::create_account))
        .routes(routes!(accounts::show_account, accounts::change_account))
        .routes(routes!(accounts::list_keys, accounts::create_key))
        .routes(routes!(accounts::create_certificate))
        .routes(routes!(accounts::rotate_key))
        .routes(routes!(accounts::revoke_key))
        .routes(routes!(accounts::list_subjects))
        .routes(routes!(accounts::put_subject, accounts::delete_subject))
        .routes(routes!(accounts::list_tiers))
        .routes(routes!(accounts::put_tier, accounts::delete_tier))
        .routes(routes!(usage::usage))
        .routes(routes!(forecast::forecast))
        .routes(routes!(forecast::limits))
        .routes(routes!(discovery::discovery_report))
        .routes(routes!(events::events_report))
        .routes(routes!(log_level::log_level, log_level::set_log_level))
        .split_for_parts()
}

/// The OpenAPI document of the API, as committed under `openapi/`.
pub fn openapi_json() -> String {
    json_text(&documented().1)
}

/// The OpenAPI document of the operator's side, as committed under `openapi/`.
pub fn admin_openapi_json() -> String {
    json_text(&documented_admin().1)
}

fn json_text(document: &utoipa::openapi::OpenApi) -> String {
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// What gateways reach.
pub fn public(state: AppState) -> Router {
    let (router, document) = documented();
    router
        .route("/openapi.json", get(move || async move { Json(document) }))
        .merge(health(&state))
        .method_not_allowed_fallback(stack::method_not_allowed)
        .fallback(stack::not_found)
        .with_state(state)
}

/// What the operator reaches.
pub fn admin(state: AppState) -> Router {
    let (router, document) = documented_admin();
    router
        .route("/openapi.json", get(move || async move { Json(document) }))
        .method_not_allowed_fallback(stack::method_not_allowed)
        .fallback(stack::not_found)
        .with_state(state)
}

/// What the metrics collector reaches.
pub fn observed(state: &AppState) -> Router {
    let metrics = state.metrics.clone();
    let render = move || metrics.as_ref().map(MetricsHandle::render).unwrap_or_default();
    metrics_route::router(readiness(state), render)
}

fn health<S: Clone + Send + Sync + 'static>(state: &AppState) -> Router<S> {
    health::router(readiness(state))
}

fn readiness(state: &AppState) -> impl Fn() -> health::Answer + Clone + Send + Sync + 'static {
    let state = state.clone();
    move || {
        let state = state.clone();
        Box::pin(async move { ready(&state.signer, &state.accounts, &state.runway).await })
    }
}

/// Green while a payment could be made now.
async fn ready(signer: &Signer, accounts: &Accounts, runway: &Runway) -> Readiness {
    let mut missing = Vec::new();
    if let Err(stale) = signer.chain.fresh() {
        missing.push(NotReady::new("chain", format!("{}; see --chain", stale.0)));
    }
    missing
        .extend(signer.chain.troubles().into_iter().map(|said| NotReady::degraded("chain", said)));
    let funds = runway.troubles().into_iter();
    missing.extend(funds.map(|(what, said)| NotReady::degraded(what, said)));
    if let Err(error) = signer.ledger.ping().await {
        missing.push(NotReady::new("ledger", format!("{error}; see --ledger")));
    }
    if let Some(trouble) = accounts.follower().trouble(Instant::now()) {
        missing.push(NotReady::new("accounts", format!("{trouble}; see --ledger")));
    }
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

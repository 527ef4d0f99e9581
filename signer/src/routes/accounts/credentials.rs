//! API keys and client certificates of accounts.

use super::{CredentialView, Fields, NewKeyView, Part, body, views};
use crate::{
    auth::{api_key::NewKey, manage::CredentialTerms},
    error::SignerError,
    routes::{AppState, Body, views::ErrorBody},
};
use axum::{Json, extract::State};
use http::StatusCode;
use penstock_ledger::signer::accounts::CredentialRecord;
use utoipa::PartialSchema;

/// How long a rotated key goes on when nothing is said.
const OVERLAP_S: u64 = 24 * 3600;
/// Longest overlap: 90 days.
const MAX_OVERLAP_S: u64 = 90 * 24 * 3600;
/// Most keys in a list.
const MAX_KEYS: usize = 10_000;

/// The keys and certificates of an account; the first 10,000.
#[utoipa::path(
    get,
    path = "/v1/accounts/{name}/keys",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = Vec<CredentialView>),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn list_keys(
    State(state): State<AppState>,
    Part(name): Part<String>,
) -> Result<Json<Vec<CredentialView>>, SignerError> {
    let directory = state.accounts.follower().fresh().await?;
    if directory.account(&name).is_none() {
        return Err(SignerError::NotFound(format!("there is no account {name:?}")));
    }
    let now_ms = state.accounts.now_ms();
    let keys = directory.credentials_of(&name).take(MAX_KEYS);
    Ok(Json(keys.map(|record| CredentialView::of(record, now_ms)).collect()))
}

/// A new API key. It is shown here and never again.
#[utoipa::path(
    post,
    path = "/v1/accounts/{name}/keys",
    params(("name" = String, Path)),
    request_body(content = Option<views::KeyTerms>),
    responses(
        (status = 201, body = NewKeyView),
        (status = 400, body = ErrorBody, description = "Names the field."),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn create_key(
    State(state): State<AppState>,
    Part(name): Part<String>,
    Body(body): Body,
) -> Result<(StatusCode, Json<NewKeyView>), SignerError> {
    let mut fields = Fields::<views::KeyTerms>::parse(&body)?;
    let terms = terms(&mut fields, &state)?;
    fields.finish()?;
    let (key, record) = state.accounts.create_key(&name, terms).await?;
    Ok((StatusCode::CREATED, Json(shown(&state, &key, &record))))
}

/// Lets a client certificate in.
#[utoipa::path(
    post,
    path = "/v1/accounts/{name}/certificates",
    params(("name" = String, Path)),
    request_body(content = views::NewCertificate),
    responses(
        (status = 201, body = CredentialView),
        (status = 400, body = ErrorBody, description = "Names the field."),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It is registered already."),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn create_certificate(
    State(state): State<AppState>,
    Part(name): Part<String>,
    Body(body): Body,
) -> Result<(StatusCode, Json<CredentialView>), SignerError> {
    let mut fields = Fields::<views::NewCertificate>::parse(&body)?;
    let text = fields.text("sha256")?.ok_or_else(|| body::bad("sha256", "is missing"))?;
    let mut sha256 = [0; 32];
    hex::decode_to_slice(text.replace(':', ""), &mut sha256)
        .map_err(|_| body::bad("sha256", "expected 64 hex digits, with colons or without"))?;
    let terms = terms(&mut fields, &state)?;
    fields.finish()?;
    let record = state.accounts.create_certificate(&name, sha256, terms).await?;
    let view = CredentialView::of(&record, state.accounts.now_ms());
    Ok((StatusCode::CREATED, Json(view)))
}

/// A key in place of another one, which goes on for a while.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    params(("id" = String, Path)),
    request_body(content = Option<views::RotateTerms>),
    responses(
        (status = 201, body = NewKeyView),
        (status = 400, body = ErrorBody, description = "Names the field."),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It is revoked or has expired, or was changed meanwhile."),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn rotate_key(
    State(state): State<AppState>,
    Part(id): Part<String>,
    Body(body): Body,
) -> Result<(StatusCode, Json<NewKeyView>), SignerError> {
    let mut fields = Fields::<views::RotateTerms>::parse(&body)?;
    let overlap_s = fields.number("overlap_s")?.unwrap_or(OVERLAP_S);
    if overlap_s > MAX_OVERLAP_S {
        return Err(body::bad("overlap_s", &format!("at most {MAX_OVERLAP_S}")));
    }
    let terms = terms(&mut fields, &state)?;
    fields.finish()?;
    let overlap_ms = i64::try_from(overlap_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let (key, record) = state.accounts.rotate_key(&id, overlap_ms, terms).await?;
    Ok((StatusCode::CREATED, Json(shown(&state, &key, &record))))
}

/// Takes a key or certificate back, for good; here at once, at other replicas within two seconds.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/revoke",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = CredentialView),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn revoke_key(
    State(state): State<AppState>,
    Part(id): Part<String>,
) -> Result<Json<CredentialView>, SignerError> {
    let record = state.accounts.revoke(&id).await?;
    Ok(Json(CredentialView::of(&record, state.accounts.now_ms())))
}

fn terms<T: PartialSchema>(
    fields: &mut Fields<T>,
    state: &AppState,
) -> Result<CredentialTerms, SignerError> {
    Ok(CredentialTerms {
        note: fields.text("note")?.unwrap_or_default(),
        expires_at_ms: fields.expiry(state.accounts.now_ms())?,
    })
}

fn shown(state: &AppState, key: &NewKey, record: &CredentialRecord) -> NewKeyView {
    NewKeyView {
        // The one place where a key leaves its wrapping: the answer to who asked for it.
        key: key.expose().to_owned(),
        credential: CredentialView::of(record, state.accounts.now_ms()),
    }
}

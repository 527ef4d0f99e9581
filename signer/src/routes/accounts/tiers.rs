//! Tiers, and rules of single subjects.

use super::{Fields, Part, SubjectView, TierView, body, views};
use crate::{
    error::SignerError,
    routes::{AppState, Body, views::ErrorBody},
};
use axum::{Json, extract::State};
use http::StatusCode;
use penstock_domain::AuthId;

/// Most subjects in a list.
const MAX_SUBJECTS: usize = 10_000;

/// The tiers, by name.
#[utoipa::path(
    get,
    path = "/v1/tiers",
    responses((status = 200, body = Vec<TierView>), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn list_tiers(
    State(state): State<AppState>,
) -> Result<Json<Vec<TierView>>, SignerError> {
    let directory = state.accounts.follower().fresh().await?;
    Ok(Json(directory.tiers().map(TierView::from).collect()))
}

/// A new tier, or other rules of one (with its `version`).
#[utoipa::path(
    put,
    path = "/v1/tiers/{name}",
    params(("name" = String, Path)),
    request_body(content = views::TierPut),
    responses(
        (status = 200, body = TierView),
        (status = 400, body = ErrorBody, description = "Names the field."),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It exists, or was changed meanwhile."),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn put_tier(
    State(state): State<AppState>,
    Part(name): Part<String>,
    Body(body): Body,
) -> Result<Json<TierView>, SignerError> {
    let mut fields = Fields::<views::TierPut>::parse(&body)?;
    let rules = fields.rules("policy")?.ok_or_else(|| body::bad("policy", "is missing"))?;
    let version = fields.number("version")?;
    fields.finish()?;
    let record = state.accounts.put_tier(&name, &rules, version).await?;
    Ok(Json(TierView::from(&record)))
}

/// Takes a tier away that no account has.
#[utoipa::path(
    delete,
    path = "/v1/tiers/{name}",
    params(("name" = String, Path)),
    responses(
        (status = 204),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Accounts still have it."),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn delete_tier(
    State(state): State<AppState>,
    Part(name): Part<String>,
) -> Result<StatusCode, SignerError> {
    state.accounts.delete_tier(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The subjects of an account that have rules of their own; the first 10,000.
#[utoipa::path(
    get,
    path = "/v1/accounts/{name}/subjects",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = Vec<SubjectView>),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn list_subjects(
    State(state): State<AppState>,
    Part(name): Part<String>,
) -> Result<Json<Vec<SubjectView>>, SignerError> {
    let directory = state.accounts.follower().fresh().await?;
    if directory.account(&name).is_none() {
        return Err(SignerError::NotFound(format!("there is no account {name:?}")));
    }
    let subjects = directory.subjects_of(&name).take(MAX_SUBJECTS);
    Ok(Json(subjects.map(SubjectView::from).collect()))
}

/// Rules for one subject, in place of those there are. The subject is the whole auth id,
/// `client:subject`.
#[utoipa::path(
    put,
    path = "/v1/accounts/{name}/subjects/{auth_id}",
    params(("name" = String, Path), ("auth_id" = String, Path)),
    request_body(content = views::SubjectPut),
    responses(
        (status = 200, body = SubjectView),
        (status = 400, body = ErrorBody, description = "Names the field."),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn put_subject(
    State(state): State<AppState>,
    Part((name, auth_id)): Part<(String, String)>,
    Body(body): Body,
) -> Result<Json<SubjectView>, SignerError> {
    let auth_id = auth_id_of(auth_id)?;
    let mut fields = Fields::<views::SubjectPut>::parse(&body)?;
    let rules = fields.subject_rules("policy")?.unwrap_or_default();
    let blocked = fields.state("active", "blocked")?.unwrap_or(false);
    fields.finish()?;
    let record = state.accounts.put_subject(&name, &auth_id, &rules, blocked).await?;
    Ok(Json(SubjectView::from(&record)))
}

/// The account's own rules hold for the subject again.
#[utoipa::path(
    delete,
    path = "/v1/accounts/{name}/subjects/{auth_id}",
    params(("name" = String, Path), ("auth_id" = String, Path)),
    responses(
        (status = 204),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(in crate::routes) async fn delete_subject(
    State(state): State<AppState>,
    Part((name, auth_id)): Part<(String, String)>,
) -> Result<StatusCode, SignerError> {
    state.accounts.delete_subject(&name, &auth_id_of(auth_id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn auth_id_of(text: String) -> Result<AuthId, SignerError> {
    AuthId::new(text).map_err(|e| body::bad("auth_id", &e.to_string()))
}

//! The operator's accounts, tiers, keys and subjects: `body` reads what was sent and names the field
//! that is wrong, `views` are the answers, and what is done is in `auth::manage`.

mod body;
mod credentials;
mod tiers;
mod views;

pub(super) use body::Fields;
pub(super) use credentials::*;
pub(super) use tiers::*;
pub(super) use views::{
    AccountList, AccountView, CredentialView, NewKeyView, SubjectView, TierView, effective,
};

use super::{AppState, Body, views::ErrorBody};
use crate::{auth::manage::AccountChange, error::SignerError};
use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
};
use http::{StatusCode, request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::PartialSchema;

/// Lines in a list when nothing is said.
const DEFAULT_LIMIT: usize = 100;
/// Most lines in a list.
const MAX_LIMIT: usize = 1_000;

/// Parts of the path; bytes that are no text are told in the envelope.
pub(super) struct Part<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Part<T> {
    type Rejection = SignerError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, SignerError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(part)| Self(part)).map_err(|e| SignerError::BadField(e.body_text()))
    }
}

/// Where a list goes on.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    after: Option<String>,
    limit: Option<usize>,
}

/// The accounts, by name.
#[utoipa::path(
    get,
    path = "/v1/accounts",
    params(
        ("after" = Option<String>, Query, description = "Begin after this name: the `next` of the answer before."),
        ("limit" = Option<u32>, Query, description = "At most so many, 100 when absent, 1000 at most."),
    ),
    responses(
        (status = 200, body = AccountList),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn list_accounts(
    State(state): State<AppState>,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<AccountList>, SignerError> {
    let Query(asked) = query.map_err(|e| SignerError::BadField(e.body_text()))?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let directory = state.accounts.follower().fresh().await?;
    let after = asked.after.unwrap_or_default();
    let mut accounts = directory.accounts_after(&after);
    let page: Vec<AccountView> = accounts
        .by_ref()
        .take(limit)
        .map(|(record, policy)| AccountView::of(record, policy))
        .collect();
    let more = accounts.next().is_some();
    let next = page.last().filter(|_| more).map(|account| account.name().to_owned());
    Ok(Json(AccountList { accounts: page, next }))
}

/// A new account.
#[utoipa::path(
    post,
    path = "/v1/accounts",
    request_body(content = views::NewAccount),
    responses(
        (status = 201, body = AccountView),
        (status = 400, body = ErrorBody, description = "Names the field."),
        (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The name is taken."),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn create_account(
    State(state): State<AppState>,
    Body(body): Body,
) -> Result<(StatusCode, Json<AccountView>), SignerError> {
    let mut fields = Fields::<views::NewAccount>::parse(&body)?;
    let name = fields.text("name")?.ok_or_else(|| body::bad("name", "is missing"))?;
    let change = account_change(&mut fields, None)?;
    fields.finish()?;
    state.accounts.create_account(&name, change).await?;
    Ok((StatusCode::CREATED, Json(shown(&state, &name).await?)))
}

/// One account with what counts for it.
#[utoipa::path(
    get,
    path = "/v1/accounts/{name}",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = AccountView),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn show_account(
    State(state): State<AppState>,
    Part(name): Part<String>,
) -> Result<Json<AccountView>, SignerError> {
    Ok(Json(shown(&state, &name).await?))
}

/// Changes of an account. What is absent stays; `policy` replaces all own rules; `"tier": null` takes
/// the tier away; `version` makes sure that nobody else changed it meanwhile.
#[utoipa::path(
    patch,
    path = "/v1/accounts/{name}",
    params(("name" = String, Path)),
    request_body(content = views::AccountPatch),
    responses(
        (status = 200, body = AccountView),
        (status = 400, body = ErrorBody, description = "Names the field."),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It was changed meanwhile."),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn change_account(
    State(state): State<AppState>,
    Part(name): Part<String>,
    Body(body): Body,
) -> Result<Json<AccountView>, SignerError> {
    let mut fields = Fields::<views::AccountPatch>::parse(&body)?;
    let version = fields.number("version")?;
    let change = account_change(&mut fields, version)?;
    fields.finish()?;
    state.accounts.change_account(&name, change).await?;
    Ok(Json(shown(&state, &name).await?))
}

fn account_change<T: PartialSchema>(
    fields: &mut Fields<T>,
    version: Option<u64>,
) -> Result<AccountChange, SignerError> {
    Ok(AccountChange {
        version,
        tier: fields.nullable_text("tier")?,
        rules: fields.rules("policy")?,
        note: fields.text("note")?,
        blocked: fields.state("active", "blocked")?,
    })
}

async fn shown(state: &AppState, name: &str) -> Result<AccountView, SignerError> {
    let directory = state.accounts.follower().fresh().await?;
    let (record, policy) = directory
        .account(name)
        .ok_or_else(|| SignerError::NotFound(format!("there is no account {name:?}")))?;
    Ok(AccountView::of(record, policy))
}

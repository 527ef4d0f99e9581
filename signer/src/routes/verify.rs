//! `POST /v1/verify`: a gateway asks whose a credential is that a caller of its own showed it.
//! Costs no key operation and no database read.

use super::{
    AppState, Body,
    accounts::{Fields, effective},
    views,
};
use crate::{
    auth::{AuthError, Caller, follower::MAX_AGE},
    error::SignerError,
};
use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A caller's credential.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct VerifyRequest {
    /// An API key, or a token of the identity provider.
    token: String,
}

/// Whose it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerifyAnswer {
    /// Whether the caller is to be let in.
    valid: bool,
    /// Why not, for programs: `unauthorized` or `forbidden`.
    code: Option<&'static str>,
    /// Why not, for people.
    reason: Option<String>,
    /// The caller's account.
    account: Option<String>,
    /// What to send as `Signer-Auth-Id` for this caller.
    auth_id: Option<String>,
    /// What the account may do.
    #[schema(value_type = Option<Object>)]
    policy: Option<Value>,
    /// How long this answer may be kept, milliseconds.
    cache_for_ms: u64,
}

/// Whose a credential is. Only for accounts that may name subjects. The account's rules and budgets
/// are enforced when a payment is made for `auth_id`, whatever was kept from here.
#[utoipa::path(
    post,
    path = "/v1/verify",
    request_body(content = VerifyRequest),
    responses(
        (status = 200, body = VerifyAnswer, description = "Also when the credential is not valid."),
        (status = 400, body = views::ErrorBody),
        (status = 401, body = views::ErrorBody, description = "The gateway's own credential is not valid."),
        (status = 403, body = views::ErrorBody, description = "The gateway's account may not name subjects."),
        (status = 413, body = views::ErrorBody),
        (status = 429, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn verify(
    caller: Caller,
    State(state): State<AppState>,
    Body(body): Body,
) -> Result<Json<VerifyAnswer>, SignerError> {
    if !caller.account.policy().may_name_subjects {
        return Err(AuthError::NotTrusted.into());
    }
    let mut fields = Fields::<VerifyRequest>::parse(&body)?;
    let token = fields.text("token")?;
    let token = token.ok_or_else(|| SignerError::BadField("token: is missing".to_owned()))?;
    fields.finish()?;
    let cache_for_ms = u64::try_from(MAX_AGE.as_millis()).unwrap_or(0);
    let blank = VerifyAnswer {
        valid: false,
        code: None,
        reason: None,
        account: None,
        auth_id: None,
        policy: None,
        cache_for_ms,
    };
    match state.accounts.whose(&token).await {
        Ok((account, auth_id)) => Ok(Json(VerifyAnswer {
            valid: true,
            account: Some(account.name().to_owned()),
            auth_id: Some(auth_id.into()),
            policy: Some(effective(account.policy())),
            ..blank
        })),
        Err(error @ AuthError::Unavailable(_)) => Err(error.into()),
        Err(error) => {
            let reason = Some(error.to_string());
            let code = Some(SignerError::from(error).code());
            Ok(Json(VerifyAnswer { code, reason, ..blank }))
        }
    }
}

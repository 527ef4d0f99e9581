//! `GET /v1/selection/explain`: why a job went where it went.
//!
//! The operator's listener tells everything. The public one tells a caller of their own jobs only, in
//! counts and causes: who else is known, what they cost and how they are thought of is the operator's.

use super::Shared;
use crate::{
    error::GatewayError,
    front::caller::{Caller, CallerExt},
    openapi::ErrorBody,
    service::explain::{About, Explanation, Outline},
    trace,
};
use axum::{
    Json,
    extract::{Query, State},
};
use penstock_domain::StreamId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The public route.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(outline))
}

/// The operator's routes.
pub fn operator_router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(explain)).routes(routes!(newest))
}

/// What to explain: exactly one of `job`, `stream` and `pipeline`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// The job's trace id, as its answer's `X-Trace-Id` says it, or the answer's `x-request-id`, if the
    /// request had no `traceparent`. Kept for ten minutes, at every replica, if a try failed or the
    /// `traceparent` was marked as sampled (flags `01`); else at the replica that did it, while it is among
    /// its newest 256.
    job: Option<String>,
    /// A stream: the newest segment whose orchestrator changed or failed, for as long as the stream goes on and
    /// ten minutes.
    stream: Option<String>,
    /// A pipeline, or `video`: what would be chosen now.
    pipeline: Option<String>,
    /// With `pipeline`: the model; absent: the pipeline's default.
    model: Option<String>,
}

impl Asked {
    fn about(self) -> Result<About, GatewayError> {
        let bad = || GatewayError::Form("name one of job, stream and pipeline".to_owned());
        match (self.job, self.stream, self.pipeline) {
            (Some(job), None, None) => {
                let is_no =
                    || GatewayError::Form("job must be a trace id or a request's".to_owned());
                trace::of_request(&job).map(About::Job).ok_or_else(is_no)
            }
            (None, Some(stream), None) => {
                StreamId::new(stream).map(About::Stream).map_err(|_| GatewayError::NotFound)
            }
            (None, None, Some(pipeline)) if pipeline == "video" => Ok(About::Video),
            (None, None, Some(pipeline)) => {
                Ok(About::Pipeline { pipeline, model: self.model.unwrap_or_default() })
            }
            _ => Err(bad()),
        }
    }
}

/// Why a job found the orchestrator that it found
#[utoipa::path(
    get, path = "/v1/selection/explain", tag = "ai", params(Asked),
    responses(
        (status = 200, description = "How many candidates there were and why each was left out, without names and prices", body = Outline),
        (status = 400, description = "Not exactly one thing asked about", body = ErrorBody),
        (status = 404, description = "No such job or stream of this caller, or too long ago", body = ErrorBody),
        (status = 503, description = "Nobody can tell now", body = ErrorBody),
    )
)]
async fn outline(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Outline>, GatewayError> {
    let Query(asked) = asked.map_err(|e| GatewayError::Form(e.body_text()))?;
    let found = gateway.explain(&caller, &asked.about()?).await?;
    // Another caller's job is none of this one's business, not even that there is one.
    let own = found.filter(|e| e.auth_id == caller.auth_id.as_str());
    own.map(|e| Json(e.into())).ok_or(GatewayError::NotFound)
}

/// Why a job found the orchestrator that it found, with names and prices
#[utoipa::path(
    get, path = "/v1/selection/explain", tag = "operator", params(Asked),
    responses(
        (status = 200, description = "Each decision with its candidates", body = Explanation),
        (status = 400, description = "Not exactly one thing asked about", body = ErrorBody),
        (status = 401, description = "Not the admin token", body = ErrorBody),
        (status = 404, description = "No such job or stream, or too long ago", body = ErrorBody),
        (status = 503, description = "Nobody can tell now", body = ErrorBody),
    )
)]
async fn explain(
    State(gateway): State<Shared>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Explanation>, GatewayError> {
    let Query(asked) = asked.map_err(|e| GatewayError::Form(e.body_text()))?;
    let caller = Caller::of_settings(&gateway.settings);
    let found = gateway.explain(&caller, &asked.about()?).await?;
    found.map(Json).ok_or(GatewayError::NotFound)
}

/// The newest decisions of this replica
#[utoipa::path(
    get, path = "/v1/selection/newest", tag = "operator",
    responses(
        (status = 200, description = "Newest first", body = Vec<Explanation>),
        (status = 401, description = "Not the admin token", body = ErrorBody),
    )
)]
async fn newest(State(gateway): State<Shared>) -> Json<Vec<Explanation>> {
    Json(gateway.explained.newest())
}

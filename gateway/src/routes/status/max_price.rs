//! `/setMaxPriceForCapability`: what a unit of a model may cost at most, for the whole fleet.

use crate::{
    config::{models::capability_named, selection::Ceiling},
    error::GatewayError,
    openapi::ErrorBody,
    routes::{Shared, body},
};
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use std::{borrow::Cow, collections::HashMap};
use utoipa::ToSchema;

/// Largest form read.
const MAX_FORM_BYTES: usize = 64 * 1024;
/// Longest name of a model.
const MAX_MODEL_BYTES: usize = 256;

/// A form.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code, reason = "only its schema is used")]
struct CeilingForm {
    /// As for GET.
    max_price_per_unit: Option<String>,
    /// As for GET.
    pixels_per_unit: Option<String>,
    /// As for GET.
    currency: Option<String>,
    /// As for GET.
    pipeline: Option<String>,
    /// As for GET.
    #[schema(rename = "modelID")]
    model_id: Option<String>,
}

/// Set a ceiling
///
/// For all replicas, before what `--max-price-per-capability` says; the others hear of it within
/// `--discovery-interval-ms`.
#[utoipa::path(
    get, path = "/setMaxPriceForCapability", tag = "go",
    params(
        ("maxPricePerUnit" = String, Query, description = "A number above 0"),
        ("pixelsPerUnit" = String, Query, description = "For so many units"),
        ("currency" = Option<String>, Query, description = "`wei` (also when absent), `eth` or `usd`"),
        ("pipeline" = String, Query, description = "`llm`, …, or `byoc`"),
        ("modelID" = String, Query, description = "`default`: every model without a ceiling of its own"),
    ),
    responses(
        (status = 200, description = "It counts from now on"),
        (status = 400, description = "No such ceiling", body = String),
        (status = 503, description = "The store is away", body = ErrorBody),
    )
)]
pub(super) async fn set_by_query(
    State(gateway): State<Shared>,
    request: Request,
) -> Result<Response, GatewayError> {
    set_to(&gateway, request.uri().query(), &[]).await
}

/// Set a ceiling (as GET, or with a form)
#[utoipa::path(
    post, path = "/setMaxPriceForCapability", tag = "go",
    request_body(content = CeilingForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "It counts from now on"),
        (status = 400, description = "No such ceiling", body = String),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 503, description = "The store is away", body = ErrorBody),
    )
)]
pub(super) async fn set(
    State(gateway): State<Shared>,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let said = body::said_length(&head.headers);
    let form = body::read_small(said, body, MAX_FORM_BYTES).await?;
    set_to(&gateway, head.uri.query(), &form).await
}

async fn set_to(
    gateway: &Shared,
    query: Option<&str>,
    form: &[u8],
) -> Result<Response, GatewayError> {
    // The form goes before the query, as in Go.
    let both = [query.unwrap_or_default().as_bytes(), form];
    let said: HashMap<Cow<'_, str>, Cow<'_, str>> =
        both.into_iter().flat_map(url::form_urlencoded::parse).collect();
    let value = |name: &str| said.get(name).map(|v| v.as_ref()).unwrap_or_default();
    let (price, units) = (value("maxPricePerUnit"), value("pixelsPerUnit"));
    let (pipeline, model) = (value("pipeline"), value("modelID"));
    if pipeline.is_empty() || model.is_empty() || model.len() > MAX_MODEL_BYTES {
        return Ok(bad("pipeline and modelID must be set"));
    }
    let Some(capability) = capability_named(pipeline) else {
        return Ok(bad("pipeline not supported"));
    };
    if price.is_empty() || units.is_empty() {
        return Ok(bad("maxPricePerUnit and pixelsPerUnit need to be set"));
    }
    let text = format!("{price}{}/{units}", value("currency"));
    if Ceiling::parse(&text).is_none() {
        return Ok(bad("a price above 0 in wei, eth or usd, and units above 0, are needed"));
    }
    if !gateway.set_ceiling(capability, model, &text).await? {
        return Ok(bad("too many ceilings, or in dollars without --eth-usd"));
    }
    tracing::info!(pipeline, model, ceiling = text, "a ceiling was set");
    Ok(StatusCode::OK.into_response())
}

fn bad(why: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

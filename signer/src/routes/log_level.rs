//! `/v1/log-level`: how much this process logs, until it ends.

use super::views;
use axum::{body::Body, response::Response};
use penstock_http_kit::log_level as here;

/// The filter that counts now.
#[utoipa::path(
    get,
    path = "/v1/log-level",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "This process has no logs."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn log_level() -> Response {
    here::read().await
}

/// Log more, or less: a filter as for `--log-level`. Of this process alone.
#[utoipa::path(
    put,
    path = "/v1/log-level",
    request_body(content = String, content_type = "text/plain"),
    responses(
        (status = 204, description = "It counts from now on."),
        (status = 400, body = views::ErrorBody, description = "Not a filter."),
        (status = 401, body = views::ErrorBody),
        (status = 413, body = views::ErrorBody, description = "Above 4,096 bytes."),
        (status = 503, body = views::ErrorBody, description = "This process has no logs."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn set_log_level(filter: Body) -> Response {
    here::set(filter).await
}

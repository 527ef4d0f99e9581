//! `/v1/log-level`: how much this process logs, until it ends.

use super::views;
use axum::response::Response;
use penstock_http_kit::log_level;

/// The filter that counts now.
#[utoipa::path(
    get,
    path = "/v1/log-level",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 401, body = views::ErrorBody),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn read() -> Response {
    log_level::read().await
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
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn set(filter: String) -> Response {
    log_level::set(filter).await
}

//! `/v1/log-level` of operators: how much this process logs, until it ends.

use crate::ApiError;
use axum::{
    Router,
    body::{Body, to_bytes},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use penstock_telemetry::TelemetryError;

/// Where it is.
pub const PATH: &str = "/v1/log-level";
/// Longest filter looked at.
const MAX_BYTES: usize = 4_096;

/// `GET` says it, `PUT` with a filter as for `--log-level` as its body changes it.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route(PATH, get(read).put(set))
}

/// The filter that counts now.
pub async fn read() -> Response {
    penstock_telemetry::log_level()
        .map_or_else(|| no_logs().into_response(), IntoResponse::into_response)
}

/// Logs by this filter from now on.
pub async fn set(body: Body) -> Response {
    let Ok(body) = to_bytes(body, MAX_BYTES).await else {
        return ApiError::too_large(MAX_BYTES as u64).into_response();
    };
    let Ok(filter) = std::str::from_utf8(&body) else {
        return bad("not text").into_response();
    };
    let filter = filter.trim();
    match penstock_telemetry::set_log_level(filter) {
        Ok(()) => {
            tracing::warn!(filter, "how much is logged was changed by the operator");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(TelemetryError::Level(why)) => bad(&why).into_response(),
        Err(_) => no_logs().into_response(),
    }
}

fn bad(why: &str) -> ApiError {
    ApiError::bad_request(why).with_code("bad_filter")
}

fn no_logs() -> ApiError {
    ApiError::unavailable("this process has no logs", 1).with_code("no_logs")
}

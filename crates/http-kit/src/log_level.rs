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

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use tower::ServiceExt as _;

    async fn said(request: http::request::Builder, body: impl Into<Body>) -> (u16, String) {
        let request = request.uri(PATH).body(body.into()).unwrap();
        let answer = router::<()>().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let text = to_bytes(answer.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(text.to_vec()).unwrap())
    }

    /// In one test: a process has its logs once.
    #[tokio::test]
    async fn what_is_logged_is_changed_while_the_process_runs() {
        let (get, put) = (|| Request::get(PATH), || Request::put(PATH));
        assert_eq!(said(get(), "").await.0, 503, "there are no logs yet");
        assert_eq!(said(put(), "info").await.0, 503);
        penstock_telemetry::init_logs(false, "warn,reqwest=off").unwrap();
        assert_eq!(said(get(), "").await, (200, "reqwest=off,warn".to_owned()));
        let talks = || tracing::enabled!(target: "penstock_some_role", tracing::Level::DEBUG);
        assert!(!talks());
        assert_eq!(said(put(), " warn,penstock_some_role=debug\n").await, (204, String::new()));
        assert!(talks(), "from now on");
        assert_eq!(said(get(), "").await.1, "penstock_some_role=debug,warn");
        // What is no filter changes nothing, and is told.
        for (body, status) in
            [(b"a=b=c".to_vec(), 400), (vec![0xff], 400), (vec![b'a'; MAX_BYTES + 1], 413)]
        {
            let (answered, why) = said(put(), body).await;
            assert_eq!(answered, status, "{why}");
            assert!(talks(), "{why}");
        }
        assert_eq!(said(put(), "error").await.0, 204);
        assert!(!talks());
    }
}

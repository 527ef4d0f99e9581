//! `/getLogLevel`, `/setLogLevel`: how much this process logs, until it ends.

use crate::{error::GatewayError, openapi::ErrorBody, routes::body};
use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use utoipa::ToSchema;

/// Longest filter looked at.
const MAX_BYTES: usize = 4_096;
/// Largest form read.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// How much is logged
#[utoipa::path(
    get, path = "/getLogLevel", tag = "go",
    responses(
        (status = 200, description = "The filter that counts now", body = String),
        (status = 500, description = "This process has no logs", body = String),
    )
)]
pub(super) async fn read() -> Response {
    match penstock_telemetry::log_level() {
        Some(level) => level.into_response(),
        None => (StatusCode::INTERNAL_SERVER_ERROR, "nil log level\n").into_response(),
    }
}

/// Log more, or less
///
/// Of this process alone and until it ends; `--log-level` is what it begins with.
#[utoipa::path(
    get, path = "/setLogLevel", tag = "go",
    params(("loglevel" = String, Query, description = "A filter as for --log-level (`debug`, `info,penstock_gateway=debug`), or the Go node's number: up to 2 warnings, 3 as usual, 4 and 5 debug, 6 and more everything")),
    responses(
        (status = 200, description = "It counts from now on", body = String),
        (status = 400, description = "Not a filter", body = String),
        (status = 500, description = "This process has no logs", body = String),
    )
)]
pub(super) async fn set_by_query(request: Request) -> Response {
    set_to(request.uri().query(), &[])
}

/// A form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct LevelForm {
    /// As for GET.
    loglevel: Option<String>,
}

/// Log more, or less (as GET, or with `loglevel` in a form)
#[utoipa::path(
    post, path = "/setLogLevel", tag = "go",
    params(("loglevel" = Option<String>, Query, description = "As for GET")),
    request_body(content = LevelForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "It counts from now on", body = String),
        (status = 400, description = "Not a filter", body = String),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 500, description = "This process has no logs", body = String),
    )
)]
pub(super) async fn set(request: Request) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let said = body::said_length(&head.headers);
    let form = body::read_small(said, body, MAX_FORM_BYTES).await?;
    Ok(set_to(head.uri.query(), &form))
}

fn set_to(query: Option<&str>, form: &[u8]) -> Response {
    let bad = |why: &str| (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response();
    let Some(asked) = wanted(query.unwrap_or_default().as_bytes(), form) else {
        return bad("missing form param: loglevel");
    };
    let Some(filter) = filter(&asked) else {
        return bad("parameter 'logLevel' not defined");
    };
    match penstock_telemetry::set_log_level(&filter) {
        Ok(()) => {
            tracing::warn!(filter, "how much is logged was changed by the operator");
            StatusCode::OK.into_response()
        }
        Err(penstock_telemetry::TelemetryError::Level(why)) => bad(&why),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "nil log level\n").into_response(),
    }
}

/// `loglevel` of a form before that of a query, as Go reads them; empty is absent.
fn wanted(query: &[u8], form: &[u8]) -> Option<String> {
    let all = [form, query].into_iter().flat_map(url::form_urlencoded::parse);
    let mut levels = all.filter(|(name, _)| name == "loglevel").map(|(_, value)| value);
    levels.find(|value| !value.is_empty()).map(std::borrow::Cow::into_owned)
}

/// The filter that is meant; `None` for a number that is none of the Go node's.
fn filter(asked: &str) -> Option<String> {
    if asked.len() > MAX_BYTES {
        return None;
    }
    let number = match asked.parse::<i32>() {
        Ok(number) => number,
        Err(_) => return Some(asked.to_owned()),
    };
    let level = match number {
        ..0 => return None,
        0..=2 => "warn",
        3 => "info",
        4 | 5 => "debug",
        6.. => "trace",
    };
    Some(level.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant() {
        for (asked, meant) in [
            ("0", Some("warn")),
            ("3", Some("info")),
            ("4", Some("debug")),
            ("6", Some("trace")),
            ("99", Some("trace")),
            ("-1", None),
            ("info,penstock_gateway=debug", Some("info,penstock_gateway=debug")),
        ] {
            assert_eq!(filter(asked).as_deref(), meant, "{asked}");
        }
        assert_eq!(filter(&"x".repeat(5_000)), None);
        assert_eq!(wanted(b"a=1&loglevel=debug", b"").as_deref(), Some("debug"));
        assert_eq!(wanted(b"loglevel=debug", b"loglevel=warn").as_deref(), Some("warn"));
        assert_eq!(wanted(b"loglevel=", b""), None);
    }
}

//! Bearer tokens: for operator endpoints, and for any router that wants one.

use crate::ApiError;
use axum::{Router, extract::Request, middleware, middleware::Next, response::IntoResponse};
use http::{HeaderMap, StatusCode, header, uri::Authority};
use std::{net::IpAddr, sync::Arc};
use subtle::ConstantTimeEq;

/// Asks every request of `router` for `Authorization: Bearer <token>`. Without a token (allowed
/// on loopback only, see `CommonArgs::admin_token`) every program of this machine may ask, but no
/// page in one of its browsers: see [`refuse_browsers`].
pub fn require_token<S>(router: Router<S>, token: Option<String>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let Some(token) = token else { return refuse_browsers(router) };
    require_one_of(router, vec![token])
}

/// Refuses what a web page could have sent (403): a browser puts `Origin` on every request of a page
/// to elsewhere that changes something, and a page whose name was pointed at this machine
/// (DNS rebinding) sends that name as `Host`.
pub fn refuse_browsers<S>(router: Router<S>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router.layer(middleware::from_fn(|request: Request, next: Next| async move {
        let headers = request.headers();
        // HTTP/2 names the host in the address.
        let host = headers.get(header::HOST).map(http::HeaderValue::as_bytes);
        let host = host.or_else(|| request.uri().authority().map(|a| a.as_str().as_bytes()));
        if headers.contains_key(header::ORIGIN) || !host.is_none_or(is_this_machine) {
            return ApiError::new(
                StatusCode::FORBIDDEN,
                "without an admin token no browser and no other host name is answered",
            )
            .with_code("forbidden")
            .into_response();
        }
        next.run(request).await
    }))
}

/// Whether `host[:port]` names the loopback interface.
fn is_this_machine(host: &[u8]) -> bool {
    let Some(host) = core::str::from_utf8(host).ok().and_then(|h| h.parse::<Authority>().ok())
    else {
        return false;
    };
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The same as [`require_token`] with several valid tokens, so that one can be replaced without downtime.
pub fn require_one_of<S>(router: Router<S>, tokens: Vec<String>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let tokens = Arc::new(tokens);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let tokens = Arc::clone(&tokens);
        async move {
            if bearer(request.headers()).is_some_and(|given| known(given, &tokens)) {
                next.run(request).await
            } else {
                ApiError::unauthorized("a valid bearer token is required")
                    .with_code("unauthorized")
                    .into_response()
            }
        }
    }))
}

/// The bearer token of a request, if it has one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Looks at every token, each in constant time, so that timing says nothing about any.
fn known(given: &str, tokens: &[String]) -> bool {
    let mut found = false;
    for token in tokens {
        found |= bool::from(given.as_bytes().ct_eq(token.as_bytes()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    #[tokio::test]
    async fn asks_for_the_token() {
        let app =
            require_token(Router::new().route("/", get(|| async { "in" })), Some("t1".into()));
        let ask = |value: Option<&str>| {
            let mut request = http::Request::get("/");
            if let Some(v) = value {
                request = request.header("authorization", v);
            }
            app.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        assert_eq!(ask(None).await.unwrap().status(), 401);
        assert_eq!(ask(Some("Bearer t2")).await.unwrap().status(), 401);
        assert_eq!(ask(Some("Basic t1")).await.unwrap().status(), 401);
        assert_eq!(ask(Some("bearer t1")).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn without_a_token_programs_of_this_machine_alone_are_answered() {
        let of = |token: Option<&str>| {
            require_token(
                Router::new().route("/", get(|| async { "in" })),
                token.map(str::to_owned),
            )
        };
        let ask = async |app: Router, headers: &[(&str, &str)]| {
            let mut request = http::Request::get("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
        };
        for host in
            ["localhost", "LocalHost:7937", "127.0.0.1:1", "127.8.9.1", "[::1]:7937", "[::1]"]
        {
            assert_eq!(ask(of(None), &[("host", host)]).await, 200, "{host}");
            let origin = format!("http://{host}");
            let page = [("host", host), ("origin", origin.as_str())];
            assert_eq!(ask(of(None), &page).await, 403, "a page of {host}");
        }
        for host in [
            "evil.example",
            "evil.example:7937",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "10.0.0.1",
            "0.0.0.0:7937",
            "[::1",
            "",
            "é",
        ] {
            assert_eq!(ask(of(None), &[("host", host)]).await, 403, "{host}");
        }
        // Who knows the token is let in from everywhere: no page knows it.
        let proxied = [("host", "signer.example"), ("authorization", "Bearer t1")];
        assert_eq!(ask(of(Some("t1")), &proxied).await, 200);
    }
}

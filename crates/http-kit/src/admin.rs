//! Bearer tokens: for operator endpoints, and for any router that wants one.

use crate::ApiError;
use axum::{Router, extract::Request, middleware, middleware::Next, response::IntoResponse};
use http::{HeaderMap, header};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Asks every request of `router` for `Authorization: Bearer <token>`; without a token (allowed
/// on loopback only, see `CommonArgs::admin_token`) the router is returned as it is.
pub fn require_token<S>(router: Router<S>, token: Option<String>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let Some(token) = token else { return router };
    require_one_of(router, vec![token])
}

/// The same with several valid tokens, so that one can be replaced without downtime.
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
}

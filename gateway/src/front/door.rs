//! The layer that every request to the API passes: who is calling, whether they may, and whether it is
//! within their limits. Before it nothing is read of the body.

use super::{
    access::{self, Access},
    auth::Refused,
    caller::Caller,
    idempotency::REPLAYED,
    limits::NothingDone,
};
use crate::{error::GatewayError, routes::Shared};
use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use penstock_http_kit::layers::Next;
use std::sync::Arc;

/// Makes a repetition safe.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest key, as for the signer.
const KEY_BYTES: usize = 128;

/// Lets a request in, or says why not.
pub async fn layer(gateway: Shared, mut request: Request, next: Next) -> Response {
    let settings = &gateway.settings.front;
    let access = access::of(request.method(), request.uri().path());
    if access == Access::Address || (access == Access::Playback && !settings.auth.playback) {
        return next.run(request).await;
    }
    let mut caller = match gateway.callers.caller(request.headers(), &gateway.settings).await {
        Ok(caller) => caller,
        // The stream webhook decides, or nobody does.
        Err(Refused::Missing) if access == Access::Publish && settings.auth.publish_open => {
            Caller::of_settings(&gateway.settings)
        }
        Err(refused) => return GatewayError::from(refused).into_response(),
    };
    caller.idempotency_key = match idempotency_key(request.headers()) {
        Ok(key) => key,
        Err(error) => return error.into_response(),
    };
    if !access::costs(request.method(), request.uri().path()) {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let standing = match gateway.take_request(&caller).await {
        Ok(standing) => standing,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(caller.clone());
    let mut response = next.run(request).await;
    if let Some(standing) = standing {
        let came_to_nothing = response.extensions().get::<NothingDone>().is_some()
            || response.headers().contains_key(REPLAYED);
        let standing = match came_to_nothing {
            // In a task of its own: a client that has gone has not used up its day.
            true => {
                gateway.jobs.spawn({
                    let gateway = Arc::clone(&gateway);
                    async move { gateway.give_request(&caller).await }
                });
                standing.given_back()
            }
            false => standing,
        };
        standing.write(response.headers_mut());
    }
    response
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, GatewayError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=KEY_BYTES).contains(&text.len()));
    let text = text.filter(|text| text.bytes().all(|b| b.is_ascii_graphic()));
    text.map(|text| Some(text.to_owned())).ok_or(GatewayError::IdempotencyKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded() {
        let of = |value: &str| {
            let name = IDEMPOTENCY_KEY.parse().unwrap();
            idempotency_key(&HeaderMap::from_iter([(name, value.parse().unwrap())])).ok().flatten()
        };
        assert_eq!(of("a-1").as_deref(), Some("a-1"));
        for bad in ["", "a b", &"k".repeat(129)] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(idempotency_key(&HeaderMap::new()).unwrap().is_none());
    }
}

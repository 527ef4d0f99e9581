//! The whole order of layers around the routes, outermost last, each with its reason.

use crate::{
    config::front::Cors,
    front,
    media::path,
    routes::{Shared, assets, openai},
    service::Gateway,
    trace,
};
use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, header};
use penstock_http_kit::{
    ApiError, health,
    layers::{Layers, Next},
    stack,
};
use std::sync::Arc;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// What a buffering extractor may read. Uploads are read by their handlers, which have limits of
/// their own; nothing else here takes a body.
const SMALL_BODY_BYTES: usize = 64 * 1024;

/// The public router.
pub fn public(gateway: &Arc<Gateway>) -> Router {
    let (documented, _) = crate::openapi::router().split_for_parts();
    // Around the API alone: pages and health are for everybody. The first is outermost.
    let api = Layers::default()
        .then(trace::layer)
        .then(front::timing::layer)
        .then(knowing(gateway, front::door::layer))
        // It needs to know the caller.
        .then(knowing(gateway, front::idempotency::layer));
    let routes: Router<Shared> = documented
        .layer(api)
        .merge(assets::router())
        .merge(health_routes(gateway))
        .fallback(unknown)
        // In the envelope like every other error, instead of axum's empty 405.
        .method_not_allowed_fallback(stack::method_not_allowed);
    let routes = routes
        // Inside the common layers, so that a preflight request has an id and a log line too; outside
        // the routes, because browsers ask before any route would know the method.
        .layer(cors(&gateway.settings.front.cors));
    // Outside of the common ones, to say the request's id, and what a panic became.
    let outer = Layers::default()
        .then(knowing(gateway, goodbye))
        .then(front::problem::layer)
        .then(openai::errors);
    // Request id, log line, panic catcher, small-body limit.
    stack::common_within(routes, outer, SMALL_BODY_BYTES).with_state(Arc::clone(gateway))
}

/// A layer that needs the gateway.
fn knowing<L, F>(gateway: &Shared, layer: L) -> impl Fn(Request, Next) -> F + Send + Sync + 'static
where
    L: Fn(Shared, Request, Next) -> F + Send + Sync + 'static,
{
    let gateway = Arc::clone(gateway);
    move |request, next| layer(Arc::clone(&gateway), request, next)
}

/// `/healthz` and `/readyz`, for the public and the metrics listener.
pub fn health_routes<S: Clone + Send + Sync + 'static>(gateway: &Arc<Gateway>) -> Router<S> {
    health::router(readiness(gateway))
}

/// What both say.
pub fn readiness(
    gateway: &Arc<Gateway>,
) -> impl Fn() -> health::Answer + Clone + Send + Sync + 'static {
    let gateway = Arc::clone(gateway);
    move || {
        let gateway = Arc::clone(&gateway);
        async move {
            let missing = gateway.not_ready().await;
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        }
        .boxed()
    }
}

/// Whose pages may use the API. What they may do there is not decided by cookies, which are never read.
fn cors(settings: &Cors) -> CorsLayer {
    let exposed = [
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "idempotency-replayed",
        "livepeer-balance",
        "x-metadata",
        "x-orchestrator-url",
    ];
    let origins = match settings {
        Cors::Any => AllowOrigin::any(),
        Cors::Only(list) => AllowOrigin::list(list.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        // Whatever the page's client says: those of OpenAI say a dozen things of themselves, and more
        // with each version. Without cookies no header has a power that the page does not have anyway.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(
            exposed
                .map(HeaderName::from_static)
                .into_iter()
                .chain([header::CONTENT_LENGTH, header::RETRY_AFTER])
                .chain([stack::REQUEST_ID, trace::TRACE_ID, front::timing::SERVER_TIMING])
                .collect::<Vec<_>>(),
        )
}

/// A replica that is about to stop asks its clients, load balancers too, for another connection.
async fn goodbye(gateway: Shared, request: Request, next: Next) -> Response {
    // HTTP/2 says so in its own way, and knows no such header.
    let speaks = request.version() <= http::Version::HTTP_11;
    let mut response = next.run(request).await;
    if speaks && gateway.draining.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Unknown paths. A push to a path that has no stream or too many parts says what is wrong with it.
async fn unknown(request: Request) -> Response {
    let url = request.uri().path();
    let pushing = matches!(*request.method(), Method::PUT | Method::POST);
    if pushing && url.starts_with("/live/") {
        let error = match path::parse_push(url) {
            Err(error) => error,
            Ok(_) => path::BadPath::Stream(url.chars().take(256).collect()),
        };
        return crate::error::GatewayError::Path(error).into_response();
    }
    ApiError::not_found("not found").with_code("not_found").into_response()
}

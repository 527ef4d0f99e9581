//! The server's HTTP: handlers translate, channels decide (trickle.md section 2).

mod answer;
mod manage;
mod publish;
mod subscribe;

use crate::{
    TrickleServer,
    gate::{Access, Action, Denied},
};
use axum::{Router, routing};
use http::request::Parts;

/// The routes, without a prefix.
pub(crate) fn router(server: TrickleServer) -> Router {
    let channel = routing::post(manage::create).delete(manage::delete);
    // `next` wins over an index when it is asked for; for the other methods it is an index, and none.
    let next = routing::get(manage::next).post(publish::next).delete(manage::close_next);
    let segment =
        routing::get(subscribe::segment).post(publish::segment).delete(manage::close_segment);
    Router::new()
        .route("/{name}", channel)
        .route("/{name}/next", next)
        .route("/{name}/{idx}", segment)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .with_state(server)
}

async fn admit(
    server: &TrickleServer,
    action: Action,
    channel: &str,
    request: &Parts,
) -> Result<(), Denied> {
    server.gate().admit(Access { action, channel, request }).await
}

//! HTTP on the service port. Handlers translate; the services decide.

pub mod admin;
mod ai;
pub mod apps;
pub mod body;
pub mod books;
mod byoc;
mod byoc_streams;
mod invoices;
mod live;
mod payment;
mod prices;
mod results;
mod runners;
mod segment;
mod stake;
mod stream;
mod training;

use crate::{error, node::Node};
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    routing::{any, get, post},
};
use http::StatusCode;
use penstock_wire::ai::Pipeline;
use std::sync::Arc;

/// All REST routes of the service port. Unknown paths are 404 and wrong methods 405, in text.
pub fn router(node: Arc<Node>) -> Router {
    let mut router = Router::new()
        .route("/segment", post(segment::segment))
        .route("/payment", post(payment::payment))
        .route("/refresh-payment", post(payment::refresh))
        .route("/transcodeResults", post(results::transcode_results))
        .route("/aiResults", post(results::ai_results))
        .route("/stream/{session}/{name}", get(stream::source))
        .route("/stream/{session}/{profile}/{name}", get(stream::result))
        .route("/live-video-to-video", post(live::start))
        .route("/scope", post(live::scope))
        .route("/discovery", get(runners::discovery))
        .route("/runners/heartbeat", post(runners::heartbeat))
        .route("/runners/{id}/unregister", post(runners::unregister))
        .route("/apps/{route}/session", post(apps::reserve))
        .route("/apps/{route}/session/{session}/stop", post(apps::stop))
        .route("/apps/{route}/session/{session}/payment", post(apps::payment))
        .route("/apps/{route}/session/{session}/app", any(apps::session_app))
        .route("/apps/{route}/session/{session}/app/", any(apps::session_app))
        .route("/apps/{route}/session/{session}/app/{*rest}", any(apps::session_app))
        .route("/apps/{route}/app", any(apps::single_shot))
        .route("/apps/{route}/app/", any(apps::single_shot))
        .route("/apps/{route}/app/{*rest}", any(apps::single_shot))
        .route(
            "/runner/{route}/session/{session}/channels",
            post(apps::create_channels).delete(apps::delete_channels),
        )
        .route("/runner/{route}/session/{session}/proxy", post(apps::create_proxy))
        .route("/runner/{route}/session/{session}/stop", post(apps::stop_by_runner))
        .route("/prices", get(prices::published))
        .route("/capabilities", get(byoc::capabilities))
        .route("/process/token", get(byoc::token))
        .route("/process/request", post(byoc::job))
        .route("/process/request/", post(byoc::job))
        .route("/process/request/{*rest}", post(byoc::job))
        .route("/process/train/{*capability}", post(training::begin))
        .route("/process/job/{id}", get(training::status))
        .route("/process/job/{id}/refresh-payment", post(training::payment))
        .route("/ai/stream/start", post(byoc_streams::start))
        .route("/ai/stream/stop", post(byoc_streams::stop))
        .route("/ai/stream/update", post(byoc_streams::update))
        .route("/ai/stream/payment", post(byoc_streams::payment))
        .route("/capability/register", post(byoc::register))
        .route("/capability/unregister", post(byoc::unregister));
    for pipeline in Pipeline::ALL {
        let serve = move |State(node): State<Arc<Node>>, request| ai::job(node, pipeline, request);
        router = router.route(&format!("/{}", pipeline.name()), post(serve));
    }
    router
        .fallback(|| async { error::text(StatusCode::NOT_FOUND, "404 page not found") })
        .method_not_allowed_fallback(|| async {
            error::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        })
        // Innermost: handlers read their bodies themselves, each with its own limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(node)
}

//! The gRPC services of the one port: the network's (orchestrator-wire.md section 2), whose errors have the code
//! Unknown and a text, as the reference's, and [`live_worker`], which is ours.

mod ai_worker;
mod live_worker;
mod orchestrator;
mod transcoder;

use crate::{node::Node, peers::upload::paced};
use axum::Router;
use penstock_wire::{
    live_worker::live_worker_server::LiveWorkerServer,
    net::{
        ai_worker_server::AiWorkerServer, orchestrator_server::OrchestratorServer,
        transcoder_server::TranscoderServer,
    },
};
use std::sync::Arc;
use tonic::service::Routes;

/// All services as routes. The fallback that tonic adds answers unknown REST paths with 200, so it
/// is taken off; unknown gRPC methods then get 404, which clients report as UNIMPLEMENTED.
pub fn router(node: &Arc<Node>) -> Router {
    let (pause, most) = (node.bodies.pause(), node.limits.grpc_request_bytes);
    let orchestrator = OrchestratorServer::new(orchestrator::Service(Arc::clone(node)))
        .max_decoding_message_size(most);
    let transcoder = TranscoderServer::new(transcoder::Service(Arc::clone(node)))
        .max_decoding_message_size(most);
    let ai_worker =
        AiWorkerServer::new(ai_worker::Service(Arc::clone(node))).max_decoding_message_size(most);
    let live_worker = LiveWorkerServer::new(live_worker::Service(Arc::clone(node)))
        .max_decoding_message_size(most);
    Routes::new(orchestrator)
        .add_service(transcoder)
        .add_service(ai_worker)
        .add_service(live_worker)
        .prepare()
        .into_axum_router()
        .reset_fallback()
        // All requests are one message: who is slow with it is not waited for.
        .layer(axum::middleware::map_request(move |request: axum::extract::Request| async move {
            request.map(|body| paced(body, pause))
        }))
}

/// An error as the reference's handlers make them.
fn unknown(text: impl std::fmt::Display) -> tonic::Status {
    tonic::Status::unknown(text.to_string())
}

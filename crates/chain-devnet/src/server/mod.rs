//! The devnet's HTTP: routes, in the order of the stack, and how a rejection is answered.

mod extract;
mod faults;
mod reads;
mod writes;

use crate::node::Node;
use axum::{
    Router,
    routing::{get, post},
};
use penstock_http_kit::{
    health::{self, NotReady},
    stack,
};

/// Largest request body: a ticket is under 2 KiB, a service URI under 1.
pub const MAX_BODY: usize = 64 * 1024;

/// All routes of a chain.
pub fn router(node: Node) -> Router {
    let routes = Router::new()
        .route("/v1/status", get(reads::status))
        .route("/v1/senders/{address}", get(reads::sender))
        .route("/v1/senders/{holder}/claims/{claimant}", get(reads::claim))
        .route("/v1/senders/{holder}/claimable/{claimant}", get(reads::claimable))
        .route("/v1/orchestrators", get(reads::orchestrators))
        .route("/v1/orchestrators/{address}", get(reads::orchestrator))
        .route("/v1/accounts/{address}", get(reads::account))
        .route("/v1/tickets/{hash}", get(reads::ticket))
        .route("/v1/redemptions", get(reads::redemptions))
        .route("/v1/tickets/redeem", post(writes::redeem))
        .route("/v1/fund", post(writes::fund))
        .route("/v1/transactions", post(writes::transact))
        .route("/mine", post(writes::mine))
        .with_state(node.clone())
        .merge(health_routes(node))
        .fallback(stack::not_found)
        .method_not_allowed_fallback(stack::method_not_allowed);
    stack::common(routes, MAX_BODY)
}

/// `/healthz` and `/readyz`, which also stand on the metrics address.
pub fn health_routes(node: Node) -> Router {
    health::router(readiness(node))
}

/// What both say.
pub fn readiness(node: Node) -> impl Fn() -> health::Answer + Clone {
    move || {
        let healthy = node.is_healthy();
        Box::pin(async move {
            if healthy {
                return Ok(());
            }
            Err(vec![NotReady::new("store", "the last commit failed; see --data-dir and the logs")])
        })
    }
}

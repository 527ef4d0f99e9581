//! HTTP in, HTTP out. Handlers translate; `service` decides, `error` names statuses.

pub mod ai;
pub mod assets;
pub mod body;
pub mod byoc;
pub mod capabilities;
pub mod form;
pub mod hls;
pub mod live;
pub mod openai;
pub mod operator;
pub mod ranges;
pub mod recordings;
pub mod selection;
pub mod status;
pub mod streams;

use crate::{
    error::GatewayError,
    front::timing,
    service::{Gateway, fence, heard::Listener},
    trace::{self, Traceparent},
};
use std::sync::Arc;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The state of every handler.
pub type Shared = Arc<Gateway>;

/// Runs a use case to its end even if the client goes away: what was begun is paid for, and leases
/// and claims are given back. The client's absence then only costs it the answer.
pub(crate) async fn to_the_end<T: Send + 'static>(
    jobs: &TaskTracker,
    at: Traceparent,
    work: impl Future<Output = Result<T, GatewayError>> + Send + 'static,
) -> Result<T, GatewayError> {
    let work = fence::scope(fence::current(), timing::scope(timing::current(), work));
    match jobs.spawn(trace::scope(at, work).in_current_span()).await {
        Ok(done) => done,
        Err(_) => Err(GatewayError::Lost),
    }
}

/// The same for an answer in pieces, which is of no use to anybody else: what was begun is settled, but a
/// client that goes before the first piece is not waited for ([`crate::service::heard`]).
pub(crate) async fn while_heard<T: Send + 'static>(
    jobs: &TaskTracker,
    at: Traceparent,
    work: impl Future<Output = Result<T, GatewayError>> + Send + 'static,
) -> Result<T, GatewayError> {
    let listener = Listener::default();
    let work = listener.scope(work);
    to_the_end(jobs, at, work).await
}

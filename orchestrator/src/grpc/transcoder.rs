//! RegisterTranscoder: a worker's stream of segments, open as long as the worker is there.

use super::unknown;
use crate::node::Node;
use futures::{Stream, StreamExt};
use penstock_domain::{Capabilities, CapabilitySet};
use penstock_wire::{
    capabilities,
    hardware::{GPU_NAMES, read_gpu_names},
    net,
};
use std::{pin::Pin, sync::Arc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The service.
pub struct Service(pub Arc<Node>);

/// Unregisters a worker when its stream is dropped, whatever the reason.
struct Leave {
    node: Arc<Node>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.node.transcoders.remove(self.id);
        self.node.sessions.workers_changed();
    }
}

#[tonic::async_trait]
impl net::transcoder_server::Transcoder for Service {
    type RegisterTranscoderStream =
        Pin<Box<dyn Stream<Item = Result<net::NotifySegment, Status>> + Send>>;

    async fn register_transcoder(
        &self,
        request: Request<net::RegisterRequest>,
    ) -> Result<Response<Self::RegisterTranscoderStream>, Status> {
        let gpus = request.metadata().get(GPU_NAMES).and_then(|names| names.to_str().ok());
        let gpus = gpus.map(read_gpu_names).unwrap_or_default();
        let request = request.into_inner();
        if !self.0.knows_secret(&request.secret) {
            tracing::warn!("a transcoder came with a wrong secret");
            return Err(unknown("invalid secret"));
        }
        let capacity = u32::try_from(request.capacity).unwrap_or(0);
        if capacity == 0 {
            return Err(unknown("zero capacity"));
        }
        if self.0.is_draining() {
            return Err(Status::unavailable("stopping"));
        }
        let capabilities = match &request.capabilities {
            Some(message) => capabilities::read(message).map_err(unknown)?,
            None => Capabilities::of_set(CapabilitySet::default_video()),
        };
        let node = Arc::clone(&self.0);
        let registered = node.transcoders.register(capacity, capabilities, &gpus);
        node.sessions.workers_changed();
        let leave = Leave { node, id: registered.id };
        let stream = ReceiverStream::new(registered.notifications)
            .map(Ok)
            .take_until(registered.gone.cancelled_owned())
            .inspect(move |_| {
                let _ = &leave;
            });
        Ok(Response::new(Box::pin(stream)))
    }
}

//! RegisterAIWorker: a worker's stream of jobs, open as long as the worker is there.

use super::unknown;
use crate::{node::Node, workers::ai::AiPool};
use futures::{Stream, StreamExt};
use penstock_domain::{Capabilities, CapabilitySet};
use penstock_wire::{
    capabilities, hardware::Hardware, limits, net, worker_upload::WORKER_INSTANCE,
};
use std::{ops::RangeInclusive, pin::Pin, sync::Arc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// What can be a worker's name: others are not taken for one.
const NAME_CHARS: RangeInclusive<usize> = 16..=64;

/// The service.
pub struct Service(pub Arc<Node>);

/// Unregisters a worker when its stream is dropped, whatever the reason.
struct Leave {
    pool: Arc<AiPool>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.pool.remove(self.id);
    }
}

#[tonic::async_trait]
impl net::ai_worker_server::AiWorker for Service {
    type RegisterAIWorkerStream =
        Pin<Box<dyn Stream<Item = Result<net::NotifyAiJob, Status>> + Send>>;

    async fn register_ai_worker(
        &self,
        request: Request<net::RegisterAiWorkerRequest>,
    ) -> Result<Response<Self::RegisterAIWorkerStream>, Status> {
        let instance = request.metadata().get(WORKER_INSTANCE).and_then(|name| name.to_str().ok());
        let instance = instance.filter(|name| NAME_CHARS.contains(&name.len())).map(str::to_owned);
        let request = request.into_inner();
        if !self.0.knows_secret(&request.secret) {
            tracing::warn!("an AI worker came with a wrong secret");
            return Err(unknown("invalid secret"));
        }
        if self.0.is_draining() {
            return Err(Status::unavailable("stopping"));
        }
        let capabilities = match &request.capabilities {
            Some(message) => capabilities::read(message).map_err(unknown)?,
            None => Capabilities::of_set(CapabilitySet::default_video()),
        };
        if request.hardware.len() > limits::CAPABILITY_ENTRIES {
            return Err(unknown("too much hardware"));
        }
        let hardware = request.hardware.iter().filter_map(|h| Hardware::try_from(h).ok()).collect();
        let pool = Arc::clone(&self.0.ai_workers);
        let registered = pool.register(capabilities, hardware, instance);
        let leave = Leave { pool, id: registered.id };
        let stream = ReceiverStream::new(registered.notifications)
            .map(Ok)
            .take_until(registered.gone.cancelled_owned())
            .inspect(move |_| {
                let _ = &leave;
            });
        Ok(Response::new(Box::pin(stream)))
    }
}

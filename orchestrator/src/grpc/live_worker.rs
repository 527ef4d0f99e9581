//! The service of workers that bring live video runners (`live_worker.proto`): ours, no part of the network.

use crate::{live::workers::NotTaken, node::Node};
use futures::{Stream, StreamExt};
use penstock_wire::{
    WireError,
    live_worker::{
        LiveAnswer, LiveCall, LiveHeard, LiveLease, LiveRunners, MAX_ANSWER_BYTES,
        live_worker_server::LiveWorker, read, worker_id,
    },
};
use std::{pin::Pin, sync::Arc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The service.
pub struct Service(pub Arc<Node>);

impl Service {
    /// Refusals of a secret are worded as for other workers, who take them as final.
    fn check(&self, secret: &str) -> Result<(), Status> {
        match self.0.knows_secret(secret) {
            true => Ok(()),
            false => {
                tracing::warn!("a worker with live runners came with a wrong secret");
                Err(Status::unauthenticated("invalid secret"))
            }
        }
    }
}

fn senseless(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn not_taken(why: NotTaken) -> Status {
    match why {
        NotTaken::Unknown => Status::not_found(why.to_string()),
        NotTaken::TooMany(_) => Status::resource_exhausted(why.to_string()),
    }
}

#[tonic::async_trait]
impl LiveWorker for Service {
    type ServeStream = Pin<Box<dyn Stream<Item = Result<LiveCall, Status>> + Send>>;

    async fn serve(
        &self,
        request: Request<LiveRunners>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let said = request.into_inner();
        self.check(&said.secret)?;
        let workers = &self.0.live.workers;
        // Who is known already may have sessions, which are waited for.
        if self.0.is_draining() && !workers.knows(&said.worker_id) {
            return Err(Status::unavailable("stopping"));
        }
        let brought = read(&said).map_err(senseless)?;
        let connected = workers.serve(&said.worker_id, &brought, Instant::now());
        let mut connected = connected.map_err(not_taken)?;
        let (_, none) = tokio::sync::mpsc::channel(1);
        let calls = std::mem::replace(&mut connected.calls, none);
        let stream = ReceiverStream::new(calls)
            .map(Ok)
            .take_until(connected.replaced.clone().cancelled_owned())
            // The connection is over when the stream is dropped, whatever the reason.
            .inspect(move |_| {
                let _ = &connected;
            });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn update(&self, request: Request<LiveRunners>) -> Result<Response<LiveLease>, Status> {
        let said = request.into_inner();
        self.check(&said.secret)?;
        let brought = read(&said).map_err(senseless)?;
        let workers = &self.0.live.workers;
        let left_out = workers.update(&said.worker_id, &brought, Instant::now());
        let left_out = u32::try_from(left_out.map_err(not_taken)?).unwrap_or(u32::MAX);
        let lease_ms = u64::try_from(workers.lease.as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(LiveLease { lease_ms, left_out }))
    }

    async fn answer(&self, request: Request<LiveAnswer>) -> Result<Response<LiveHeard>, Status> {
        let mut said = request.into_inner();
        self.check(&said.secret)?;
        let id = std::mem::take(&mut said.worker_id);
        worker_id(&id).map_err(senseless)?;
        if said.body.len() > MAX_ANSWER_BYTES {
            return Err(Status::invalid_argument("a runner's answer is too large"));
        }
        self.0.live.workers.answer(&id, said);
        Ok(Response::new(LiveHeard {}))
    }
}

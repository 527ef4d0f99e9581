//! A stream's life: it ends with its money, its gateway, its worker, or its process, whichever is first;
//! then its channels are closed and its worker is told.

use super::{Entry, Place, channels::Channels};
use crate::{
    byoc::{meter::Meter, worker},
    node::Node,
    release::Reason,
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A worker gets so long to end a stream before its room is free for others all the same.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(10);

/// A stream that has begun at its worker.
pub struct Stream {
    /// The gateway's id.
    pub id: String,
    /// What others know of it.
    pub entry: Arc<Entry>,
    /// Its channels.
    pub channels: Channels,
    /// Its room and its money.
    pub meter: Meter,
    /// Its place among all.
    pub place: Place,
    /// Cancelled when the gateway did not hear of it.
    pub unheard: CancellationToken,
}

impl Stream {
    /// Its life, to the end.
    pub async fn run(mut self, node: Arc<Node>) {
        let ended = self.first_end(&node).await;
        self.meter.because(ended);
        if ended != Reason::Unheard {
            // It is paid while it lasts.
            self.meter.delivered();
        }
        let balance = self.meter.settle().await;
        let seconds = self.meter.seconds().load(Relaxed);
        let Self { id, entry, channels, meter, place, .. } = self;
        drop(channels);
        let (reason, capability) = (ended.as_str(), &entry.brought.name);
        tracing::info!(stream = id, capability, reason, seconds, %balance, "stream ended");
        if ended != Reason::ClientStopped || !entry.is_told.load(Relaxed) {
            let told = worker::stop_stream(&node.byoc_http, &entry.brought, &id, ended);
            let told = tokio::time::timeout(RELEASE_TIME, told).await;
            if !matches!(told, Ok(Ok(_))) {
                tracing::warn!(
                    stream = id,
                    capability,
                    "the worker was not told of a stream's end"
                );
            }
        }
        drop((meter, place));
    }

    async fn first_end(&mut self, node: &Node) -> Reason {
        let Self { entry, channels, meter, unheard, .. } = self;
        let ends = async {
            tokio::select! {
                () = channels.gateway_gone() => Reason::ClientGone,
                () = channels.worker_done() => Reason::WorkerStopped,
                () = entry.stopped.cancelled() => Reason::ClientStopped,
                () = unheard.cancelled() => Reason::Unheard,
                () = node.live_stop.cancelled() => Reason::Stopping,
            }
        };
        match meter.during(None, ends).await {
            Ok(ended) => ended,
            Err(cut) => cut.reason(),
        }
    }
}

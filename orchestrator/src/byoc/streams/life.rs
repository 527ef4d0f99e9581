//! A stream's life: it ends with its money, its gateway, its worker, or its process, whichever is first;
//! then its channels are closed and its worker is told.

use super::{Entry, Place, channels::Channels};
use crate::{
    byoc::{
        meter::{Cut, Meter},
        worker,
    },
    node::Node,
};
use bytes::Bytes;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A worker gets so long to end a stream before its room is free for others all the same.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(10);

/// Why a stream ended, as metrics and logs call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    OutOfFunds,
    NoBooks,
    GatewayGone,
    Stopped,
    WorkerDone,
    Unheard,
    Stopping,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::OutOfFunds => "out_of_funds",
            Self::NoBooks => "ledger_unavailable",
            Self::GatewayGone => "gateway_gone",
            Self::Stopped => "gateway_stopped",
            Self::WorkerDone => "worker_done",
            Self::Unheard => "unheard",
            Self::Stopping => "stopping",
        }
    }
}

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
        let balance = self.meter.settle().await;
        let seconds = self.meter.seconds().load(Relaxed);
        let Self { id, entry, channels, meter, place, .. } = self;
        drop(channels);
        let (reason, capability) = (ended.as_str(), &entry.brought.name);
        metrics::counter!("orchestrator_byoc_streams_ended_total", "reason" => reason).increment(1);
        tracing::info!(stream = id, capability, reason, seconds, %balance, "stream ended");
        if ended != Ended::Stopped || !entry.is_told.load(Relaxed) {
            let told = worker::stream(&node.byoc_http, &entry.brought, "stop", &id, Bytes::new());
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

    async fn first_end(&mut self, node: &Node) -> Ended {
        let Self { entry, channels, meter, unheard, .. } = self;
        let ends = async {
            tokio::select! {
                () = channels.gateway_gone() => Ended::GatewayGone,
                () = channels.worker_done() => Ended::WorkerDone,
                () = entry.stopped.cancelled() => Ended::Stopped,
                () = unheard.cancelled() => Ended::Unheard,
                () = node.live_stop.cancelled() => Ended::Stopping,
            }
        };
        match meter.during(None, ends).await {
            Ok(ended) => ended,
            Err(Cut::NoBooks) => Ended::NoBooks,
            Err(Cut::Funds | Cut::Time) => Ended::OutOfFunds,
        }
    }
}

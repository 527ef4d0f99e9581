//! A stream's life: it ends with its money, its gateway, its worker, or its process, whichever is first; then its worker
//! is told, what is owed is booked, and its channels are closed.
//!
//! While it lasts, time is booked up to its worker's last sign of life, and set aside beyond: a byte in one of its
//! channels, or a yes to something that it was asked. A worker that says yes to the end has held the stream until then,
//! however silent it was, and so has one that ends it itself. Of any other nobody knows for how long it has been dead.

use super::{Entry, Place, channels::Channels};
use crate::{
    byoc::{meter::Meter, worker},
    node::Node,
    release::Reason,
    runners::health::takes_connections,
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A worker gets so long to end a stream before its room is free for others all the same.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(10);
/// A silent worker that takes no connection so many times in a row is not there any more.
const MOST_REFUSED: u32 = 3;

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
        let (ended, at) = (self.first_end(&node).await, Instant::now());
        if ended != Reason::Unheard {
            // It is paid while it lasts.
            self.meter.delivered();
        }
        if ended == Reason::Stopping {
            // Not after a worker that takes its time: the process may be gone by then.
            self.meter.settle().await;
        }
        // While its channels are there, by whose end it might take the stream for one that it does not know any more.
        let said_yes = self.entry.is_told.load(Relaxed) || self.tell_worker(&node, ended).await;
        let ended = self.owe(ended, at, said_yes);
        let balance = self.meter.settle().await;
        let seconds = self.meter.seconds().load(Relaxed);
        let (reason, capability, stream) = (ended.as_str(), &self.entry.brought.name, &self.id);
        tracing::info!(stream, capability, reason, seconds, %balance, "stream ended");
        let Self { channels, meter, place, .. } = self;
        drop(channels);
        drop((meter, place));
    }

    /// Whether it says yes.
    async fn tell_worker(&self, node: &Node, why: Reason) -> bool {
        let told = worker::stop_stream(&node.byoc_http, &self.entry.brought, &self.id, why);
        let said = match timeout(RELEASE_TIME, told).await {
            Ok(Ok(answer)) => Some(answer.status()),
            Ok(Err(_)) | Err(_) => None,
        };
        let said_yes = said.is_some_and(|status| status.is_success());
        if !said_yes {
            let (stream, status) = (&self.id, said.map(|status| status.as_u16()));
            let capability = &self.entry.brought.name;
            tracing::warn!(stream, capability, status, "a worker did not confirm a stream's end");
        }
        said_yes
    }

    /// What is owed of a stream that ended then; why it did.
    fn owe(&mut self, ended: Reason, at: Instant, said_yes: bool) -> Reason {
        let is_workers = ended == Reason::WorkerStopped && !self.channels.has_worker_been_silent();
        if said_yes || is_workers {
            self.meter.owe_until(at);
            self.meter.because(ended);
            return ended;
        }
        self.meter.worker_failed(Reason::WorkerLost);
        Reason::WorkerLost
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
                () = worker_gone(node, entry, channels) => Reason::WorkerLost,
            }
        };
        match meter.during(None, ends).await {
            Ok(ended) => ended,
            Err(cut) => cut.reason(),
        }
    }
}

/// Waits until a silent worker has taken no connection for a while. That it takes one says nothing of the stream.
async fn worker_gone(node: &Node, entry: &Entry, channels: &Channels) {
    let last_byte = channels.last_byte();
    let (mut refused, mut heard) = (0, last_byte());
    while refused < MOST_REFUSED {
        sleep(node.byoc_poll).await;
        let now = last_byte();
        let is_silent = now == heard;
        heard = now;
        let networks = node.byoc_http.networks();
        refused = match is_silent && !takes_connections(networks, &entry.brought.url).await {
            true => refused + 1,
            false => 0,
        };
    }
}

//! A stream's life: it ends with its money, its gateway, its worker, or its process, whichever is first; then its
//! channels are closed, its worker is told, once, if it is there to be told, and what is owed is booked.
//!
//! While it lasts, time is booked up to its worker's last sign of life, and set aside beyond: a byte in one of its
//! channels, or a yes to something that it was asked. A worker that says yes to the end has held the stream until then,
//! however silent it was, unless its requests to the channels have broken off and none came back: then somebody else says
//! yes. So has one that ends it itself, or does not know it any more and was at the channels to the end: it saw them
//! close. Of any other nobody knows for how long it has been dead.

use super::{
    Entry, Place, Relayed, Untold,
    channels::{Channels, Seen},
};
use crate::{
    byoc::{meter::Meter, worker},
    node::Node,
    release::Reason,
    runners::health::takes_connections,
};
use bytes::Bytes;
use http::StatusCode;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// A worker gets so long to end a stream before its room is free for others all the same.
pub const RELEASE_TIME: Duration = Duration::from_secs(10);
/// From a worker that could not be told of the end to the second try.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
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
        let _ = self.entry.ended.set(at);
        // Should the process be gone before its worker has answered.
        self.meter.because(ended);
        let seen = self.channels.look(at);
        // Nobody pays for what would still come, and a worker may wait for the end of its input before it answers.
        self.channels.close();
        if ended == Reason::Stopping {
            self.meter.settle().await;
        }
        let said = self.tell_worker(&node, ended).await;
        let ended = self.owe(ended, at, seen, said);
        let balance = self.meter.settle().await;
        let seconds = self.meter.seconds().load(Relaxed);
        let (reason, capability, stream) = (ended.as_str(), &self.entry.brought.name, &self.id);
        tracing::info!(stream, capability, reason, seconds, balance_wei = %balance, "stream ended");
        let Self { channels, meter, place, .. } = self;
        drop(channels);
        drop((meter, place));
    }

    /// What it says, be it to the gateway's words.
    async fn tell_worker(&self, node: &Arc<Node>, why: Reason) -> Said {
        let until = Instant::now() + RELEASE_TIME;
        let told = || {
            let (node, entry, id) = (Arc::clone(node), Arc::clone(&self.entry), self.id.clone());
            async move {
                let told = worker::stop_stream(&node.byoc_http, &entry.brought, &id, why);
                let answer = timeout(RELEASE_TIME, told).await.map_err(|_| Untold::Late)?;
                let answer = answer.map_err(|_| Untold::Broken)?;
                Ok(Relayed { status: answer.status(), body: Bytes::new() })
            }
        };
        let telling = self.entry.tell(&node.jobs, told);
        match timeout_at(until, telling).await {
            Ok(Ok(said)) => return Said::First(said.status),
            Ok(Err(Untold::Late)) | Err(_) => return Said::Nothing,
            // A connection was refused, or broke.
            Ok(Err(Untold::Broken)) => {}
        }
        sleep(AGAIN_AFTER).await;
        let told = worker::stop_stream(&node.byoc_http, &self.entry.brought, &self.id, why);
        match timeout_at(until, told).await {
            Ok(Ok(answer)) => Said::Again(answer.status()),
            _ => Said::Nothing,
        }
    }

    /// What is owed of a stream that ended then; why it did.
    fn owe(&mut self, ended: Reason, at: Instant, seen: Seen, said: Said) -> Reason {
        let is_confirmed = is_confirmed(seen, said.after(ended)) || self.entry.has_ended_early();
        // A sign that comes after the end is none of more than was asked for.
        let until = if is_confirmed { at } else { self.entry.last_sign().min(at) };
        self.meter.owe_until(until);
        if ended != Reason::Unheard {
            self.meter.delivered_until(until);
        }
        if is_confirmed {
            return ended;
        }
        let (stream, capability) = (&self.id, &self.entry.brought.name);
        tracing::warn!(stream, capability, ?said, ?seen, "a worker did not confirm a stream's end");
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
                () = worker_gone(node, entry) => Reason::WorkerLost,
            }
        };
        match meter.during(None, ends).await {
            Ok(ended) => ended,
            Err(cut) => cut.reason(),
        }
    }
}

/// What a worker says to the end of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// This, when it was told first.
    First(StatusCode),
    /// This, after nobody was there to be told.
    Again(StatusCode),
    /// Nothing.
    Nothing,
}

impl Said {
    /// What that is of a stream that ended for this reason. Of a worker that was not there, three times, nobody knows that
    /// what is there now is the same.
    fn after(self, ended: Reason) -> Self {
        match self {
            Self::First(status) if ended == Reason::WorkerLost => Self::Again(status),
            said => said,
        }
    }
}

/// Whether a worker held its stream to the end.
fn is_confirmed(seen: Seen, said: Said) -> bool {
    let answer = match said {
        Said::First(status) if status.is_success() => !seen.is_cut_off,
        // What answers at the worker's URL after nobody did may be another process, unless this one was at its channels.
        Said::Again(status) if status.is_success() => seen.was_there,
        // It has seen the channels close before it heard of the end, and let go of the stream.
        Said::First(status) | Said::Again(status) => {
            let forgot = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::GONE];
            forgot.contains(&status) && seen.was_there
        }
        Said::Nothing => false,
    };
    seen.has_closed || answer
}

/// Waits until a silent worker has taken no connection for a while. That it takes one says nothing of the stream.
async fn worker_gone(node: &Node, entry: &Entry) {
    let (mut refused, mut heard) = (0, entry.last_byte());
    while refused < MOST_REFUSED {
        sleep(node.byoc_poll).await;
        let now = entry.last_byte();
        let is_silent = now == heard;
        heard = now;
        let networks = node.byoc_http.networks();
        refused = match is_silent && !takes_connections(networks, &entry.brought.url).await {
            true => refused + 1,
            false => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_held_its_stream_to_the_end() {
        let nothing = Seen { has_closed: false, was_there: false, is_cut_off: false };
        let there = Seen { was_there: true, ..nothing };
        let cut_off = Seen { is_cut_off: true, ..nothing };
        let closed = Seen { has_closed: true, ..nothing };
        let confirmed = |seen: Seen| {
            let of = |status: u16| is_confirmed(seen, Said::First(status.try_into().unwrap()));
            [of(200), of(400), of(404), of(410), of(500), is_confirmed(seen, Said::Nothing)]
        };
        assert_eq!(confirmed(nothing), [true, false, false, false, false, false]);
        assert_eq!(confirmed(there), [true, true, true, true, false, false]);
        assert_eq!(confirmed(cut_off), [false; 6]);
        assert_eq!(confirmed(closed), [true; 6]);
        // Told a second time, after nobody was there.
        let again = |seen: Seen| is_confirmed(seen, Said::Again(StatusCode::OK));
        assert_eq!([nothing, there, cut_off, closed].map(again), [false, true, false, true]);
        let first = Said::First(StatusCode::OK);
        assert_eq!(first.after(Reason::WorkerLost), Said::Again(StatusCode::OK));
        assert_eq!(first.after(Reason::OutOfFunds), first);
    }
}

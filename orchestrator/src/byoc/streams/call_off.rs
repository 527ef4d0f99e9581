//! A start that nobody waits for any more: its worker was asked, did not say no, and may have begun, or may yet begin, what
//! nobody pays for.

use super::life::RELEASE_TIME;
use crate::{
    byoc::{registry::Brought, worker},
    node::Node,
    release::Reason,
    routes::body::Held,
};
use futures::{FutureExt as _, future::BoxFuture};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// From a first try to tell a worker that is to be told again to the second; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A worker that cannot be told is told again for so long.
const TELLS_FOR: Duration = Duration::from_secs(60);

/// A worker is asked to begin.
pub type Asking = BoxFuture<'static, Result<reqwest::Response, reqwest::Error>>;

impl Node {
    /// Asks a worker to begin a stream, in these words; their share of the memory is given back once they are sent.
    pub(super) fn ask_to_begin(
        self: &Arc<Self>,
        brought: &Arc<Brought>,
        id: &str,
        words: Held,
    ) -> Asking {
        let (node, brought, id) = (Arc::clone(self), Arc::clone(brought), id.to_owned());
        let words = reqwest::Body::wrap(words.into_pieces());
        async move { worker::stream(&node.byoc_http, &brought, "start", &id, words).await }.boxed()
    }

    /// Tells the worker at once, and, since one that is about to begin may not know the stream yet, when its answer to the
    /// begin is there, where that may still come: for as long as the longest job lasts (`--byoc-timeout-ms`). A worker that
    /// cannot be told, or of which nobody will hear whether it has begun, is told again for a while.
    pub(super) fn call_off_stream(
        self: &Arc<Self>,
        brought: Arc<Brought>,
        id: String,
        why: Reason,
        asking: Option<Asking>,
    ) {
        let node = Arc::clone(self);
        self.jobs.spawn(async move {
            let at_once = node.tell_off(&brought, &id, why);
            let (mut told, begun) = tokio::join!(at_once, node.has_begun(asking));
            // Another stream has the name by now: its end is that of both.
            let is_others = || node.byoc_streams.exists(&id);
            if begun == Begun::No || is_others() {
                return;
            }
            if begun == Begun::Yes {
                told = node.tell_off(&brought, &id, why).await;
            }
            let (until, mut pause) = (Instant::now() + TELLS_FOR, FIRST_PAUSE);
            while !told.is_final(begun) && Instant::now() + pause < until {
                sleep(pause).await;
                if node.is_draining() || is_others() {
                    return;
                }
                pause *= 2;
                told = node.tell_off(&brought, &id, why).await;
            }
            if !told.is_final(begun) {
                tracing::warn!(stream = id, "the worker did not confirm that a stream is off");
            }
        });
    }

    /// What the worker says to the begin.
    async fn has_begun(&self, asking: Option<Asking>) -> Begun {
        let Some(asking) = asking else { return Begun::Unknown };
        let answer = tokio::select! {
            answer = timeout(self.byoc_timeout, asking) => answer,
            () = self.live_stop.cancelled() => return Begun::Unknown,
        };
        let Ok(Ok(answer)) = answer else { return Begun::Unknown };
        match answer.status() {
            status if status.is_success() => Begun::Yes,
            status if status.is_client_error() => Begun::No,
            // Of the worker's, or of a proxy's that did not wait for it.
            _ => Begun::Unknown,
        }
    }

    async fn tell_off(&self, brought: &Brought, id: &str, why: Reason) -> Told {
        let told = worker::stop_stream(&self.byoc_http, brought, id, why);
        let Ok(Ok(answer)) = timeout(RELEASE_TIME, told).await else { return Told::Nothing };
        match answer.status() {
            status if status.is_success() => Told::Ended,
            status if status.is_client_error() => Told::Unknown,
            _ => Told::Nothing,
        }
    }
}

/// Whether a worker has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// It says so.
    Yes,
    /// It has refused.
    No,
    /// Nobody will hear of it.
    Unknown,
}

/// What a worker says to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It has ended it.
    Ended,
    /// It does not know it, or not yet.
    Unknown,
    /// Nothing, or that it cannot.
    Nothing,
}

impl Told {
    /// Whether it need not be told again. One that has begun before it was told, and does not know the stream, has ended it.
    fn is_final(self, begun: Begun) -> bool {
        self == Self::Ended || self == Self::Unknown && begun == Begun::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_need_not_be_told_again() {
        let final_of =
            |begun| [Told::Ended, Told::Unknown, Told::Nothing].map(|told| told.is_final(begun));
        assert_eq!(final_of(Begun::Yes), [true, true, false]);
        assert_eq!(final_of(Begun::Unknown), [true, false, false], "it may begin yet");
    }
}

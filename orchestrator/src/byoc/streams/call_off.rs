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
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// From a first try to tell a worker that is to be told again to the second; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

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

    /// Tells the worker at once, and waits for its answer to the begin where there may be one: a worker that is about to
    /// begin does not know the stream yet. It is told again until it says yes, for as long as the longest job lasts
    /// (`--byoc-timeout-ms`); when this process stops, once more.
    pub(super) fn call_off_stream(
        self: &Arc<Self>,
        brought: Arc<Brought>,
        id: String,
        why: Reason,
        asking: Option<Asking>,
    ) {
        let node = Arc::clone(self);
        self.jobs.spawn(async move {
            let until = Instant::now() + node.byoc_timeout;
            let mut is_told = node.tell_off(&brought, &id, why).await;
            if let Some(asking) = asking {
                let answer = async {
                    tokio::select! {
                        answer = timeout_at(until, asking) => answer.ok()?.ok(),
                        () = node.live_stop.cancelled() => None,
                    }
                };
                match answer.await {
                    // It has said no.
                    Some(answer) if !answer.status().is_success() => return,
                    // Whatever it said before, it has begun now.
                    _ => is_told = node.tell_off(&brought, &id, why).await,
                }
            }
            let mut pause = FIRST_PAUSE;
            while !is_told && Instant::now() + pause < until && !node.live_stop.is_cancelled() {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = node.live_stop.cancelled() => {}
                }
                pause *= 2;
                is_told = node.tell_off(&brought, &id, why).await;
            }
            if !is_told {
                tracing::warn!(stream = id, "the worker did not confirm that a stream is off");
            }
        });
    }

    /// Whether it says yes.
    async fn tell_off(&self, brought: &Brought, id: &str, why: Reason) -> bool {
        let told = worker::stop_stream(&self.byoc_http, brought, id, why);
        let answer = timeout(RELEASE_TIME, told).await;
        matches!(answer, Ok(Ok(answer)) if answer.status().is_success())
    }
}

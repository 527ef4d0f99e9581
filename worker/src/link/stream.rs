//! One registration: a stream of notices, each worked on beside the others, until somebody ends it.
//!
//! When the stream is lost its jobs are dropped with it: the orchestrator has given them to
//! somebody else, and after a restart its task numbers begin anew, so that a late result could be
//! taken for another task's. When *we* end it we wait for a moment without jobs first.

use std::{fmt::Display, future::Future, pin::pin, time::Duration};
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

/// The Go node answers a registration only with its first job, and a refusal at once: so after
/// this much silence we are in.
const SILENCE_IS_CONSENT: Duration = Duration::from_secs(1);

/// How a registration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// We ended it, between jobs.
    Stopped,
    /// The orchestrator will never take us; its words.
    Refused(String),
    /// Connection lost or closed; worth another try.
    Lost(String),
}

/// Registers through `opening` and runs `handle` for each notice until `stop` or the stream ends.
/// `registered` hears when we are in; the caller knows from the return when we are out.
pub async fn serve<N, F>(
    opening: impl Future<Output = Result<Response<Streaming<N>>, Status>>,
    handle: impl Fn(N) -> F,
    registered: impl Fn(),
    stop: &CancellationToken,
) -> End
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut opening = pin!(opening);
    let opened = tokio::select! {
        opened = &mut opening => opened,
        () = stop.cancelled() => return End::Stopped,
        () = tokio::time::sleep(SILENCE_IS_CONSENT) => {
            registered();
            tokio::select! {
                opened = &mut opening => opened,
                () = stop.cancelled() => return End::Stopped,
            }
        }
    };
    match opened {
        Ok(response) => {
            registered();
            drive(response.into_inner(), handle, stop).await
        }
        Err(status) => end_of(&status),
    }
}

async fn drive<N, F>(
    mut notices: impl Stream<Item = Result<N, Status>> + Unpin,
    handle: impl Fn(N) -> F,
    stop: &CancellationToken,
) -> End
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut jobs = JoinSet::new();
    loop {
        if stop.is_cancelled() && jobs.is_empty() {
            return End::Stopped;
        }
        tokio::select! {
            notice = notices.next() => match notice {
                Some(Ok(notice)) => drop(jobs.spawn(handle(notice))),
                Some(Err(status)) => return end_of(&status),
                None => return End::Lost("the orchestrator closed the stream".to_owned()),
            },
            Some(done) = jobs.join_next() => report_panic(done),
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
}

fn report_panic<T>(done: Result<T, impl Display>) {
    if let Err(error) = done {
        tracing::error!(%error, "a job ended without an answer");
    }
}

/// The texts are the orchestrator's (orchestrator-wire.md section 13).
fn end_of(status: &Status) -> End {
    match status.message() {
        text @ ("invalid secret" | "zero capacity") => End::Refused(text.to_owned()),
        text => End::Lost(format!("{:?}: {text}", status.code())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };
    use tokio::sync::{Notify, mpsc};
    use tokio_stream::wrappers::ReceiverStream;

    #[test]
    fn refusals_are_final_and_the_rest_is_not() {
        assert_eq!(
            end_of(&Status::unknown("invalid secret")),
            End::Refused("invalid secret".into())
        );
        assert_eq!(end_of(&Status::unknown("zero capacity")), End::Refused("zero capacity".into()));
        for status in [Status::cancelled("x"), Status::unavailable("y"), Status::unknown("z")] {
            assert!(matches!(end_of(&status), End::Lost(_)));
        }
    }

    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_lost_stream_drops_its_jobs() {
        let (send, receive) = mpsc::channel(4);
        let (entered, dropped) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let handle = |_: u8| {
            let (entered, guard) = (entered.clone(), Dropped(dropped.clone()));
            async move {
                let _guard = guard;
                entered.notify_one();
                std::future::pending::<()>().await;
            }
        };
        send.send(Ok(1)).await.unwrap();
        let stop = CancellationToken::new();
        let ending = async {
            entered.notified().await;
            drop(send);
        };
        let (end, ()) = tokio::join!(drive(ReceiverStream::new(receive), handle, &stop), ending);
        assert!(matches!(end, End::Lost(_)));
        // The task is aborted, and ends at the next turn of the runtime.
        while !dropped.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn stopping_waits_for_the_jobs() {
        let (send, receive) = mpsc::channel::<Result<u8, Status>>(4);
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let done = Arc::new(AtomicBool::new(false));
        let handle = |_| {
            let (entered, release, done) = (entered.clone(), release.clone(), done.clone());
            async move {
                entered.notify_one();
                release.notified().await;
                done.store(true, Ordering::SeqCst);
            }
        };
        send.send(Ok(1)).await.unwrap();
        let stop = CancellationToken::new();
        let ending = async {
            entered.notified().await;
            stop.cancel();
            release.notify_one();
        };
        let (end, ()) = tokio::join!(drive(ReceiverStream::new(receive), handle, &stop), ending);
        assert_eq!(end, End::Stopped);
        assert!(done.load(Ordering::SeqCst));
    }
}

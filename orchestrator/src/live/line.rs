//! A worker's line: calls to the live runners behind it, and what they answer. The connection is the worker's, so
//! that neither it nor its runners need an address. It may be lost and come back; calls fail meanwhile.

use super::error::{NO_CONNECTION, RunnerError};
use penstock_wire::live_worker::{LiveAnswer, LiveCall};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// For an answer's way, beside the runner's own time.
const WAY: Duration = Duration::from_secs(1);

/// The line to one worker, over all connections of its life.
#[derive(Default)]
pub struct Line(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    connection: Option<Connection>,
    connections: u64,
    is_over: bool,
    waiting: HashMap<u64, oneshot::Sender<LiveAnswer>>,
    last_call: u64,
}

struct Connection {
    number: u64,
    calls: mpsc::Sender<LiveCall>,
    replaced: CancellationToken,
}

/// The orchestrator's end of a connection; it is over when this is dropped.
pub struct Connected {
    line: Arc<Line>,
    number: u64,
    /// What the worker is to be told.
    pub calls: mpsc::Receiver<LiveCall>,
    /// Cancelled when the worker has come anew, or is gone.
    pub replaced: CancellationToken,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut inner = self.line.lock();
        if inner.connection.as_ref().is_some_and(|c| c.number == self.number) {
            inner.hang_up();
        }
    }
}

impl Inner {
    /// Whoever waits hears that nothing comes.
    fn hang_up(&mut self) {
        if let Some(old) = self.connection.take() {
            old.replaced.cancel();
        }
        self.waiting.clear();
    }
}

/// Forgets a call whose caller has gone.
struct Waiting<'a> {
    line: &'a Line,
    call: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.line.lock().waiting.remove(&self.call);
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker is connected, instead of any earlier connection; `messages` is how many calls may wait for it.
    pub fn connect(self: &Arc<Self>, messages: usize) -> Connected {
        let (sender, calls) = mpsc::channel(messages);
        let replaced = CancellationToken::new();
        let mut inner = self.lock();
        inner.hang_up();
        inner.connections += 1;
        let number = inner.connections;
        inner.connection = Some(Connection { number, calls: sender, replaced: replaced.clone() });
        Connected { line: Arc::clone(self), number, calls, replaced }
    }

    /// The worker is given up.
    pub fn hang_up(&self) {
        let mut inner = self.lock();
        inner.is_over = true;
        inner.hang_up();
    }

    /// Whether the worker was given up: should it come anew, it has another line.
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Status and body of a runner's answer; `start` empty asks for its health.
    pub async fn call(
        &self,
        runner_id: u64,
        start: Vec<u8>,
        limit: Duration,
    ) -> Result<(u16, Vec<u8>), RunnerError> {
        let not_sent = || RunnerError::WorkerAway { sent: false };
        let (call, answer) = {
            let mut inner = self.lock();
            inner.last_call += 1;
            let call_id = inner.last_call;
            let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            let call = LiveCall { call_id, runner_id, limit_ms, start };
            let connection = inner.connection.as_ref().ok_or_else(not_sent)?;
            connection.calls.try_send(call).map_err(|_| not_sent())?;
            let (sender, answer) = oneshot::channel();
            inner.waiting.insert(call_id, sender);
            (Waiting { line: self, call: call_id }, answer)
        };
        let answer = tokio::time::timeout(limit + WAY, answer).await;
        drop(call);
        let unreachable = |why: &str| RunnerError::Unreachable(why.to_owned());
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => return Err(RunnerError::WorkerAway { sent: true }),
            Err(_) => return Err(unreachable("it took too long")),
        };
        match u16::try_from(answer.status) {
            Ok(0) if answer.no_connection => Err(unreachable(NO_CONNECTION)),
            Ok(0) => {
                let plain = answer.failure.chars().filter(|c| !c.is_control()).take(128);
                Err(RunnerError::Unreachable(plain.collect()))
            }
            Ok(status) => Ok((status, answer.body)),
            Err(_) => Err(RunnerError::Malformed),
        }
    }

    /// An answer has come. To a call that nobody waits for any more it says nothing.
    pub fn answer(&self, answer: LiveAnswer) {
        let waiting = self.lock().waiting.remove(&answer.call_id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn ok(call_id: u64, body: &str) -> LiveAnswer {
        LiveAnswer { call_id, status: 200, body: body.into(), ..LiveAnswer::default() }
    }

    fn unreachable(why: &str) -> Result<(u16, Vec<u8>), RunnerError> {
        Err(RunnerError::Unreachable(why.to_owned()))
    }

    #[tokio::test]
    async fn each_call_has_its_own_answer() {
        let line = Arc::new(Line::default());
        let nobody = line.call(1, Vec::new(), LONG).await;
        assert!(nobody.unwrap_err().began_nothing());
        let mut connected = line.connect(256);
        let worker = async {
            let (a, b) =
                (connected.calls.recv().await.unwrap(), connected.calls.recv().await.unwrap());
            assert_eq!((a.runner_id, a.start.len(), a.limit_ms), (1, 0, 60_000));
            assert_eq!((b.runner_id, b.start.as_slice()), (2, &b"{}"[..]));
            line.answer(ok(b.call_id, "b"));
            line.answer(ok(b.call_id, "again"));
            line.answer(ok(a.call_id, "a"));
        };
        let (a, b, ()) = tokio::join!(
            line.call(1, Vec::new(), LONG),
            line.call(2, b"{}".to_vec(), LONG),
            worker
        );
        assert_eq!((a, b), (Ok((200, b"a".to_vec())), Ok((200, b"b".to_vec()))));
        assert!(line.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_becomes_of_a_call_without_an_answer() {
        let line = Arc::new(Line::default());
        let connected = line.connect(256);
        let call = || line.call(1, b"{}".to_vec(), LONG);
        assert_eq!(call().await, unreachable("it took too long"));
        assert!(line.lock().waiting.is_empty(), "it is forgotten");
        // The worker comes anew: calls of before are over, and the old connection's end ends nothing.
        let mut old = Box::pin(call());
        assert!(futures::poll!(&mut old).is_pending());
        let again = line.connect(256);
        assert!(connected.replaced.is_cancelled());
        let lost = || Err(RunnerError::WorkerAway { sent: true });
        assert_eq!(old.await, lost());
        drop(connected);
        let mut new = Box::pin(call());
        assert!(futures::poll!(&mut new).is_pending());
        drop(again);
        assert_eq!(new.await, lost());
        assert_eq!(call().await, Err(RunnerError::WorkerAway { sent: false }));
        assert!(!line.is_over(), "it may come back");
        line.hang_up();
        assert!(line.is_over());
    }

    #[tokio::test]
    async fn a_runner_that_its_worker_cannot_reach() {
        let line = Arc::new(Line::default());
        let mut connected = line.connect(256);
        for (said, heard) in [
            (
                LiveAnswer { no_connection: true, failure: "x".into(), ..LiveAnswer::default() },
                unreachable(NO_CONNECTION),
            ),
            (LiveAnswer { failure: "a\nb".into(), ..LiveAnswer::default() }, unreachable("ab")),
            (LiveAnswer { status: 70_000, ..LiveAnswer::default() }, Err(RunnerError::Malformed)),
        ] {
            let worker = async {
                let call_id = connected.calls.recv().await.unwrap().call_id;
                line.answer(LiveAnswer { call_id, ..said });
            };
            let (answer, ()) = tokio::join!(line.call(1, Vec::new(), LONG), worker);
            assert_eq!(answer, heard);
        }
    }
}

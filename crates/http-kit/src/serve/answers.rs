//! Answers under way on one connection, and how they are taken. Of HTTP/2 the socket does not show it: a peer may
//! take all that comes and make no room for a stream, and whatever answers there waits with all that it holds.
//!
//! With each answer it is either our turn, to make the next piece, or the peer's, to make room for it. Its turns
//! are counted, by a clock that stands still while we do ([`Lived`]). Pieces are handed out in such sizes that who
//! takes a little is told from who takes nothing.

use super::{Debt, LeastSpeed, Lived};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

/// Largest piece.
const PIECE: usize = 64 * 1024;
/// The list of answers is cleared of those that have ended when it has grown to twice what was left.
const CLEAR_FROM: usize = 16;
/// A look at the answers is not worth it any sooner.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
/// Nor is it left out for longer.
const MOST_PAUSE: Duration = Duration::from_secs(86_400);

/// Why a peer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It takes nothing of an answer.
    Stalled,
    /// It takes too little of one.
    Slow,
}

/// Those of one connection.
#[derive(Debug)]
pub struct Answers {
    clock: Arc<Lived>,
    least_speed: LeastSpeed,
    stall: Duration,
    list: Mutex<List>,
}

#[derive(Debug)]
struct List {
    turns: Vec<Weak<Turn>>,
    clear_at: usize,
}

impl Answers {
    /// Of which nothing may be taken for so long, and which have to be taken so fast.
    pub fn new(clock: Arc<Lived>, least_speed: LeastSpeed, stall: Duration) -> Self {
        let list = Mutex::new(List { turns: Vec::new(), clear_at: CLEAR_FROM });
        Self { clock, least_speed, stall, list }
    }

    /// Time as it is counted here.
    pub fn clock(&self) -> &Lived {
        &self.clock
    }

    /// No answer that begins now is too late any sooner.
    pub fn patience(&self) -> Duration {
        let slow = self.least_speed.debt().map_or(MOST_PAUSE, |debt| debt.most());
        self.stall.min(slow).clamp(LEAST_PAUSE, MOST_PAUSE)
    }

    /// An answer's body, of which the head is the first thing to be taken. The guard goes with it.
    pub fn taken<G>(&self, body: Body, guard: G) -> Taken<G> {
        Taken { body, rest: Bytes::new(), turn: self.begin(), _guard: guard }
    }

    fn begin(&self) -> Arc<Turn> {
        let taking = Taking {
            theirs_since: Some(self.clock.now()),
            debt: self.least_speed.debt(),
            piece: 0,
        };
        let turn = Arc::new(Turn { clock: Arc::clone(&self.clock), taking: Mutex::new(taking) });
        let mut list = lock(&self.list);
        if list.turns.len() >= list.clear_at {
            list.turns.retain(|turn| turn.strong_count() > 0);
            list.clear_at = (2 * list.turns.len()).max(CLEAR_FROM);
        }
        list.turns.push(Arc::downgrade(&turn));
        turn
    }

    /// Whether its peer is given up; and if not, how soon to look again.
    pub fn judge(&self) -> Result<Duration, Late> {
        let mut next = self.patience();
        let list = lock(&self.list);
        for turn in list.turns.iter().filter_map(Weak::upgrade) {
            let taking = lock(&turn.taking);
            let Some(since) = taking.theirs_since else { continue };
            // Read when the turn cannot change any more: none begins later than now.
            let waits = self.clock.now().saturating_sub(since);
            let left = self.stall.saturating_sub(waits);
            if left.is_zero() {
                return Err(Late::Stalled);
            }
            next = next.min(left);
            if let Some(debt) = &taking.debt {
                let left = debt.left().saturating_sub(waits);
                if left.is_zero() {
                    return Err(Late::Slow);
                }
                next = next.min(left);
            }
        }
        Ok(next.max(LEAST_PAUSE))
    }
}

/// Whose turn it is with an answer.
#[derive(Debug)]
struct Turn {
    clock: Arc<Lived>,
    taking: Mutex<Taking>,
}

/// All of it under one lock: a wait that has ended is in the debt, and nowhere else.
#[derive(Debug)]
struct Taking {
    /// By the clock. `None`: it is ours.
    theirs_since: Option<Duration>,
    debt: Option<Debt>,
    /// Bytes of the piece that was handed out last.
    piece: usize,
}

impl Turn {
    /// The next piece is asked for.
    fn ours(&self) {
        let mut taking = lock(&self.taking);
        let Some(since) = taking.theirs_since.take() else { return };
        let piece = std::mem::take(&mut taking.piece);
        if let Some(debt) = &mut taking.debt {
            debt.waited(self.clock.now().saturating_sub(since));
            debt.taken(u64::try_from(piece).unwrap_or(u64::MAX));
        }
    }

    /// A piece is handed out.
    fn theirs(&self, bytes: usize) {
        let mut taking = lock(&self.taking);
        taking.piece = bytes;
        taking.theirs_since = Some(self.clock.now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer's body.
#[derive(Debug)]
pub struct Taken<G> {
    body: Body,
    /// Of a piece that was too large.
    rest: Bytes,
    turn: Arc<Turn>,
    _guard: G,
}

impl<G> Taken<G> {
    fn hand_out(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = data.split_off(data.len().min(PIECE));
        self.turn.theirs(data.len());
        Frame::data(data)
    }
}

impl<G: Unpin> HttpBody for Taken<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.turn.ours();
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.hand_out(rest))));
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => this.hand_out(data),
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

pin_project_lite::pin_project! {
    /// A request at work, whose answer is one of these.
    pub(super) struct Answered<F> {
        #[pin]
        work: F,
        answers: Option<Arc<Answers>>,
    }
}

impl<F> Answered<F> {
    /// With `None` it is not.
    pub fn new(work: F, answers: Option<Arc<Answers>>) -> Self {
        Self { work, answers }
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Answered<F> {
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.work.poll(context));
        let Some(answers) = this.answers else { return Poll::Ready(answer) };
        Poll::Ready(answer.map(|answer| {
            answer.map(|body| match body.is_end_stream() {
                true => body,
                false => Body::new(answers.taken(body, ())),
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    const S: Duration = Duration::from_secs(1);

    /// 983 bytes/s over 100 s, and something every 30 s.
    fn answers() -> Answers {
        Answers::new(Lived::start(), LeastSpeed::new(983, 100 * S), 30 * S)
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_too_slowly() {
        for (bytes, pieces) in [(29 * 983, 1000), (1, 3)] {
            let answers = answers();
            let turn = answers.begin();
            turn.ours();
            // A long time of ours is not its fault.
            sleep(1000 * S).await;
            for taken in 0..pieces {
                turn.theirs(bytes);
                sleep(29 * S).await;
                assert!(answers.judge().is_ok(), "{taken} of {bytes}");
                turn.ours();
            }
            turn.theirs(bytes);
            sleep(29 * S).await;
            assert_eq!(answers.judge().err(), (pieces == 3).then_some(Late::Slow));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_one_of_many_answers() {
        let answers = answers();
        let (slow, ours) = (answers.begin(), answers.begin());
        ours.ours();
        for _ in 0..10 {
            sleep(29 * S).await;
            assert!(answers.judge().is_ok_and(|next| next <= 2 * S));
            slow.ours();
            slow.theirs(64 * 1024);
        }
        sleep(31 * S).await;
        assert_eq!(answers.judge(), Err(Late::Stalled));
        drop(slow);
        assert_eq!(answers.judge(), Ok(30 * S));
        for _ in 0..1000 {
            answers.begin();
        }
        assert!(lock(&answers.list).turns.len() <= CLEAR_FROM + 1, "what is over is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_stopped_does_not_blame_its_readers() {
        let answers = answers();
        let (early, late) = (answers.begin(), answers.begin());
        early.theirs(1);
        for _ in 0..10 {
            advance(10_000 * S).await;
            // Whichever comes first: the look, or what was taken meanwhile.
            assert!(answers.judge().is_ok());
            late.ours();
            late.theirs(1);
            assert!(answers.judge().is_ok());
        }
        // It takes its part now, or it does not.
        early.ours();
        assert!(answers.judge().is_ok());
        sleep(31 * S).await;
        assert_eq!(answers.judge(), Err(Late::Stalled));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_least_speed_something_has_to_be_taken() {
        let answers = Answers::new(Lived::start(), LeastSpeed::new(0, S), 30 * S);
        let turn = answers.begin();
        for _ in 0..100 {
            sleep(29 * S).await;
            assert!(answers.judge().is_ok());
            turn.ours();
            turn.theirs(1);
        }
        sleep(31 * S).await;
        assert_eq!(answers.judge(), Err(Late::Stalled));
    }
}

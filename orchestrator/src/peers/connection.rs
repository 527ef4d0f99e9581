//! What a connection's peer is doing: whether it has asked for anything yet, what it has asked for and
//! does not take, since when it wants nothing. From that follows when it is given up.

use super::{args::PeerLimits, places::Place};
use penstock_http_kit::serve::Debt;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The list of answers is cleared of those that have ended when it has grown to twice what was left.
const CLEAR_FROM: usize = 16;
/// It is our turn.
const OURS: u64 = u64::MAX;

/// Why a peer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its first request did not come.
    Greeting,
    /// It wants nothing any more.
    Idle,
    /// It takes nothing of what it asked for.
    Stalled,
    /// It takes too little of one answer.
    Slow,
}

impl Why {
    /// In metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Slow => "slow",
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    limits: PeerLimits,
    born: Instant,
    state: Mutex<State>,
    /// Among the connections that there may be.
    _place: Place,
}

#[derive(Debug)]
struct State {
    /// Requests whose answers are not through.
    calls: usize,
    /// There was a request.
    greeted: bool,
    /// It speaks another protocol by now, whose limits are its own.
    switched: bool,
    /// Since when there is no request.
    free_since: Instant,
    answers: Vec<Weak<Turn>>,
    clear_at: usize,
}

/// Whose turn it is with an answer: ours to make the next piece, or the peer's to make room for it.
#[derive(Debug)]
pub struct Turn {
    connection: Arc<Connection>,
    /// Milliseconds of the connection's life, or [`OURS`].
    theirs_since: AtomicU64,
    taking: Option<Mutex<Taking>>,
}

/// How fast an answer is taken.
#[derive(Debug)]
struct Taking {
    debt: Debt,
    /// Bytes of the piece that was handed out last.
    piece: usize,
}

impl Turn {
    /// The next piece is asked for.
    pub fn ours(&self) {
        let since = self.theirs_since.swap(OURS, Relaxed);
        let Some(taking) = self.taking.as_ref().filter(|_| since != OURS) else { return };
        let age_ms = self.connection.age_ms(Instant::now());
        let mut taking = lock(taking);
        taking.debt.waited(self.connection.waited(age_ms.saturating_sub(since)));
        let piece = std::mem::take(&mut taking.piece);
        taking.debt.taken(u64::try_from(piece).unwrap_or(u64::MAX));
    }

    /// A piece is handed out.
    pub fn theirs(&self, bytes: usize) {
        if let Some(taking) = &self.taking {
            lock(taking).piece = bytes;
        }
        self.theirs_since.store(self.connection.age_ms(Instant::now()), Relaxed);
    }

    /// For how long it may go on, if it takes nothing from `theirs_since` on.
    fn left(&self) -> Option<Duration> {
        Some(lock(self.taking.as_ref()?).debt.left())
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Call(Arc<Connection>);

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.calls = state.calls.saturating_sub(1);
        if state.calls == 0 {
            state.free_since = Instant::now();
        }
    }
}

impl Connection {
    /// From now on.
    pub fn new(limits: PeerLimits, place: Place) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            calls: 0,
            greeted: false,
            switched: false,
            free_since: now,
            answers: Vec::new(),
            clear_at: CLEAR_FROM,
        };
        Arc::new(Self { limits, born: now, state: Mutex::new(state), _place: place })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What counts of a wait: longer than that nobody is waited for, unless we were away ourselves.
    fn waited(&self, ms: u64) -> Duration {
        Duration::from_millis(ms).min(self.limits.stall)
    }

    fn age_ms(&self, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.born).as_millis();
        u64::try_from(age).unwrap_or(OURS - 1)
    }

    /// How long it may take nothing.
    pub fn stall(&self) -> Duration {
        self.limits.stall
    }

    /// A request has come.
    pub fn call(self: &Arc<Self>) -> Call {
        let mut state = self.lock();
        state.greeted = true;
        state.calls += 1;
        drop(state);
        Call(Arc::clone(self))
    }

    /// It speaks another protocol from here on.
    pub fn switched(&self) {
        self.lock().switched = true;
    }

    /// An answer, of which the head is the first thing to be taken.
    pub fn answer(self: &Arc<Self>) -> Arc<Turn> {
        let since = AtomicU64::new(self.age_ms(Instant::now()));
        let taking = self.limits.least_speed.debt();
        let taking = taking.map(|debt| Mutex::new(Taking { debt, piece: 0 }));
        let turn = Turn { connection: Arc::clone(self), theirs_since: since, taking };
        let turn = Arc::new(turn);
        let mut state = self.lock();
        if state.answers.len() >= state.clear_at {
            state.answers.retain(|turn| turn.strong_count() > 0);
            state.clear_at = (2 * state.answers.len()).max(CLEAR_FROM);
        }
        state.answers.push(Arc::downgrade(&turn));
        turn
    }

    /// Whether it is given up; and if not, when to look again.
    pub fn judge(&self, now: Instant) -> Result<Instant, Why> {
        let PeerLimits { greeting, idle, stall, least_speed, .. } = self.limits;
        let state = self.lock();
        // Nothing that begins later can be over before.
        let slow = least_speed.debt().map_or(stall, |debt| debt.most());
        let mut next = now + stall.min(slow);
        if state.switched {
            return Ok(next);
        }
        if !state.greeted {
            let end = self.born + greeting;
            return if now >= end { Err(Why::Greeting) } else { Ok(end.min(next)) };
        }
        if state.calls == 0 {
            let end = state.free_since + idle;
            if now >= end {
                return Err(Why::Idle);
            }
            next = next.min(end);
        }
        // A request and its end may come between two looks.
        next = next.min(now + idle);
        for turn in state.answers.iter().filter_map(Weak::upgrade) {
            let since = turn.theirs_since.load(Relaxed);
            if since == OURS {
                continue;
            }
            let end = self.born + Duration::from_millis(since) + stall;
            if now >= end {
                return Err(Why::Stalled);
            }
            next = next.min(end);
            if let Some(left) = turn.left() {
                let end = self.born + Duration::from_millis(since) + left;
                if now >= end {
                    return Err(Why::Slow);
                }
                next = next.min(end);
            }
        }
        Ok(next)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{super::places::Places, *};
    use penstock_http_kit::serve::LeastSpeed;
    use std::net::Ipv4Addr;
    use tokio::time::advance;

    const S: Duration = Duration::from_secs(1);

    fn connection() -> Arc<Connection> {
        let limits = PeerLimits {
            connections: 1,
            connections_each: None,
            greeting: 10 * S,
            idle: 100 * S,
            stall: 30 * S,
            // 100 s.
            least_speed: LeastSpeed::new(983, 100 * S),
            streams: 1,
            stream_bytes: 1,
            header_bytes: 1,
        };
        let place = Places::new(1, None).take(Ipv4Addr::LOCALHOST.into()).unwrap();
        Connection::new(limits, place)
    }

    fn judge(connection: &Connection) -> Result<Duration, Why> {
        let now = Instant::now();
        connection.judge(now).map(|next| next - now)
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_and_who_has_said_all() {
        let connection = connection();
        assert_eq!(judge(&connection), Ok(10 * S));
        advance(9 * S).await;
        assert_eq!(judge(&connection), Ok(S));
        let call = connection.call();
        advance(1000 * S).await;
        assert_eq!(judge(&connection), Ok(30 * S), "we take our time");
        drop(call);
        advance(99 * S).await;
        assert_eq!(judge(&connection), Ok(S));
        advance(S).await;
        assert_eq!(judge(&connection), Err(Why::Idle));
        connection.switched();
        assert!(judge(&connection).is_ok());
        let silent = super::tests::connection();
        advance(10 * S).await;
        assert_eq!(judge(&silent), Err(Why::Greeting));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_too_slowly() {
        for (bytes, pieces) in [(29 * 983, 1000), (1, 3)] {
            let connection = connection();
            let _call = connection.call();
            let turn = connection.answer();
            turn.ours();
            // A long time of ours is not its fault.
            advance(1000 * S).await;
            for taken in 0..pieces {
                turn.theirs(bytes);
                advance(29 * S).await;
                assert!(judge(&connection).is_ok(), "{taken} of {bytes}");
                turn.ours();
            }
            turn.theirs(bytes);
            advance(29 * S).await;
            assert_eq!(judge(&connection).is_ok(), pieces > 3);
        }
        let connection = connection();
        let (_call, turn) = (connection.call(), connection.answer());
        // We were stopped: who takes its piece then is no slower for it.
        turn.theirs(1);
        advance(10_000 * S).await;
        turn.ours();
        turn.theirs(1);
        assert!(judge(&connection).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_one_of_many_answers() {
        let connection = connection();
        let _call = connection.call();
        let (slow, ours) = (connection.answer(), connection.answer());
        ours.ours();
        for _ in 0..10 {
            advance(29 * S).await;
            assert_eq!(judge(&connection), Ok(S));
            slow.ours();
            slow.theirs(64 * 1024);
        }
        advance(30 * S).await;
        assert_eq!(judge(&connection), Err(Why::Stalled));
        drop(slow);
        assert!(judge(&connection).is_ok());
        for _ in 0..1000 {
            connection.answer();
        }
        assert!(connection.lock().answers.len() <= CLEAR_FROM + 1, "what is over is forgotten");
    }
}

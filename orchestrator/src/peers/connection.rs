//! What a connection's peer is doing: whether it has asked for anything yet, what it has asked for and
//! does not take, since when it wants nothing. From that follows when it is given up.

use super::{args::PeerLimits, places::Place};
use axum::body::Body;
use penstock_http_kit::serve::{Answers, Late, Lived, Taken};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

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

impl From<Late> for Why {
    fn from(late: Late) -> Self {
        match late {
            Late::Stalled => Self::Stalled,
            Late::Slow => Self::Slow,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    limits: PeerLimits,
    born: Instant,
    state: Mutex<State>,
    answers: Answers,
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
    pub fn new(limits: PeerLimits, clock: Arc<Lived>, place: Place) -> Arc<Self> {
        let now = Instant::now();
        let state = State { calls: 0, greeted: false, switched: false, free_since: now };
        let answers = Answers::new(clock, limits.least_speed, limits.stall);
        Arc::new(Self { limits, born: now, state: Mutex::new(state), answers, _place: place })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it may take nothing.
    pub fn stall(&self) -> Duration {
        self.limits.stall
    }

    /// By which clock that is.
    pub fn clock(&self) -> &Lived {
        self.answers.clock()
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

    /// The body of a request's answer.
    pub fn taken(&self, body: Body, call: Call) -> Taken<Call> {
        self.answers.taken(body, call)
    }

    /// Whether it is given up; and if not, when to look again.
    pub fn judge(&self, now: Instant) -> Result<Instant, Why> {
        let PeerLimits { greeting, idle, .. } = self.limits;
        let state = self.lock();
        // Nothing that begins later can be over before.
        let mut next = now + self.answers.patience();
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
        Ok(next.min(now + self.answers.judge()?))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::places::Places, *};
    use penstock_http_kit::serve::LeastSpeed;
    use std::net::Ipv4Addr;
    use tokio::time::{advance, sleep};

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
        Connection::new(limits, Lived::start(), place)
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
    async fn who_takes_nothing_of_an_answer_and_who_could_not_yet() {
        let connection = connection();
        let answer = connection.taken(Body::from("unwanted"), connection.call());
        // We were stopped, and look before we write.
        advance(1000 * S).await;
        assert!(judge(&connection).is_ok());
        sleep(29 * S).await;
        assert!(judge(&connection).is_ok());
        sleep(2 * S).await;
        assert_eq!(judge(&connection), Err(Why::Stalled));
        drop(answer);
        assert!(judge(&connection).is_ok());
    }
}

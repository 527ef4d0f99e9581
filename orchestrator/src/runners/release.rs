//! Why a session of a live runner ended, for programs: in the log, in metrics, in the runner's
//! messages, in the operator's list and in the answers to whoever asks for it afterwards.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
};

/// Sessions that are remembered after their end.
const REMEMBERED: usize = 1000;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its client said so.
    ClientStopped,
    /// The runner said so.
    RunnerStopped,
    /// Its one call is done.
    Completed,
    /// The client of its one call, or of its reservation, went away.
    ClientGone,
    /// Nobody used it for so long.
    LeaseExpired,
    /// The balance does not cover the time that has passed.
    OutOfFunds,
    /// The books could not be written.
    NoBooks,
    /// It was not paid for in the first place.
    PaymentFailed,
    /// The runner cannot be reached, or broke off.
    RunnerFailed,
    /// The runner went away in order.
    RunnerUnregistered,
    /// The runner was not heard of any more.
    RunnerExpired,
    /// The runner is not well any more.
    RunnerUnwell,
    /// The process stops.
    Stopping,
}

impl Reason {
    /// Whether the runner is to blame: what was not delivered is not paid for then.
    pub fn is_runners_fault(self) -> bool {
        matches!(
            self,
            Self::RunnerStopped
                | Self::RunnerFailed
                | Self::RunnerUnregistered
                | Self::RunnerExpired
                | Self::RunnerUnwell
        )
    }

    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientStopped => "client_stopped",
            Self::RunnerStopped => "runner_stopped",
            Self::Completed => "completed",
            Self::ClientGone => "client_gone",
            Self::LeaseExpired => "lease_expired",
            Self::OutOfFunds => "out_of_funds",
            Self::NoBooks => "ledger_unavailable",
            Self::PaymentFailed => "payment_failed",
            Self::RunnerFailed => "runner_failed",
            Self::RunnerUnregistered => "runner_unregistered",
            Self::RunnerExpired => "runner_expired",
            Self::RunnerUnwell => "runner_unwell",
            Self::Stopping => "stopping",
        }
    }
}

/// The sessions that ended last.
#[derive(Debug, Default)]
pub struct Ended(VecDeque<EndedSession>);

/// A session that ended.
#[derive(Debug, Clone)]
pub struct EndedSession {
    /// Its runner's route.
    pub route: String,
    /// Its name.
    pub session: String,
    /// Why.
    pub reason: Reason,
    /// Unix ms.
    pub at_ms: i64,
    /// Units that it was charged for; the last ones may come after its end.
    pub units: Arc<AtomicU64>,
}

impl Ended {
    /// One more.
    pub fn add(&mut self, ended: EndedSession) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(ended);
    }

    /// Why a session ended, if that is remembered.
    pub fn reason(&self, route: &str, session: &str) -> Option<Reason> {
        let is = |ended: &&EndedSession| ended.session == session && ended.route == route;
        self.0.iter().rev().find(is).map(|ended| ended.reason)
    }

    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &EndedSession> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_for_a_while() {
        let mut ended = Ended::default();
        let one = |n: usize| EndedSession {
            route: "r".into(),
            session: n.to_string(),
            reason: Reason::LeaseExpired,
            at_ms: 0,
            units: Arc::default(),
        };
        (0..=REMEMBERED).for_each(|n| ended.add(one(n)));
        assert_eq!(ended.reason("r", "1"), Some(Reason::LeaseExpired));
        assert_eq!((ended.reason("r", "0"), ended.reason("x", "1")), (None, None));
        assert_eq!(ended.newest().count(), REMEMBERED);
    }
}

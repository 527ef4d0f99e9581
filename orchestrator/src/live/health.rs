//! What a runner's health means for its session (ai-pipelines.md section 8.2).

use super::{error::RunnerError, runner_api::Health};
use std::time::Duration;

/// Failures, or words of having no session, in a row that end a session.
const MOST_IN_A_ROW: u32 = 2;
/// A runner may load for so long.
const LOADING_TIME: Duration = Duration::from_secs(180);

/// A session's view of its runner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    failures: u32,
    idles: u32,
    loading: Duration,
}

/// Why a runner's session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It is broken or gone.
    Gone,
    /// It has ended the session by itself.
    Done,
}

impl Watch {
    /// After one more answer, `since` the one before.
    pub fn hear(&mut self, said: &Result<Health, RunnerError>, since: Duration) -> Option<Over> {
        match said {
            Ok(Health::Error) => return Some(Over::Gone),
            Ok(Health::Ok) => *self = Self::default(),
            Ok(Health::Idle) => {
                self.failures = 0;
                self.idles += 1;
            }
            Ok(Health::Loading) => {
                self.idles = 0;
                self.loading += since;
                if self.loading > LOADING_TIME {
                    self.failures += 1;
                }
            }
            // Its session goes on without us; for how long, is the lease's to say.
            Err(RunnerError::WorkerAway { .. }) => {}
            Err(_) => self.failures += 1,
        }
        match () {
            () if self.failures >= MOST_IN_A_ROW => Some(Over::Gone),
            () if self.idles >= MOST_IN_A_ROW => Some(Over::Done),
            () => None,
        }
    }
}

/// Whether a runner that says this can begin a session.
pub fn can_begin(said: &Result<Health, RunnerError>) -> bool {
    matches!(said, Ok(Health::Ok | Health::Idle))
}

/// Whether a runner of so many sessions that says this has ended the last one.
pub fn has_ended(said: &Result<Health, RunnerError>, capacity: u32) -> bool {
    match said {
        Ok(Health::Idle) => true,
        // It has others, or takes several at once: it does not say.
        Ok(Health::Ok) => capacity > 1,
        // Whoever comes next is told that there is no room; waiting for it helps nobody.
        Ok(Health::Error) => true,
        Ok(Health::Loading) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    fn ends(words: &[Result<Health, RunnerError>]) -> Option<(usize, Over)> {
        let mut watch = Watch::default();
        words.iter().enumerate().find_map(|(n, said)| Some((n + 1, watch.hear(said, STEP)?)))
    }

    #[test]
    fn when_a_session_is_over() {
        let (ok, idle) = (|| Ok(Health::Ok), || Ok(Health::Idle));
        let lost = || Err(RunnerError::Malformed);
        assert_eq!(ends(&[ok(), lost(), ok(), lost(), lost()]), Some((5, Over::Gone)));
        assert_eq!(ends(&[idle(), ok(), idle(), idle()]), Some((4, Over::Done)));
        assert_eq!(ends(&[ok(), Ok(Health::Error)]), Some((2, Over::Gone)));
        assert_eq!(ends(&[lost(), idle(), lost()]), None);
        let away = || Err(RunnerError::WorkerAway { sent: true });
        assert_eq!(
            ends(&[away(), away(), lost(), away(), away()]),
            None,
            "its worker may come back"
        );
        let loading: Vec<_> = (0..40).map(|_| Ok(Health::Loading)).collect();
        assert_eq!(ends(&loading), Some((38, Over::Gone)));
    }

    #[test]
    fn who_may_begin_and_who_has_ended() {
        assert!(can_begin(&Ok(Health::Idle)) && can_begin(&Ok(Health::Ok)));
        assert!(!can_begin(&Ok(Health::Loading)) && !can_begin(&Err(RunnerError::Malformed)));
        assert!(has_ended(&Ok(Health::Idle), 1) && !has_ended(&Ok(Health::Ok), 1));
        assert!(has_ended(&Ok(Health::Ok), 2) && !has_ended(&Err(RunnerError::Malformed), 2));
    }
}

//! Which failures of an asynchronous job are worth another try, when, and for how long: nobody repeats it
//! from outside.

use super::AiError;
use crate::{clock, service::error::JobError};
use penstock_store::UnixMs;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The pause after a first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Times that everybody who was asked may fail: each may have been charged for.
const MAX_EXHAUSTED: u32 = 3;

/// Why a job has no result here.
#[derive(Debug)]
pub enum Given {
    /// For good.
    Failed(AiError),
    /// This replica stops: another one goes on.
    Up,
}

/// The tries of one job so far.
#[derive(Debug)]
pub struct Persistence {
    until: UnixMs,
    pause: Duration,
    exhausted: u32,
}

impl Persistence {
    /// Of a job that is tried until then.
    pub fn until(until: UnixMs) -> Self {
        Self { until, pause: FIRST_PAUSE, exhausted: 0 }
    }

    /// Waits after a failure, or says that it is the last one.
    pub async fn after(
        &mut self,
        error: AiError,
        stopping: &CancellationToken,
    ) -> Result<(), Given> {
        match self.next(&error, clock::now()) {
            Some(pause) => rest(pause, stopping).await,
            None => Err(Given::Failed(error)),
        }
    }

    /// The same of what is done: a replica that stops does not leave it for the next one to do again.
    pub async fn after_work(&mut self, error: AiError) -> Result<(), Given> {
        self.after(error, &CancellationToken::new()).await
    }

    /// Waits for a place.
    pub async fn wait(&mut self, stopping: &CancellationToken) -> Result<(), Given> {
        let busy = AiError::Job(JobError::Busy("no place for a job that waits".to_owned()));
        self.after(busy, stopping).await
    }

    /// The pause before the next try, if there is to be one.
    fn next(&mut self, error: &AiError, now: UnixMs) -> Option<Duration> {
        let AiError::Job(error) = error else { return None };
        let asked = match error {
            JobError::NoOrchestrators(_) | JobError::Busy(_) | JobError::Signer(_) => None,
            JobError::Budget { retry_after_s, .. } => retry_after_s.map(u64::from),
            JobError::Store(error) if error.is_retryable() => None,
            JobError::Exhausted(_) => {
                self.exhausted += 1;
                if self.exhausted >= MAX_EXHAUSTED {
                    return None;
                }
                None
            }
            JobError::Store(_)
            | JobError::Rejected(_)
            | JobError::Forbidden(_)
            | JobError::Internal(_) => return None,
        };
        let pause = asked.map_or(self.pause, |s| Duration::from_secs(s).max(self.pause));
        let after = now.plus_ms(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        (after < self.until).then_some(pause)
    }
}

async fn rest(pause: Duration, stopping: &CancellationToken) -> Result<(), Given> {
    tokio::select! {
        () = tokio::time::sleep(pause) => Ok(()),
        () = stopping.cancelled() => Err(Given::Up),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ai::BadRequest;
    use penstock_store::StoreError;

    fn next(of: &mut Persistence, error: JobError, now_s: u64) -> Option<u64> {
        of.next(&AiError::Job(error), UnixMs(now_s * 1_000)).map(|pause| pause.as_secs())
    }

    #[test]
    fn what_passes_is_waited_for_until_the_job_is_over() {
        let mut tries = Persistence::until(UnixMs(100_000));
        let away = || JobError::Store(StoreError::Unavailable("away".into()));
        let pauses: Vec<_> = [
            away(),
            JobError::Signer("away".into()),
            JobError::NoOrchestrators("none".into()),
            JobError::Busy("x".into()),
        ]
        .into_iter()
        .map(|error| next(&mut tries, error, 0))
        .collect();
        assert_eq!(pauses, [Some(1), Some(2), Some(4), Some(8)]);
        assert_eq!(next(&mut tries, away(), 1), Some(16));
        assert_eq!(next(&mut tries, away(), 69), Some(30));
        assert_eq!(next(&mut tries, away(), 70), None);
        let budget = |retry_after_s| JobError::Budget { why: String::new(), retry_after_s };
        assert_eq!(next(&mut tries, budget(Some(50)), 1), Some(50));
        assert_eq!(next(&mut tries, budget(Some(86_400)), 1), None, "not today");
    }

    #[test]
    fn what_lasts_is_final_and_what_costs_is_not_tried_for_ever() {
        let mut tries = Persistence::until(UnixMs(u64::MAX));
        assert!(tries.next(&AiError::Bad(BadRequest::Model), UnixMs(0)).is_none());
        assert!(tries.next(&AiError::NotAllowed("x".into()), UnixMs(0)).is_none());
        assert_eq!(next(&mut tries, JobError::Forbidden("no films".into()), 0), None);
        assert_eq!(next(&mut tries, JobError::Rejected("bad".into()), 0), None);
        assert_eq!(next(&mut tries, JobError::Store(StoreError::Corrupt("x")), 0), None);
        let all: Vec<_> = (0..3)
            .map(|_| next(&mut tries, JobError::Exhausted("x".into()), 0).is_some())
            .collect();
        assert_eq!(all, [true, true, false]);
    }
}

//! The one loop of attempts, for video and AI alike: choose an orchestrator, try the job there,
//! name what went wrong ([`Failure`]), keep the culprit out for a while, go on with the next best.

use super::{
    Gateway,
    choose::{Ask, Chosen, Tried, stream_scope},
    doubling::Doubling,
    error::{JobError, TryError},
    explain::Trail,
    failure::{Cause, Failure, KeptFrom, final_error, spent_on_failure},
    own_time::OwnTime,
    pay::Funded,
    seen,
    session::Purpose,
};
use crate::front::timing::{self, Phase};
use penstock_clients::{Next, Paid};
use penstock_selection::{Facts, Fault};
use penstock_store::PoolKey;
use penstock_telemetry::step;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{Instrument, field};

/// How many times the same orchestrator gets a job again after it asked for a refresh or a payment.
const SAME_AGAIN: u32 = 3;
/// While nobody at all is there, how often to look again within the time that the job may wait.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A job, as far as the loop has to know it.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Names it in logs: `show/17`, `31_openai/whisper`.
    pub name: String,
    /// What it is, in metrics: a pipeline, `video`, or `byoc`.
    pub capability: &'static str,
    /// The model, if it has one.
    pub model: Option<String>,
    /// Who may take it.
    pub pool: PoolKey,
    /// On whose account, into which one at the orchestrator, for what.
    pub purpose: Purpose,
    /// Units set aside before a try.
    pub estimate_units: u64,
    /// The orchestrator that had the last job of the same stream.
    pub sticky: Option<&'a str>,
    /// When to give up.
    pub limits: Limits,
}

/// When a job is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Orchestrators tried at most; at least one is.
    pub attempts: u32,
    /// Of them, how many may have charged for what they did not deliver.
    pub charged: u32,
    /// No further try begins after so long. One in flight is not cut.
    pub budget: Duration,
    /// How long to wait for somebody to appear at all: a model that is being loaded somewhere is
    /// there within moments.
    pub wait_for_first: Duration,
}

/// One kind of job: does it once, at one orchestrator, with credit set aside.
pub trait Work: Sync {
    /// Its result.
    type Output: Send;

    /// Sends the job and reads its result. An error is classified by [`Failure::of`]; its charge is
    /// settled by the loop, unless this has settled it already. Work that [`tells_own_time`](Self::tells_own_time) has the clock run
    /// while the orchestrator is at it.
    fn dispatch(
        &self,
        gateway: &Gateway,
        funded: &Funded,
        clock: &OwnTime,
    ) -> impl Future<Output = Result<Done<Self::Output>, TryError>> + Send;

    /// When the next best is asked as well, because this one takes its time; `None`: never. For jobs whose
    /// answer comes whole.
    fn company_after(&self, _gateway: &Gateway, _at: &Chosen) -> Option<Duration> {
        None
    }

    /// Whether it tells the orchestrator's own time: then company is a matter of that alone, and else of all
    /// the time that a try takes.
    fn tells_own_time(&self) -> bool {
        false
    }

    /// Which jobs count when only a share of them may get company.
    fn share<'a>(&self, gateway: &'a Gateway) -> &'a Doubling {
        &gateway.doubling.ai_jobs
    }

    /// The score of one that took so long and was not waited for any more; `None`: it says nothing.
    fn score_of(&self, _took: Duration) -> Option<f64> {
        None
    }
}

/// A job that was done.
#[derive(Debug)]
pub struct Done<T> {
    /// Its result.
    pub output: T,
    /// Units it really used; `None`: the work settles by itself, when its stream ends.
    pub used_units: Option<u64>,
    /// Seconds of work per unit of the pipeline (selection.md sections 7.2 and 11), for the next
    /// choice.
    pub latency_score: f64,
}

/// A result and who made it.
#[derive(Debug)]
pub struct Served<T> {
    /// The service URI.
    pub orchestrator: String,
    /// What it says of itself, for labels.
    pub facts: Arc<Facts>,
    /// The result.
    pub output: T,
    /// Tries that failed before.
    pub failed_tries: u32,
}

/// What went wrong with one job so far.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) causes: Vec<Cause>,
    /// Tries that may have been charged.
    charged: u32,
    /// The last one's words.
    pub(super) last: Option<String>,
    /// Orchestrators that the job may be to blame for.
    doubts: Vec<(String, Fault, String)>,
}

impl Failures {
    /// Whether another try may begin.
    pub(super) fn leave_room(&self, limits: &Limits, elapsed: Duration) -> bool {
        let tries = u32::try_from(self.causes.len()).unwrap_or(u32::MAX);
        tries == 0
            || (tries < limits.attempts
                && self.charged < limits.charged
                && elapsed <= limits.budget)
    }
}

impl Gateway {
    /// Has a job done by the best orchestrator that can do it, within the job's limits. What was
    /// decided on the way can be asked for afterwards.
    pub async fn attempt<W: Work>(
        &self,
        plan: &Plan<'_>,
        work: &W,
    ) -> Result<Served<W::Output>, JobError> {
        let (mut trail, began) = (Trail::of(plan), Instant::now());
        // Boxed, here and below: what a job holds while it waits is much, and stacks are small.
        let served = Box::pin(self.attempt_noting(plan, work, &mut trail)).await;
        self.note(trail);
        seen::ended(plan, (&served).into(), began.elapsed());
        served
    }

    async fn attempt_noting<W: Work>(
        &self,
        plan: &Plan<'_>,
        work: &W,
        trail: &mut Trail,
    ) -> Result<Served<W::Output>, JobError> {
        let started = Instant::now();
        let mut tried = Tried::default();
        let mut failures = Failures::default();
        while failures.leave_room(&plan.limits, started.elapsed()) {
            let ask = Ask {
                caller: &plan.purpose.caller,
                pool: &plan.pool,
                job: &plan.purpose.job,
                stream: stream_scope(&plan.purpose.scope),
                sticky: plan.sticky.filter(|_| failures.causes.is_empty()),
                tried: &tried,
            };
            let considered = timing::span(Phase::Selection, Box::pin(self.choose(&ask))).await?;
            let Some(at) = considered.chosen.clone() else {
                let why = considered.summary();
                if failures.last.is_none()
                    && started.elapsed() + LOOK_AGAIN < plan.limits.wait_for_first
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                trail.decided(considered);
                if failures.last.is_none() {
                    return Err(JobError::NoOrchestrators(why));
                }
                break;
            };
            trail.decided(considered);
            seen::another_try(plan, failures.causes.len());
            let (began, clock) = (Instant::now(), OwnTime::new(!work.tells_own_time()));
            let tries = match work.company_after(self, &at) {
                Some(after) => {
                    let hedged =
                        self.attempt_hedged(plan, work, &at, (&clock, after), &mut tried, trail);
                    Box::pin(hedged).await
                }
                None => {
                    let alone = Box::pin(self.attempt_at(plan, work, &at, &clock)).await;
                    vec![(at.clone(), alone)]
                }
            };
            // It was left for the company that it got: as slow as that, at least.
            let is_left = tries.iter().all(|(done, _)| done.uri != at.uri);
            if is_left && let Some(score) = work.score_of(clock.elapsed()) {
                let stream = stream_scope(&plan.purpose.scope);
                self.record_score(&plan.pool, stream, &at.uri, score);
            }
            let (mut served, mut ends_it) = (None, None);
            for (at, tried_there) in tries {
                match tried_there {
                    Ok(done) => {
                        trail.ended(&at.uri, None, began.elapsed());
                        self.succeeded(plan, &at, done.latency_score).await;
                        served = Some((at, done));
                    }
                    Err(error) => {
                        let cause = self.failed(plan, &at, &error, &mut failures).await;
                        trail.ended(&at.uri, Some((cause, &error.to_string())), began.elapsed());
                        if !cause.is_retryable() {
                            ends_it = Some(final_error(cause, error));
                        }
                        tried.0.insert(at.uri);
                    }
                }
            }
            if let Some((at, done)) = served {
                self.not_to_blame(plan, &failures).await;
                let failed_tries = u32::try_from(failures.causes.len()).unwrap_or(u32::MAX);
                let Chosen { uri: orchestrator, facts, .. } = at;
                return Ok(Served { orchestrator, facts, output: done.output, failed_tries });
            }
            // After the success, if there was one: what failed elsewhere does not undo it.
            if let Some(error) = ends_it {
                return Err(error);
            }
        }
        let last = failures.last.unwrap_or_else(|| "out of time".to_owned());
        Err(if failures.causes.iter().all(|cause| *cause == Cause::LeaseBusy) {
            // Nobody refused anything: other jobs of ours are in the way, for moments.
            JobError::Busy(last)
        } else {
            JobError::Exhausted(last)
        })
    }

    /// Remembers how fast a job was done, and that it was.
    pub(super) async fn succeeded(&self, plan: &Plan<'_>, at: &Chosen, latency_score: f64) {
        let stream = stream_scope(&plan.purpose.scope);
        self.record_score(&plan.pool, stream, &at.uri, latency_score);
        seen::latency(plan, at, latency_score);
        self.end_doubts(&plan.pool, at).await;
    }

    /// The job can be done: it was not to blame for what went wrong before.
    pub(super) async fn not_to_blame(&self, plan: &Plan<'_>, failures: &Failures) {
        for (uri, fault, because) in &failures.doubts {
            self.suspend(&plan.pool, uri, *fault, because).await;
        }
    }

    /// Logs and counts a failed try, and keeps the culprit out.
    pub(super) async fn failed(
        &self,
        plan: &Plan<'_>,
        at: &Chosen,
        error: &TryError,
        failures: &mut Failures,
    ) -> Cause {
        let Failure { cause, paid } = Failure::of(error);
        let text = error.to_string();
        tracing::warn!(pool = %plan.pool.0, job = plan.name, orchestrator = at.uri,
            attempt = failures.causes.len(), cause = cause.label(), ?paid, error = text, "a try failed");
        seen::failed_try(plan, at, cause);
        if let Some(fault) = cause.held_against() {
            let caller = &plan.purpose.caller;
            match cause.kept_from() {
                KeptFrom::Nobody => {}
                KeptFrom::Everybody => self.suspend(&plan.pool, &at.uri, fault, &text).await,
                KeptFrom::Caller => {
                    self.suspend_for(caller, &plan.pool, &at.uri, fault, &text).await;
                }
                KeptFrom::CallerFirst => {
                    self.suspend_for(caller, &plan.pool, &at.uri, fault, &text).await;
                    failures.doubts.push((at.uri.clone(), fault, text.clone()));
                }
            }
        }
        failures.causes.push(cause);
        failures.charged += u32::from(paid != Paid::No);
        failures.last = Some(text);
        cause
    }

    /// At one orchestrator, again there when only a refresh or a payment was missing.
    pub(super) async fn attempt_at<W: Work>(
        &self,
        plan: &Plan<'_>,
        work: &W,
        at: &Chosen,
        clock: &OwnTime,
    ) -> Result<Done<W::Output>, TryError> {
        let step = step!("try", orchestrator = at.uri, pool = plan.pool.0, cause = field::Empty);
        let tried = Box::pin(self.try_at(plan, work, at, clock)).instrument(step.clone()).await;
        if let Err(error) = &tried {
            step.record("cause", Failure::of(error).cause.label());
        }
        tried
    }

    async fn try_at<W: Work>(
        &self,
        plan: &Plan<'_>,
        work: &W,
        at: &Chosen,
        clock: &OwnTime,
    ) -> Result<Done<W::Output>, TryError> {
        let purpose = &plan.purpose;
        let mut session =
            timing::span(Phase::Payment, Box::pin(self.open_session(purpose, at))).await?;
        let mut again = 0;
        loop {
            again += 1;
            let funding = Box::pin(self.fund(purpose, session, plan.estimate_units));
            let funded = timing::span(Phase::Payment, funding).await?;
            let error = match Box::pin(work.dispatch(self, &funded, clock)).await {
                Ok(done) => {
                    if let Some(used) = done.used_units {
                        let price = funded.session.offer.price.map(|price| price.rational());
                        seen::cost(plan.capability, used, price.as_ref());
                        seen::price(plan, price.as_ref());
                        self.settle(&funded, used).await;
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            self.settle(&funded, spent_on_failure(&error, plan.estimate_units)).await;
            let next = match &error {
                TryError::Call(call) => call.next(),
                _ => Next::Elsewhere,
            };
            session = match next {
                Next::Refresh if again < SAME_AGAIN => {
                    self.refresh_session(purpose, &funded.session).await?
                }
                Next::BuyMore if again < SAME_AGAIN => {
                    self.forfeit(&funded).await?;
                    self.open_session(purpose, at).await?
                }
                _ => return Err(error),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_no_further_try_begins() {
        let second = Duration::from_secs(1);
        let limits =
            Limits { attempts: 20, charged: 3, budget: second, wait_for_first: Duration::ZERO };
        let after = |causes: usize, charged: u32, elapsed: Duration| {
            let causes = vec![Cause::Busy; causes];
            Failures { causes, charged, ..Failures::default() }.leave_room(&limits, elapsed)
        };
        assert!(after(0, 0, second * 9), "one is made, however long the search took");
        assert!(after(19, 2, second) && !after(20, 2, second));
        assert!(!after(3, 3, second), "what may have been paid is not paid again and again");
        assert!(!after(1, 0, second * 2));
    }
}

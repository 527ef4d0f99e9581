//! The one loop of attempts, for video and AI alike: choose an orchestrator, try the job there,
//! name what went wrong, keep the culprit out for a while, go on with the next best.
//!
//! Each failed try has a [`Failure`]: whose fault it was, whether another orchestrator is worth
//! asking, whether the try may have been charged, and how long the culprit is left alone. The table
//! in `docs/selection.md` is checked against [`Cause::ALL`].

use super::{
    Gateway,
    choose::{Ask, Chosen, Tried},
    error::{JobError, TryError},
    explain::Trail,
    pay::Funded,
    session::Purpose,
};
use crate::front::timing::{self, Phase};
use futures::FutureExt;
use penstock_clients::{CallError, CallErrorKind, Fault as Blame, Next, Paid};
use penstock_selection::{Fault, Reason, suspension_ms};
use penstock_store::PoolKey;
use std::time::{Duration, Instant};

/// How many times the same orchestrator gets a job again after it asked for a refresh or a payment.
const SAME_AGAIN: u32 = 3;
/// While nobody at all is there, how often to look again within the time that the job may wait.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A job, as far as the loop has to know it.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Names it in logs: `show/17`, `31_openai/whisper`.
    pub name: String,
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
    /// settled by the loop, unless this has settled it already.
    fn dispatch(
        &self,
        gateway: &Gateway,
        funded: &Funded,
    ) -> impl Future<Output = Result<Done<Self::Output>, TryError>> + Send;

    /// Whether the next best may be asked as well while the first takes its time (`--hedge-after-ms`):
    /// for short jobs whose answer comes whole.
    fn may_have_company(&self) -> bool {
        false
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
    /// The result.
    pub output: T,
    /// Tries that failed before.
    pub failed_tries: u32,
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No connection; nothing was sent.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer ended.
    Broken,
    /// It has no room now: busy, capped, out of capacity.
    Busy,
    /// Its own error, 5xx among them, or a job that failed there.
    Failed,
    /// Something that is not the result: wrong signature, count, size or form.
    BadResult,
    /// Dearer than agreed or than the limit, or beyond what is bought for one job.
    Price,
    /// Token or ticket parameters (480) that stay expired after they were renewed.
    Expired,
    /// It finds no balance although it was paid.
    Unpaid,
    /// An offer that no job can be paid on, or a service URI where we do not go.
    BadOffer,
    /// Others buy credit there and did not finish in time.
    LeaseBusy,
    /// The job: it would fail anywhere.
    Job,
    /// The signer cannot be reached, or refuses us.
    Signer,
    /// The store.
    Store,
}

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The orchestrator, or the way to it.
    Orchestrator,
    /// The caller.
    Caller,
    /// The operator of this gateway, or another job of it.
    Gateway,
}

/// What one failed try means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why it failed.
    pub cause: Cause,
    /// Whether the try may have been charged for. Its estimate is then taken for spent.
    pub paid: Paid,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Connect,
        Self::Timeout,
        Self::Broken,
        Self::Busy,
        Self::Failed,
        Self::BadResult,
        Self::Price,
        Self::Expired,
        Self::Unpaid,
        Self::BadOffer,
        Self::LeaseBusy,
        Self::Job,
        Self::Signer,
        Self::Store,
    ];

    /// A stable word for logs, metrics and documents.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::BadResult => "bad_result",
            Self::Price => "price",
            Self::Expired => "expired",
            Self::Unpaid => "unpaid",
            Self::BadOffer => "bad_offer",
            Self::LeaseBusy => "lease_busy",
            Self::Job => "job",
            Self::Signer => "signer",
            Self::Store => "store",
        }
    }

    /// Whose fault it is.
    pub fn whose(self) -> Whose {
        match self {
            Self::Job => Whose::Caller,
            Self::LeaseBusy | Self::Signer | Self::Store => Whose::Gateway,
            _ => Whose::Orchestrator,
        }
    }

    /// Whether another orchestrator is asked. The others answer at once.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::Job | Self::Signer | Self::Store)
    }

    /// What it is held against the orchestrator as; `None`: it is left in the pool.
    pub fn held_against(self) -> Option<Fault> {
        match self {
            Self::Connect | Self::Timeout | Self::Broken => Some(Fault::Unreachable),
            Self::Busy => Some(Fault::Busy),
            Self::Failed | Self::Expired | Self::Unpaid | Self::BadOffer => Some(Fault::Failed),
            Self::BadResult => Some(Fault::BadResult),
            Self::Price => Some(Fault::Price),
            Self::LeaseBusy | Self::Job | Self::Signer | Self::Store => None,
        }
    }

    /// Milliseconds that the orchestrator is kept out after a first failure.
    pub fn suspended_ms(self) -> u64 {
        self.held_against().map_or(0, |fault| suspension_ms(fault, 1))
    }
}

impl Failure {
    /// What the error of a try means.
    pub fn of(error: &TryError) -> Self {
        let (cause, paid) = match error {
            TryError::Call(call) => (cause_of(call), call.paid()),
            TryError::Offer(_) => (Cause::BadOffer, Paid::No),
            TryError::BadResult(_) => (Cause::BadResult, Paid::Yes),
            TryError::TooDear { .. } | TryError::PriceAboveLimit => (Cause::Price, Paid::No),
            TryError::LeaseBusy => (Cause::LeaseBusy, Paid::No),
            TryError::Store(_) => (Cause::Store, Paid::No),
        };
        Self { cause, paid }
    }
}

fn cause_of(call: &CallError) -> Cause {
    let at_signer = call.operation.is_signer();
    match call.next() {
        Next::Reject => Cause::Job,
        Next::PriceTooHigh => Cause::Price,
        Next::Busy => Cause::Busy,
        Next::Refresh => Cause::Expired,
        Next::BuyMore | Next::NoTickets => Cause::Unpaid,
        // The signer's own trouble is the same for every orchestrator, except what it says about one
        // orchestrator's offer (400s), which another one's may not have.
        Next::RetrySame if at_signer => Cause::Signer,
        Next::GiveUp if matches!(call.status(), Some(401 | 403 | 404) | None) => Cause::Signer,
        Next::GiveUp => Cause::BadOffer,
        Next::RetrySame | Next::Elsewhere => match &call.kind {
            CallErrorKind::Connect(_) => Cause::Connect,
            CallErrorKind::HeaderTimeout | CallErrorKind::BodyTimeout => Cause::Timeout,
            CallErrorKind::Broken(_) => Cause::Broken,
            CallErrorKind::Url(_) => Cause::BadOffer,
            CallErrorKind::Answer(_)
            | CallErrorKind::AnswerTooLong { .. }
            | CallErrorKind::NoResult
                if call.operation.carries_payment() =>
            {
                Cause::BadResult
            }
            _ if call.fault() == Blame::Network => Cause::Broken,
            _ => Cause::Failed,
        },
    }
}

/// Whether an orchestrator refused the job for what it is.
fn says_it_of_the_job(error: &TryError) -> bool {
    Failure::of(error).cause == Cause::Job
}

/// Whichever of two is done first if that `settles` it, alone; else both, as they were done. One that is
/// done in the same moment is not left out.
async fn race<T>(
    one: impl Future<Output = T>,
    other: impl Future<Output = T>,
    settles: impl Fn(&T) -> bool,
) -> Vec<T> {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    tokio::select! {
        biased;
        done = &mut one => and_then(done, other, settles).await,
        done = &mut other => and_then(done, one, settles).await,
    }
}

async fn and_then<T>(
    done: T,
    waiting: impl Future<Output = T>,
    settles: impl Fn(&T) -> bool,
) -> Vec<T> {
    let other = match settles(&done) {
        true => waiting.now_or_never(),
        false => Some(waiting.await),
    };
    std::iter::once(done).chain(other).collect()
}

/// What ends a job at once, in the job's words.
fn final_error(cause: Cause, error: TryError) -> JobError {
    match (cause, error) {
        (_, TryError::Store(error)) => JobError::Store(error),
        (Cause::Job, error) => JobError::Rejected(error.to_string()),
        (Cause::Signer, error) => JobError::Signer(error.to_string()),
        (_, error) => JobError::Internal(error.to_string()),
    }
}

/// Units that a failed try may have been charged for. Refusals before the 200, and jobs that failed,
/// cost nothing; of a call that broke off nothing is known, so its estimate is taken for spent. So it
/// is for an answer that is no result: it was charged all the same.
pub fn spent_on_failure(error: &TryError, estimate_units: u64) -> u64 {
    use CallErrorKind as K;
    match error {
        TryError::Call(call) if call.operation.carries_payment() => match &call.kind {
            K::HeaderTimeout | K::BodyTimeout | K::Broken(_) => estimate_units,
            K::Answer(_) | K::AnswerTooLong { .. } | K::NoResult => estimate_units,
            _ => 0,
        },
        TryError::BadResult(_) => estimate_units,
        _ => 0,
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
        let mut trail = Trail::of(plan);
        // Boxed, here and below: what a job holds while it waits is much, and stacks are small.
        let served = Box::pin(self.attempt_noting(plan, work, &mut trail)).await;
        self.note(trail);
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
        let mut failures = Vec::new();
        let mut last = None;
        while failures.len() < usize::try_from(plan.limits.attempts.max(1)).unwrap_or(usize::MAX) {
            if !failures.is_empty() && started.elapsed() > plan.limits.budget {
                break;
            }
            let ask = Ask {
                caller: &plan.purpose.caller,
                pool: &plan.pool,
                job: &plan.purpose.job,
                sticky: plan.sticky.filter(|_| failures.is_empty()),
                tried: &tried,
            };
            let considered = timing::span(Phase::Selection, Box::pin(self.choose(&ask))).await?;
            let Some(at) = considered.chosen.clone() else {
                let why = considered.summary();
                if last.is_none() && started.elapsed() + LOOK_AGAIN < plan.limits.wait_for_first {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                trail.decided(considered);
                if last.is_none() {
                    return Err(JobError::NoOrchestrators(why));
                }
                break;
            };
            trail.decided(considered);
            let began = Instant::now();
            let hedge_after = self.settings.selection.hedge_after;
            let tries = match hedge_after.filter(|_| work.may_have_company()) {
                Some(after) => {
                    Box::pin(self.attempt_hedged(plan, work, &at, after, &mut tried, trail)).await
                }
                None => vec![(at.clone(), Box::pin(self.attempt_at(plan, work, &at)).await)],
            };
            let (mut served, mut ends_it) = (None, None);
            for (at, tried_there) in tries {
                match tried_there {
                    Ok(done) => {
                        trail.ended(&at.uri, None, began.elapsed());
                        self.record_success(&plan.pool, &at.uri, done.latency_score).await;
                        self.end_doubts(&plan.pool, &at).await;
                        served = Some((at, done));
                    }
                    Err(error) => {
                        let text = error.to_string();
                        let cause = self.failed(plan, &at, &error, failures.len()).await;
                        trail.ended(&at.uri, Some((cause, &text)), began.elapsed());
                        if !cause.is_retryable() {
                            ends_it = Some(final_error(cause, error));
                        }
                        tried.0.insert(at.uri);
                        failures.push(cause);
                        last = Some(text);
                    }
                }
            }
            if let Some((at, done)) = served {
                let failed_tries = u32::try_from(failures.len()).unwrap_or(u32::MAX);
                return Ok(Served { orchestrator: at.uri, output: done.output, failed_tries });
            }
            // After the success, if there was one: what failed elsewhere does not undo it.
            if let Some(error) = ends_it {
                return Err(error);
            }
        }
        let last = last.unwrap_or_else(|| "out of time".to_owned());
        Err(if failures.iter().all(|cause| *cause == Cause::LeaseBusy) {
            // Nobody refused anything: other jobs of ours are in the way, for moments.
            JobError::Busy(last)
        } else {
            JobError::Exhausted(last)
        })
    }

    /// Logs and counts a failed try, and keeps the culprit out.
    async fn failed(
        &self,
        plan: &Plan<'_>,
        at: &Chosen,
        error: &TryError,
        attempt: usize,
    ) -> Cause {
        let Failure { cause, paid } = Failure::of(error);
        let text = error.to_string();
        tracing::warn!(pool = %plan.pool.0, job = plan.name, orchestrator = at.uri, attempt,
            cause = cause.label(), ?paid, error = text, "a try failed");
        metrics::counter!("penstock_gateway_failed_tries_total", "cause" => cause.label())
            .increment(1);
        if let Some(fault) = cause.held_against() {
            self.suspend(&plan.pool, &at.uri, fault, &text).await;
        }
        cause
    }

    /// A try that has no answer after a while gets company: the next best is asked too, and the first
    /// result counts. The slower one is dropped; what it may charge stays booked as spent, because its
    /// credit was set aside and nothing gives it back. A refusal of the job itself counts like a result,
    /// because the other would say the same; after any other failure the other one is waited for.
    async fn attempt_hedged<W: Work>(
        &self,
        plan: &Plan<'_>,
        work: &W,
        at: &Chosen,
        after: Duration,
        tried: &mut Tried,
        trail: &mut Trail,
    ) -> Vec<(Chosen, Result<Done<W::Output>, TryError>)> {
        let mut first = Box::pin(self.attempt_at(plan, work, at));
        tokio::select! {
            biased;
            done = &mut first => return vec![(at.clone(), done)],
            () = tokio::time::sleep(after) => {}
        }
        tried.0.insert(at.uri.clone());
        let ask = Ask {
            caller: &plan.purpose.caller,
            pool: &plan.pool,
            job: &plan.purpose.job,
            sticky: None,
            tried,
        };
        let considered = Box::pin(self.choose(&ask)).await.ok();
        let next = considered.as_ref().and_then(|c| c.chosen.clone());
        // A suspended one is no help.
        let (Some(considered), Some(next)) =
            (considered, next.filter(|c| c.reason != Reason::LastResort))
        else {
            return vec![(at.clone(), first.await)];
        };
        trail.decided(considered);
        metrics::counter!("penstock_gateway_hedged_jobs_total").increment(1);
        tracing::info!(pool = %plan.pool.0, job = plan.name, first = at.uri, second = next.uri,
            "a slow job got company");
        let second = Box::pin(self.attempt_at(plan, work, &next));
        let both = race(
            async { (at.clone(), first.await) },
            async { (next.clone(), second.await) },
            |(_, done)| done.as_ref().map_or_else(says_it_of_the_job, |_| true),
        );
        both.await
    }

    /// At one orchestrator, again there when only a refresh or a payment was missing.
    pub(super) async fn attempt_at<W: Work>(
        &self,
        plan: &Plan<'_>,
        work: &W,
        at: &Chosen,
    ) -> Result<Done<W::Output>, TryError> {
        let purpose = &plan.purpose;
        let mut session =
            timing::span(Phase::Payment, Box::pin(self.open_session(purpose, at))).await?;
        let mut again = 0;
        loop {
            again += 1;
            let funding = Box::pin(self.fund(purpose, session, plan.estimate_units));
            let funded = timing::span(Phase::Payment, funding).await?;
            let error = match Box::pin(work.dispatch(self, &funded)).await {
                Ok(done) => {
                    if let Some(used) = done.used_units {
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
    use penstock_clients::Operation;
    use penstock_store::StoreError;
    use penstock_wire::WireError;

    fn call(operation: Operation, kind: CallErrorKind) -> TryError {
        TryError::Call(CallError { operation, peer: "https://o:1".into(), kind })
    }

    fn said(operation: Operation, status: u16, message: &str) -> TryError {
        let message = message.to_owned();
        call(operation, CallErrorKind::Status { status, message, code: None, retry_after_s: None })
    }

    #[test]
    fn every_failure_has_its_cause() {
        use CallErrorKind as K;
        use Operation as O;
        let broken = || K::Broken(String::new());
        for (error, cause, paid) in [
            (call(O::Segment, K::Connect(String::new())), Cause::Connect, Paid::No),
            (call(O::Segment, K::HeaderTimeout), Cause::Timeout, Paid::Maybe),
            (call(O::AiJob, K::BodyTimeout), Cause::Timeout, Paid::Maybe),
            (call(O::Segment, broken()), Cause::Broken, Paid::Maybe),
            (call(O::GetOrchestrator, broken()), Cause::Broken, Paid::No),
            (said(O::AiJob, 503, "insufficient capacity"), Cause::Busy, Paid::No),
            (call(O::Segment, K::Job("OrchestratorBusy".into())), Cause::Busy, Paid::Yes),
            (said(O::Segment, 500, "oops"), Cause::Failed, Paid::Maybe),
            (said(O::Download, 404, "ErrNotFound"), Cause::Failed, Paid::No),
            (call(O::Segment, K::NoResult), Cause::BadResult, Paid::Yes),
            (call(O::AiJob, K::AnswerTooLong { max: 1 }), Cause::BadResult, Paid::Maybe),
            (TryError::BadResult("x"), Cause::BadResult, Paid::Yes),
            (said(O::GeneratePayment, 481, ""), Cause::Price, Paid::No),
            (TryError::PriceAboveLimit, Cause::Price, Paid::No),
            (TryError::TooDear { units: 1 }, Cause::Price, Paid::No),
            (said(O::GeneratePayment, 480, ""), Cause::Expired, Paid::No),
            (said(O::AiJob, 400, "TicketParams expired"), Cause::Expired, Paid::Maybe),
            (said(O::Segment, 400, "Insufficient balance"), Cause::Unpaid, Paid::Yes),
            (call(O::GetOrchestrator, K::Url("x".into())), Cause::BadOffer, Paid::No),
            (TryError::Offer(WireError::Missing("price")), Cause::BadOffer, Paid::No),
            (said(O::GeneratePayment, 400, "bad info"), Cause::BadOffer, Paid::No),
            (TryError::LeaseBusy, Cause::LeaseBusy, Paid::No),
            (call(O::Segment, K::Job("No keyframes in input".into())), Cause::Job, Paid::Yes),
            (said(O::GeneratePayment, 503, ""), Cause::Signer, Paid::No),
            (said(O::SignSegment, 401, ""), Cause::Signer, Paid::No),
            (TryError::Store(StoreError::Full("x")), Cause::Store, Paid::No),
        ] {
            assert_eq!(Failure::of(&error), Failure { cause, paid }, "{error:?}");
        }
    }

    #[tokio::test]
    async fn two_at_once() {
        use futures::{
            FutureExt,
            future::{Either, pending, ready},
        };
        let race = |one: Option<u8>, other: Option<u8>| {
            let of = |n: Option<u8>| {
                n.map_or_else(|| Either::Left(pending()), |n| Either::Right(ready(n)))
            };
            race(of(one), of(other), |n| *n >= 10)
        };
        // Above 10 it settles the matter.
        assert_eq!(
            race(Some(10), None).now_or_never(),
            Some(vec![10]),
            "the other is not waited for"
        );
        assert_eq!(race(None, Some(10)).now_or_never(), Some(vec![10]));
        assert_eq!(race(Some(10), Some(11)).await, [10, 11], "done in the same moment");
        assert_eq!(race(Some(1), Some(2)).await, [1, 2]);
        assert_eq!(race(Some(1), None).now_or_never(), None, "it may still succeed");
        assert_eq!(race(None, Some(1)).now_or_never(), None);
    }

    /// The table of `docs/selection.md` says what the code does.
    #[test]
    fn the_documented_failures() {
        let document = include_str!("../../../docs/selection.md");
        for cause in Cause::ALL {
            let whose = match cause.whose() {
                Whose::Orchestrator => "orchestrator",
                Whose::Caller => "caller",
                Whose::Gateway => "gateway",
            };
            let next = if cause.is_retryable() { "the next best" } else { "answer at once" };
            let out = match cause.suspended_ms() {
                0 => "no".to_owned(),
                ms => format!("{} s", ms / 1_000),
            };
            let row = format!("| `{}` | {whose} | {next} | {out} |", cause.label());
            assert!(document.contains(&row), "docs/selection.md lacks {row:?}");
        }
    }

    #[test]
    fn only_orchestrators_are_kept_out_and_only_their_failures_go_on() {
        for cause in Cause::ALL {
            let kept_out = cause.suspended_ms() > 0;
            assert_eq!(kept_out, cause.whose() == Whose::Orchestrator, "{cause:?}");
            assert!(cause.is_retryable() || !kept_out, "{cause:?}");
        }
    }

    #[test]
    fn what_may_have_been_charged_is_spent() {
        let spent = |error: &TryError| spent_on_failure(error, 5);
        assert_eq!(spent(&TryError::BadResult("x")), 5);
        assert_eq!(spent(&call(Operation::Segment, CallErrorKind::HeaderTimeout)), 5);
        assert_eq!(spent(&call(Operation::AiJob, CallErrorKind::Broken(String::new()))), 5);
        assert_eq!(spent(&call(Operation::Download, CallErrorKind::HeaderTimeout)), 0);
        assert_eq!(spent(&said(Operation::Segment, 500, "x")), 0);
        assert_eq!(spent(&TryError::LeaseBusy), 0);
    }
}

//! Company for slow jobs (`--hedge-after-ms`) and segments (`--segment-hedge-after-ms`): the next best is asked too,
//! and the first result counts.

use super::{
    Gateway,
    attempts::{Done, Plan, Work},
    choose::{Ask, Chosen, Tried, stream_scope},
    error::TryError,
    explain::Trail,
    failure::{Cause, Failure},
    own_time::OwnTime,
};
use futures::FutureExt;
use penstock_selection::Reason;
use std::time::Duration;

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

/// What was first: the work, or what was to be done beside it.
enum Meanwhile<D, B> {
    Done(D),
    Beside(B),
}

async fn meanwhile<D, B>(
    work: &mut (impl Future<Output = D> + Unpin),
    beside: impl Future<Output = B>,
) -> Meanwhile<D, B> {
    tokio::select! {
        biased;
        done = work => Meanwhile::Done(done),
        beside = beside => Meanwhile::Beside(beside),
    }
}

impl Gateway {
    /// A try that has no answer after a while gets company: the next best is asked too, and the first
    /// result counts. The slower one is dropped; what it may charge stays booked as spent, because its
    /// credit was set aside and nothing gives it back. A refusal of the job itself counts like a result,
    /// because the other would say the same; after any other failure the other one is waited for. Only a
    /// share of all jobs gets company.
    pub(super) async fn attempt_hedged<W: Work>(
        &self,
        plan: &Plan<'_>,
        work: &W,
        at: &Chosen,
        (clock, after): (&OwnTime, Duration),
        tried: &mut Tried,
        trail: &mut Trail,
    ) -> Vec<(Chosen, Result<Done<W::Output>, TryError>)> {
        let share = work.share(self);
        share.begun();
        let mut first = Box::pin(self.attempt_at(plan, work, at, clock));
        tokio::select! {
            biased;
            done = &mut first => return vec![(at.clone(), done)],
            () = clock.reaches(after) => {}
        }
        tried.0.insert(at.uri.clone());
        let ask = Ask {
            caller: &plan.purpose.caller,
            pool: &plan.pool,
            job: &plan.purpose.job,
            stream: stream_scope(&plan.purpose.scope),
            sticky: None,
            tried,
        };
        // The first goes on meanwhile.
        let considered = match meanwhile(&mut first, Box::pin(self.choose(&ask))).await {
            Meanwhile::Done(done) => return vec![(at.clone(), done)],
            Meanwhile::Beside(considered) => considered.ok(),
        };
        let next = considered.as_ref().and_then(|c| c.chosen.clone());
        // A suspended one is no help.
        let (Some(considered), Some(next)) =
            (considered, next.filter(|c| c.reason != Reason::LastResort))
        else {
            return vec![(at.clone(), first.await)];
        };
        if !share.allows_one() {
            metrics::counter!("penstock_gateway_jobs_not_hedged_total").increment(1);
            return vec![(at.clone(), first.await)];
        }
        trail.decided(considered);
        metrics::counter!("penstock_gateway_hedged_jobs_total").increment(1);
        tracing::info!(pool = %plan.pool.0, job = plan.name, first = at.uri, second = next.uri,
            "a slow job got company");
        let own_clock = OwnTime::new(false);
        let second = Box::pin(self.attempt_at(plan, work, &next, &own_clock));
        let both = race(
            async { (at.clone(), first.await) },
            async { (next.clone(), second.await) },
            |(_, done)| done.as_ref().map_or_else(says_it_of_the_job, |_| true),
        );
        both.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The work may need to be driven for what is done beside it to come to an end.
    #[tokio::test]
    async fn work_goes_on_while_something_is_done_beside_it() {
        let gate = tokio::sync::Notify::new();
        let mut work = Box::pin(async {
            gate.notify_one();
            std::future::pending::<()>().await;
        });
        let beside = meanwhile(&mut work, gate.notified()).now_or_never();
        assert!(matches!(beside, Some(Meanwhile::Beside(()))));
        let done = meanwhile(&mut std::future::ready(1), std::future::pending::<()>()).await;
        assert!(matches!(done, Meanwhile::Done(1)));
    }
}

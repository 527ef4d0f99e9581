//! Makes operations happen: at their times, or one after the other. In an open loop nothing that is slow
//! delays the times at which others are due, and what had to wait for its place is counted from when it was
//! due: a stall is seen by all that it kept waiting, not by one.

use super::{
    scenario::{End, Pace},
    schedule::Schedule,
    tally::{Tally, Turn},
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

/// Why an operation failed, in few words that are the same for the same reason.
pub type Failure = String;

/// What is done again and again.
pub trait Job: Send + Sync + 'static {
    /// Once.
    fn run(&self, turn: Turn) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// One load on a job.
#[derive(Debug, Clone, Copy)]
pub struct Drive {
    /// How operations follow each other.
    pub pace: Pace,
    /// When it is over.
    pub end: End,
    /// Time that an operation has.
    pub timeout: Duration,
    /// The first operation's number.
    pub first: u64,
    /// Decides random arrivals.
    pub seed: u64,
}

/// Until all operations have ended.
pub async fn drive<J: Job>(job: &Arc<J>, drive: Drive, tally: &Arc<Tally>) {
    match drive.pace {
        Pace::Open { per_second, arrivals, max_in_flight } => {
            let schedule = Schedule::new(per_second, arrivals, drive.end, drive.seed);
            open(job, drive, schedule, max_in_flight, tally).await;
        }
        Pace::Closed { clients } => closed(job, drive, clients, tally).await,
    }
}

async fn open<J: Job>(
    job: &Arc<J>,
    drive: Drive,
    schedule: Schedule,
    max_in_flight: usize,
    tally: &Arc<Tally>,
) {
    let places = Arc::new(Semaphore::new(max_in_flight));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, offset) in (drive.first..).zip(schedule) {
        let due = began + offset;
        sleep_until(due).await;
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
        let (job, tally) = (Arc::clone(job), Arc::clone(tally));
        tasks.spawn(async move {
            let _place = place;
            once(&*job, number, due, drive.timeout, &tally).await;
        });
        while let Some(ended) = tasks.try_join_next() {
            ended.expect("an operation notes what it finds and does not panic");
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("an operation notes what it finds and does not panic");
    }
}

async fn closed<J: Job>(job: &Arc<J>, drive: Drive, clients: usize, tally: &Arc<Tally>) {
    let next = Arc::new(AtomicU64::new(0));
    let until = drive.end.duration.map(|duration| Instant::now() + duration);
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (job, tally, next) = (Arc::clone(job), Arc::clone(tally), Arc::clone(&next));
        tasks.spawn(async move {
            while until.is_none_or(|until| Instant::now() < until) {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if drive.end.count.is_some_and(|count| number >= count) {
                    return;
                }
                let number = drive.first + number;
                once(&*job, number, Instant::now(), drive.timeout, &tally).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a client notes what it finds and does not panic");
    }
}

async fn once<J: Job>(job: &J, number: u64, due: Instant, patience: Duration, tally: &Tally) {
    let turn = Turn { number, due, begun: Instant::now() };
    tally.started();
    match timeout(patience, job.run(turn)).await {
        Ok(Ok(())) => tally.went_well(),
        Ok(Err(why)) => tally.failed(&turn, &why),
        Err(_) => tally.failed(&turn, "no end within timeout_ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scenario::Arrivals, *};
    use tokio::time::sleep;

    /// Answers after a millisecond, but for two seconds in which it answers nobody.
    struct Stalls {
        from: Instant,
        to: Instant,
        tally: Arc<Tally>,
    }

    impl Job for Stalls {
        async fn run(&self, turn: Turn) -> Result<(), Failure> {
            let now = Instant::now();
            if (self.from..self.to).contains(&now) {
                sleep_until(self.to).await;
            }
            sleep(Duration::from_millis(1)).await;
            self.tally.record("job", turn.due, turn.begun);
            Ok(())
        }
    }

    /// Ten seconds of it.
    async fn load(pace: Pace) -> super::super::tally::Counted {
        let (tally, began) = (Arc::new(Tally::default()), Instant::now());
        let second = Duration::from_secs(1);
        let (from, to) = (began + 3 * second, began + 5 * second);
        let job = Arc::new(Stalls { from, to, tally: Arc::clone(&tally) });
        let end = End { count: None, duration: Some(10 * second) };
        let timeout = Duration::from_secs(60);
        drive(&job, Drive { pace, end, timeout, first: 0, seed: 1 }, &tally).await;
        tally.counted()
    }

    fn open_with(max_in_flight: usize) -> Pace {
        Pace::Open { per_second: 100.0, arrivals: Arrivals::Even, max_in_flight }
    }

    fn ms(us: u64) -> u64 {
        us / 1_000
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_counts_what_a_stall_hides_from_a_closed_one() {
        let open = load(open_with(1_000)).await;
        let times = &open.series["job"].latency;
        assert_eq!((open.progress.ok, times.len()), (1_000, 1_000));
        // A fifth of all arrivals came in the two seconds, and waited one second on average.
        assert!((1_990..=2_010).contains(&ms(times.max())), "{}", times.max());
        assert!((980..=1_020).contains(&ms(times.value_at_quantile(0.9))));
        assert!(ms(times.value_at_quantile(0.79)) <= 2);

        let closed = load(Pace::Closed { clients: 1 }).await;
        let times = &closed.series["job"].latency;
        assert!((1_990..=2_010).contains(&ms(times.max())), "{}", times.max());
        // One operation saw it, of thousands.
        assert!(ms(times.value_at_quantile(0.999)) <= 2, "{}", times.value_at_quantile(0.999));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_is_late_and_is_counted_so() {
        // One place is what a stall takes.
        let open = load(open_with(1)).await;
        let series = &open.series["job"];
        assert_eq!((open.progress.ok, series.latency.len()), (1_000, 1_000));
        // A millisecond each, in their order, when it is over.
        assert!((1_050..=1_150).contains(&ms(series.latency.value_at_quantile(0.9))));
        // By itself each was fast but for the one that stood: that is what is not reported.
        assert!(ms(series.service.value_at_quantile(0.99)) <= 2);
        let due: Vec<u64> = series
            .by_due
            .all()
            .map(|(_, rough)| rough.0.as_ref().map_or(0, |rough| ms(rough.max())))
            .collect();
        // By when they were due: the stall is where it was, from its first moment.
        assert!(due[..30].iter().all(|ms| *ms <= 2), "{due:?}");
        assert!((1_900..2_100).contains(&due[30]), "{due:?}");
        assert!((900..1_200).contains(&due[40]), "{due:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_and_timed() {
        struct Never;
        impl Job for Never {
            async fn run(&self, turn: Turn) -> Result<(), Failure> {
                match turn.number % 2 {
                    0 => std::future::pending().await,
                    _ => Err("503 busy".to_owned()),
                }
            }
        }
        let tally = Arc::new(Tally::default());
        let end = End { count: Some(10), duration: None };
        let timeout = Duration::from_secs(2);
        let pace = Pace::Closed { clients: 3 };
        let drive_it = Drive { pace, end, timeout, first: 0, seed: 1 };
        drive(&Arc::new(Never), drive_it, &tally).await;
        let counted = tally.counted();
        assert_eq!((counted.progress.ok, counted.progress.failed), (0, 10));
        assert_eq!(counted.reasons["503 busy"], 5);
        assert_eq!(counted.reasons["no end within timeout_ms"], 5);
        assert_eq!(counted.series["failed"].latency.len(), 10);
    }
}

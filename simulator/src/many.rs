//! Many histories, shared out among threads.

use crate::{
    history::{Report, run},
    laws::Broken,
    parties::Kit,
    planted::Planted,
};
use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

/// Why a run of many came to no report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// A history broke a law.
    Broken(Broken),
    /// Something outside of all histories: no seed is to blame.
    Outside(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => write!(
                f,
                "{broken}\nonce more: penstock-simulator --histories 1 --seed {}",
                broken.seed
            ),
            Self::Outside(why) => write!(f, "outside of all histories: {why}"),
        }
    }
}

impl std::error::Error for Failed {}

/// Runs the histories of these seeds, on so many threads, up to the first whose books break a law.
/// `done` hears now and then how many are through.
pub fn run_all(
    seeds: Range<u64>,
    threads: usize,
    planted: Option<Planted>,
    done: impl Fn(u64) + Sync,
) -> Result<Report, Failed> {
    let (next, through, stop) =
        (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let kit = Kit::new().map_err(Failed::Outside)?;
        let mut sum = Report::default();
        while !stop.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                break;
            }
            let ended = run(seed, &kit, planted).inspect_err(|_| stop.store(true, Relaxed));
            sum += ended.map_err(Failed::Broken)?;
            done(through.fetch_add(1, Relaxed) + 1);
        }
        Ok(sum)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut sum = Report::default();
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| {
                // Histories catch their own.
                Err(Failed::Outside("a thread panicked".to_owned()))
            });
            sum += ended?;
        }
        Ok(sum)
    })
}

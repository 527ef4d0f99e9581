//! Many histories, shared out among threads.

use crate::{
    history::{Report, run},
    laws::Broken,
    parties::Kit,
    planted::Planted,
};
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

/// Runs the histories of these seeds, on so many threads, up to the first whose books break a law.
/// `done` hears now and then how many are through.
pub fn run_all(
    seeds: Range<u64>,
    threads: usize,
    planted: Option<Planted>,
    done: impl Fn(u64) + Sync,
) -> Result<Report, Broken> {
    let (next, through, stop) =
        (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let kit = Kit::new().map_err(|law| Broken { seed: 0, step: 0, law })?;
        let mut sum = Report::default();
        while !stop.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                break;
            }
            sum += run(seed, &kit, planted).inspect_err(|_| stop.store(true, Relaxed))?;
            done(through.fetch_add(1, Relaxed) + 1);
        }
        Ok(sum)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut sum = Report::default();
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| {
                Err(Broken { seed: 0, step: 0, law: "a thread panicked".to_owned() })
            });
            sum += ended?;
        }
        Ok(sum)
    })
}

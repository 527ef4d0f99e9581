//! What each process holds: in RAM at all times, and at moments of rest in RAM and on its heap; what that says of it and
//! of its role.

use super::{
    memory::{self, Sample, Trend, Verdict},
    world::World,
};
use crate::cpu::rss_kib;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// The gauge of programs that count (`penstock-heap/counted`).
const HEAP: &str = "heap_allocated_bytes";
/// The gauge of what an orchestrator keeps for gateways: as much as the last streams left.
const STORED: &str = "orchestrator_stored_bytes";
/// A role whose RAM is estimated to grow by more fails the run, whatever its interval allows, MiB an hour.
const MOST_IN_DOUBT_MIB_PER_H: f64 = 3.0;

/// The memory of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Memory {
    /// Its name; the number is that of the gateway or orchestrator it belongs to.
    pub process: String,
    /// What is in RAM at rest, less what is stored.
    pub ram: Trend,
    /// What is allocated and not freed at rest, less what is stored.
    pub heap: Trend,
    /// What an orchestrator keeps for gateways at rest; of others nothing is known.
    #[serde(default)]
    pub stored: Trend,
    /// In RAM at moments in which the books agreed and no work was under way.
    pub at_rest: Vec<Sample>,
    /// On the heap, at these moments: all that the program itself allocates, but not what C libraries do.
    pub heap_at_rest: Vec<Sample>,
    /// Of that, results that an orchestrator keeps for gateways until the session ends.
    pub stored_at_rest: Vec<Sample>,
    /// In RAM at all times, with what work takes for a while.
    pub samples: Vec<Sample>,
    /// Gauges that changed: after the warm-up, at the end.
    pub gauges: BTreeMap<String, [f64; 2]>,
}

/// The memory of all processes of one role, which do the same work: what counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleMemory {
    /// Its name.
    pub role: String,
    /// How many processes.
    pub processes: usize,
    /// Of one of them in the mean: what is in RAM at rest, less what is stored.
    pub ram: Trend,
    /// The same of what is allocated and not freed.
    pub heap: Trend,
    /// The same of what is stored.
    #[serde(default)]
    pub stored: Trend,
}

impl Memory {
    /// What its samples say of it alone.
    pub fn judge(&mut self, warm_up: Duration) {
        [self.ram, self.heap, self.stored] = self.at_rest().map(|of| Trend::of(&of, warm_up));
    }

    /// In RAM and on the heap without what is stored; stored.
    fn at_rest(&self) -> [Vec<Sample>; 3] {
        let stored = &self.stored_at_rest;
        let without = |samples| memory::without(samples, stored);
        [without(&self.at_rest), without(&self.heap_at_rest), stored.clone()]
    }
}

/// Processes of the same name but for its number, together.
pub fn roles(memory: &[Memory], warm_up: Duration) -> Vec<RoleMemory> {
    let mut all: BTreeMap<&str, Vec<[Vec<Sample>; 3]>> = BTreeMap::new();
    for one in memory {
        let role = one.process.trim_end_matches(|end: char| end.is_ascii_digit()).trim_end();
        all.entry(role).or_default().push(one.at_rest());
    }
    let of = |(role, processes): (&str, Vec<[Vec<Sample>; 3]>)| {
        let [ram, heap, stored] = [0, 1, 2].map(|which: usize| {
            let samples: Vec<&[Sample]> = processes.iter().map(|of| &of[which][..]).collect();
            Trend::of(&memory::together(&samples), warm_up)
        });
        RoleMemory { role: role.to_owned(), processes: processes.len(), ram, heap, stored }
    };
    all.into_iter().map(of).collect()
}

/// Why a run fails: roles that grow, or of which that is not known, and each process that grows without doubt, whatever
/// its twin does.
///
/// On the heap every byte is counted that the program allocates, and in doubt the run was too short. RAM has besides what C
/// libraries allocate and what the allocator keeps for later, which goes up and down by more than what is looked for: an
/// interval that allows more than nothing is believed there up to [`MOST_IN_DOUBT_MIB_PER_H`].
pub fn findings(roles: &[RoleMemory], memory: &[Memory], longer: &str) -> Vec<String> {
    let of_roles = roles.iter().flat_map(|role| {
        let named = |what: &str, trend: &Trend| trend.finding(&format!("role {}, {what}", role.role), longer);
        let is_in_doubt = role.ram.verdict == Verdict::Unclear
            && role.ram.slope.is_some_and(|slope| slope.mib_per_h <= MOST_IN_DOUBT_MIB_PER_H);
        let ram = if is_in_doubt { None } else { named("in RAM", &role.ram) };
        let heap = match role.heap.verdict {
            Verdict::Unknown => Some(format!(
                "role {}, on its heap: UNKNOWN: run longer ({longer}), with programs that count it (`--features \
                 penstock-heap/counted`)",
                role.role
            )),
            _ => named("on its heap", &role.heap),
        };
        let grows = role.stored.verdict == Verdict::Grows;
        let stored = if grows { named("stored for gateways", &role.stored) } else { None };
        ram.into_iter().chain(heap).chain(stored)
    });
    let of_processes = memory.iter().flat_map(|one| {
        let both = [("in RAM", &one.ram), ("on its heap", &one.heap)];
        let growing = both.into_iter().filter(|(_, trend)| trend.verdict == Verdict::Grows);
        growing.filter_map(|(of, trend)| {
            trend.finding(&format!("process {}, {of}", one.process), longer)
        })
    });
    of_roles.chain(of_processes).collect()
}

/// The gauges of each process.
pub(super) async fn gauges(world: &World) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for (name, process) in world.processes() {
        let page = world.metrics(process).await.unwrap_or_default();
        all.insert(name, memory::gauges(&page));
    }
    all
}

/// Of each process.
type Samples = BTreeMap<String, Vec<Sample>>;

/// Looks at the memory of every process, again and again, and when it is told to.
pub(super) struct Watch {
    pids: Vec<(String, u32)>,
    began: Instant,
    samples: Arc<Mutex<Samples>>,
    /// In RAM, on the heap, stored.
    at_rest: Mutex<[Samples; 3]>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(world: &World, every: Duration, began: Instant) -> Self {
        let pids: Vec<(String, u32)> =
            world.processes().into_iter().map(|(name, process)| (name, process.pid())).collect();
        let samples = Arc::<Mutex<Samples>>::default();
        let (noted, of) = (Arc::clone(&samples), pids.clone());
        let task = tokio::spawn(async move {
            loop {
                look(&of, began, &noted);
                sleep(every).await;
            }
        });
        Self { pids, began, samples, at_rest: Mutex::default(), task }
    }

    /// Nothing is under way now.
    pub(super) async fn rests(&self, world: &World) -> Result<(), String> {
        let at = self.began.elapsed().as_secs_f64();
        for (name, process) in world.processes() {
            let ram = rss_kib(process.pid());
            let gauges = memory::gauges(&world.metrics(process).await?);
            let kib = |gauge: &str| gauges.get(gauge).map(|bytes| (bytes / 1_024.0) as u64);
            let noted = [Some(ram), kib(HEAP), kib(STORED)];
            let mut all = self.at_rest.lock().unwrap();
            for (samples, kib) in all.iter_mut().zip(noted) {
                samples.entry(name.clone()).or_default().extend(kib.map(|kib| (at, kib)));
            }
        }
        Ok(())
    }

    /// What each had in RAM when somebody last looked, KiB.
    pub(super) fn last(&self) -> Vec<(String, u64)> {
        let samples = self.samples.lock().unwrap();
        let last = |(name, samples): (&String, &Vec<Sample>)| {
            samples.last().map(|(_, kib)| (name.clone(), *kib))
        };
        samples.iter().filter_map(last).collect()
    }

    /// What was seen, which nobody has judged yet.
    pub(super) fn end(
        &self,
        before: &BTreeMap<String, BTreeMap<String, f64>>,
        after: &BTreeMap<String, BTreeMap<String, f64>>,
    ) -> Vec<Memory> {
        assert!(!self.task.is_finished(), "a process ended");
        self.task.abort();
        let of = |name: &String| {
            let of = |all: &Samples| all.get(name).cloned().unwrap_or_default();
            let [at_rest, heap_at_rest, stored_at_rest] =
                self.at_rest.lock().unwrap().each_ref().map(of);
            let value = |all: &BTreeMap<String, BTreeMap<String, f64>>, gauge: &str| {
                all.get(name).and_then(|gauges| gauges.get(gauge)).copied().unwrap_or(0.0)
            };
            let gauges = after.get(name).into_iter().flatten();
            let both = gauges.map(|(gauge, now)| (gauge.clone(), [value(before, gauge), *now]));
            Memory {
                process: name.clone(),
                ram: Trend::default(),
                heap: Trend::default(),
                stored: Trend::default(),
                at_rest,
                heap_at_rest,
                stored_at_rest,
                samples: of(&self.samples.lock().unwrap()),
                gauges: both.filter(|(_, [then, now])| then != now).collect(),
            }
        };
        self.pids.iter().map(|(name, _)| of(name)).collect()
    }
}

/// Notes what each has in RAM at this moment.
fn look(pids: &[(String, u32)], began: Instant, noted: &Mutex<Samples>) {
    let at = began.elapsed().as_secs_f64();
    for (name, pid) in pids {
        let sample = (at, rss_kib(*pid));
        noted.lock().unwrap().entry(name.clone()).or_default().push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    /// So many MiB an hour.
    fn rise(mib_per_h: f64) -> Vec<Sample> {
        let kib = |n: f64| (80_000.0 + mib_per_h * n * 1_024.0 / 720.0) as u64;
        (0..360).map(|n| (f64::from(n) * 5.0, kib(f64::from(n)))).collect()
    }

    /// The same under an allocator that swings by 20 MiB within minutes.
    fn swinging(samples: &[Sample]) -> Vec<Sample> {
        let swing = |at: f64| (10_000.0 + 10_000.0 * (at / 200.0).sin()) as u64;
        samples.iter().map(|(at, kib)| (*at, kib + swing(*at))).collect()
    }

    fn memory(process: &str, [ram, heap, stored]: [Vec<Sample>; 3]) -> Memory {
        let mut memory = Memory {
            process: process.to_owned(),
            ram: Trend::default(),
            heap: Trend::default(),
            stored: Trend::default(),
            at_rest: ram,
            heap_at_rest: heap,
            stored_at_rest: stored,
            samples: Vec::new(),
            gauges: BTreeMap::new(),
        };
        memory.judge(NO_TIME);
        memory
    }

    fn found(all: &[Memory]) -> Vec<String> {
        findings(&roles(all, NO_TIME), all, "--minutes, now 1")
    }

    #[test]
    fn a_process_that_grows_is_named_when_its_twin_falls_as_much() {
        let both = |process, mib_per_h| memory(process, [rise(mib_per_h), rise(0.0), Vec::new()]);
        let all = [both("worker 1", 28.0), both("worker 2", -29.0), both("signer", 0.0)];
        let roles = roles(&all, NO_TIME);
        let names: Vec<&str> = roles.iter().map(|role| role.role.as_str()).collect();
        assert_eq!(names, ["signer", "worker"]);
        assert!(roles.iter().all(|role| role.ram.verdict == Verdict::Flat), "{roles:?}");
        let named = found(&all);
        assert!(
            matches!(&named[..], [one] if one.starts_with("process worker 1, in RAM GROWS")),
            "{named:?}"
        );
        assert_eq!(found(&all[1..]), Vec::<String>::new());
    }

    #[test]
    fn a_leak_is_found_on_the_heap_where_ram_hides_it() {
        let signer =
            |mib_per_h| memory("signer", [swinging(&rise(mib_per_h)), rise(mib_per_h), Vec::new()]);
        let leaks = found(&[signer(2.0)]);
        let is_named = |what: &str| leaks.iter().any(|line| line.starts_with(what));
        assert!(is_named("role signer, on its heap GROWS"), "{leaks:?}");
        assert!(is_named("process signer, on its heap GROWS"), "{leaks:?}");
        assert!(!is_named("role signer, in RAM"), "{leaks:?}");
        assert_eq!(found(&[signer(0.5)]), Vec::<String>::new());
    }

    #[test]
    fn doubt_about_ram_is_bounded() {
        let leaks = found(&[memory("signer", [swinging(&rise(12.0)), rise(0.0), Vec::new()])]);
        assert!(
            matches!(&leaks[..], [one, ..] if one.starts_with("role signer, in RAM")),
            "C libraries are in no heap of ours: {leaks:?}"
        );
    }

    #[test]
    fn what_is_kept_for_gateways_is_told_from_what_is_held_and_may_not_grow_either() {
        let with = |stored: &[Sample]| {
            let more = |samples: Vec<Sample>| {
                let both = samples.iter().zip(stored);
                both.map(|((at, kib), (_, more))| (*at, kib + more)).collect::<Vec<_>>()
            };
            memory("orchestrator 1", [more(rise(0.0)), more(rise(0.0)), stored.to_vec()])
        };
        let swings = with(&swinging(&rise(0.0)));
        assert_eq!((swings.ram.verdict, swings.heap.verdict), (Verdict::Flat, Verdict::Flat));
        assert_eq!(found(&[swings]), Vec::<String>::new());
        let grows = found(&[with(&rise(9.0))]);
        assert!(
            matches!(&grows[..], [one] if one.starts_with("role orchestrator, stored for gateways GROWS")),
            "{grows:?}"
        );
    }

    #[test]
    fn a_run_that_was_too_short_for_a_verdict_says_how_to_get_one() {
        let short = || rise(0.0)[..3].to_vec();
        let named = found(&[memory("signer", [short(), short(), Vec::new()])]);
        assert!(
            matches!(&named[..], [ram, heap] if ram.contains("--minutes, now 1")
                && heap.contains("--minutes, now 1")),
            "{named:?}"
        );
    }

    #[test]
    fn a_program_that_does_not_count_its_heap_is_found_out() {
        let named = found(&[memory("signer", [rise(0.0), Vec::new(), Vec::new()])]);
        assert!(
            matches!(&named[..], [one] if one.starts_with("role signer, on its heap: UNKNOWN")
                && one.contains("penstock-heap/counted")),
            "{named:?}"
        );
    }
}

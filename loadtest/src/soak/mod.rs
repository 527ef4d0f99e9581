//! Hours in small: two of everything at 70 % of what they can do, while wires between them go bad at random and are mended
//! again. No process is ended, so that what each of them needs in memory can be watched over the whole time; what is
//! killed is [`crate::gateway_chaos`]'s and [`crate::orchestrator_chaos`]'s.
//!
//! First clients ask as fast as they are answered: that is the capacity. Of it they ask for 70 % from then on, and make up
//! for what a fault held up. A fault comes, is mended, everybody has to be
//! well, all work pauses for a moment in which the books have to agree to the wei and every stream has to be whole, blocks
//! come, streams end and others begin; and again. The seed decides which wires, in what way and for how long.

pub mod channels;
pub mod laws;
pub mod memory;
mod pace;
mod traffic;
mod world;

use self::{
    channels::{Channels, Delivered},
    memory::{Sample, Trend, Verdict},
    traffic::{CLIENTS, Traffic},
    world::{Plan, Wire, World},
};
use crate::{
    cpu::rss_kib,
    faults::cell::{Kind, Pair, Trouble},
    gateway_chaos,
    machine::Origin,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// What goes wrong with wires.
const TROUBLES: [Trouble; 7] = [
    Trouble::Delay,
    Trouble::Reset,
    Trouble::Silence,
    Trouble::HalfClose,
    Trouble::Damage,
    Trouble::Throttle,
    Trouble::Stalls,
];
/// The part of the capacity that is asked for.
pub const OF_CAPACITY: f64 = 0.7;
/// What has to be done of what is asked for. A job under a fault takes the time of several, and new streams take longer.
const LEAST_OF_ASKED: f64 = 0.8;
/// Until everybody is well: beyond what a slow machine needs.
const DEADLINE: Duration = Duration::from_secs(150);
/// Until the books agree: a purchase that was interrupted waits for the next one in its account, there.
const AGREES_WITHIN: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(50);
/// The gauge of programs that count (`penstock-heap/counted`).
const HEAP: &str = "heap_allocated_bytes";
/// The gauge of what is kept for gateways: as much as the last streams left, and no leak.
const STORED: &str = "orchestrator_stored_bytes";
/// Blocks at once; some of them end every offer (45 blocks).
const BLOCKS: u64 = 12;
const MORE_THAN_AN_OFFER: u64 = 45;
/// Five times what passes until everybody has asked the chain again (`--chain-poll-ms=200`).
const SEEN_BY_ALL: Duration = Duration::from_secs(1);
/// Of each kind, jobs that are answered while only one orchestrator is there.
const STEERED: u64 = 12;

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs.
    pub programs: PathBuf,
    /// PostgreSQL databases of the run's own: the signer's, each orchestrator's.
    pub ledgers: [String; 3],
    /// Decides what is broken.
    pub seed: u64,
    /// How long the capacity is measured.
    pub measure: Duration,
    /// How long it is under load.
    pub load: Duration,
    /// Between two samples of memory.
    pub sample: Duration,
    /// How long a fault lasts, at least and at most.
    pub fault: [Duration; 2],
    /// How long nothing is wrong between two faults.
    pub calm: Duration,
    /// Live channels.
    pub channels: usize,
}

/// A fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    /// Seconds since the load began.
    pub at_s: f64,
    /// Who connects to whom.
    pub wire: String,
    /// What was wrong.
    pub trouble: String,
    /// For so long.
    pub lasted_s: f64,
    /// From when it was mended until everybody was ready.
    pub ready_after_s: f64,
}

/// The memory of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Memory {
    /// Its name; the number is that of the gateway or orchestrator it belongs to.
    pub process: String,
    /// What is in RAM at rest, after the warm-up.
    pub ram: Trend,
    /// What is allocated and not freed at rest, after the warm-up.
    pub heap: Trend,
    /// In RAM at moments in which the books agreed and no work was under way.
    pub at_rest: Vec<Sample>,
    /// On the heap, at these moments.
    pub heap_at_rest: Vec<Sample>,
    /// Of that, results that an orchestrator keeps for gateways until the session ends.
    pub stored_at_rest: Vec<Sample>,
    /// At all times, with what work takes for a while.
    pub samples: Vec<Sample>,
    /// Gauges that changed: after the warm-up, at the end.
    pub gauges: BTreeMap<String, [f64; 2]>,
}

/// The memory of all processes of one role, which do the same work: what counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoleMemory {
    /// Its name.
    pub role: String,
    /// How many processes.
    pub processes: usize,
    /// Of one of them in the mean: what is in RAM at rest, after the warm-up.
    pub ram: Trend,
    /// The same of what is allocated and not freed.
    pub heap: Trend,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// What decided the faults.
    pub seed: u64,
    /// Seconds under load.
    pub load_s: f64,
    /// Of them those in which jobs could begin: work pauses for each look at the books as soon as the last ones have ended.
    pub at_work_s: f64,
    /// The first third.
    pub warm_up_s: f64,
    /// Jobs a second that were answered as fast as could be, by kind.
    pub capacity: BTreeMap<Kind, f64>,
    /// Jobs a second at work that were answered under load, by kind.
    pub per_second: BTreeMap<Kind, f64>,
    /// Jobs that were answered, by kind.
    pub answered: BTreeMap<Kind, u64>,
    /// Answers that said to come again, and answers that were lost.
    pub in_vain: [u64; 2],
    /// Payments and tickets.
    pub payments: [u64; 2],
    /// What was broken.
    pub faults: Vec<Fault>,
    /// Moments at which the books agreed and every stream was whole.
    pub agreed: u64,
    /// Of them moments for which a purchase had to be finished first.
    pub finished_first: u64,
    /// Streams that were begun.
    pub streams: u64,
    /// L1 blocks that came.
    pub blocks: u64,
    /// Live channels.
    pub channels: Delivered,
    /// Jobs that were charged once more, because their answer had been lost.
    pub charged_again: u64,
    /// What the books say in the end.
    pub sums: crate::faults::laws::Sums,
    /// Each process.
    pub memory: Vec<Memory>,
    /// Each role.
    pub roles: Vec<RoleMemory>,
    /// What must not be. Empty, or the run failed.
    pub violations: Vec<String>,
}

/// Runs it. `say` is told of each minute.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    let plan = Plan {
        programs: settings.programs.clone(),
        ledgers: settings.ledgers.clone(),
        channels: settings.channels,
    };
    let world = World::start(&plan).await;
    say("everything runs");
    let traffic = Traffic::new(world.gateways(), gateway_chaos::media(world.scratch()));
    let mut clients = traffic.start();
    let channels = Channels::start(world.channels()).await;
    let capacity = measure(settings, &traffic).await;
    for (kind, per_second) in &capacity {
        traffic.set_pace(*kind, per_second * OF_CAPACITY);
        say(&format!("{kind}: {per_second:.1} a second at most"));
    }
    let (before, at_work_before) = (traffic.answered(), traffic.at_work());
    let began = Instant::now();
    let watch = Watch::start(&world, settings.sample, began);
    let mut stage = Stage {
        world: &world,
        traffic: &traffic,
        watch: &watch,
        channels_are_bad: channels.wire_is_bad(),
        began,
        faults: Vec::new(),
        agreed: 0,
        finished_first: 0,
        blocks: 0,
        streams: 0,
        steer: 0,
    };
    let warm_up = settings.load / 3;
    let mut at_warm_up = None;
    let mut violations = Vec::new();
    let mut random = StdRng::seed_from_u64(settings.seed);
    let mut minute = 0;
    while began.elapsed() < settings.load {
        if let Err(why) = stage.round(settings, &mut random).await {
            violations.push(why);
            break;
        }
        if at_warm_up.is_none() && began.elapsed() >= warm_up {
            at_warm_up = Some(gauges(&world).await);
        }
        let minutes = began.elapsed().as_secs() / 60;
        if minutes > minute {
            minute = minutes;
            say(&format!("{minute} min: {}", stage.progress()));
        }
    }
    let load_s = began.elapsed().as_secs_f64();
    let at_work_s = (traffic.at_work() - at_work_before).as_secs_f64();
    let answered = traffic.answered();
    let per_second = answered.iter().map(|(kind, count)| {
        let more = count - before.get(kind).copied().unwrap_or(0);
        (*kind, more as f64 / at_work_s)
    });
    let per_second = per_second.collect();
    let at_end = gauges(&world).await;
    let memory = watch.end(warm_up, &at_warm_up.unwrap_or_default(), &at_end);
    let roles = roles(&memory, warm_up);
    let (delivered, wrong) = channels.end(settings.fault[1] + DEADLINE / 5).await;
    violations.extend(wrong);
    if delivered.missing > 0 {
        violations.push(format!("{} acknowledged segments of channels lost", delivered.missing));
    }
    // The last job of each may have found a bad wire.
    violations.extend(stage.agree().await.err());
    traffic.stop();
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client notes what it finds and does not panic");
    }
    violations.extend(traffic.wrong());
    let charged_again = laws::jobs(&world, &traffic, &mut violations).await;
    let sums = stage.in_the_end(&mut violations).await;
    Report {
        origin,
        seed: settings.seed,
        load_s,
        at_work_s,
        warm_up_s: warm_up.as_secs_f64(),
        capacity,
        per_second,
        answered: traffic.answered(),
        in_vain: traffic.in_vain(),
        payments: world.payments().await.unwrap_or_default(),
        agreed: stage.agreed,
        finished_first: stage.finished_first,
        streams: stage.streams,
        blocks: stage.blocks,
        faults: stage.faults,
        channels: delivered,
        charged_again,
        sums,
        memory,
        roles,
        violations,
    }
}

impl Report {
    /// Why a run that was long enough to say anything fails, whatever was not violated.
    pub fn findings(&self, longer: &str) -> Vec<String> {
        let mut found = findings(&self.roles, &self.memory, longer);
        for (kind, capacity) in &self.capacity {
            let (asked, done) = (capacity * OF_CAPACITY, self.per_second.get(kind).unwrap_or(&0.0));
            if *done < asked * LEAST_OF_ASKED {
                found.push(format!("{kind}: {asked:.1} a second were asked for, {done:.1} done"));
            }
        }
        let late = self.channels.late_in_calm;
        if late > 0 {
            found.push(format!("{late} segments of channels were too late on a good wire"));
        }
        found
    }
}

/// Roles that grow, or of which that is not known; and each process that grows without doubt, whatever its twin does.
///
/// Whether anything leaks is decided on the heap, where every byte is counted. RAM has besides what the allocator keeps
/// for later, which goes up and down by more than what is looked for: that is held against a role if it grows without
/// doubt.
fn findings(roles: &[RoleMemory], memory: &[Memory], longer: &str) -> Vec<String> {
    let of_roles = roles.iter().flat_map(|role| {
        let ram = role
            .ram
            .is_without_doubt()
            .then(|| role.ram.finding(&format!("role {}, in RAM", role.role), longer));
        let heap = role.heap.finding(&format!("role {}, on its heap", role.role), longer);
        ram.flatten().into_iter().chain(heap)
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

/// Processes of the same name but for its number, together.
fn roles(memory: &[Memory], warm_up: Duration) -> Vec<RoleMemory> {
    let mut all: BTreeMap<&str, Vec<&Memory>> = BTreeMap::new();
    for one in memory {
        let role = one.process.trim_end_matches(|end: char| end.is_ascii_digit()).trim_end();
        all.entry(role).or_default().push(one);
    }
    let of = |(role, processes): (&str, Vec<&Memory>)| {
        let trend = |of: fn(&Memory) -> Vec<Sample>| {
            let samples: Vec<Vec<Sample>> = processes.iter().map(|one| of(one)).collect();
            let samples: Vec<&[Sample]> = samples.iter().map(Vec::as_slice).collect();
            Trend::of(&memory::together(&samples), warm_up)
        };
        let ram = trend(|one| one.at_rest.clone());
        let heap = trend(|one| memory::without(&one.heap_at_rest, &one.stored_at_rest));
        RoleMemory { role: role.to_owned(), processes: processes.len(), ram, heap }
    };
    all.into_iter().map(of).collect()
}

/// Jobs a second of each kind, all kinds together, as fast as they are answered.
async fn measure(settings: &Settings, traffic: &Traffic) -> BTreeMap<Kind, f64> {
    // Connections, offers and pools first.
    until_answered(traffic, &BTreeMap::new(), 2).await.expect("work goes on at first");
    let (before, began) = (traffic.answered(), Instant::now());
    sleep(settings.measure).await;
    // One of each at least, however slow the machine is.
    until_answered(traffic, &before, 1).await.expect("work goes on");
    let (after, seconds) = (traffic.answered(), began.elapsed().as_secs_f64());
    let rate = |(kind, _)| (kind, (after[&kind] - before[&kind]) as f64 / seconds);
    CLIENTS.map(rate).into()
}

/// Waits until so many jobs of each kind were answered since.
async fn until_answered(
    traffic: &Traffic,
    since: &BTreeMap<Kind, u64>,
    more: u64,
) -> Result<(), String> {
    within(async || {
        let answered = traffic.answered();
        let count = |of: &BTreeMap<Kind, u64>, kind| of.get(&kind).copied().unwrap_or(0);
        let lacks = CLIENTS.iter().find(|(kind, _)| {
            let (now, then) = (count(&answered, *kind), count(since, *kind));
            now < then + more
        });
        lacks.map_or(Ok(()), |(kind, _)| Err(format!("{kind} do not go on")))
    })
    .await
}

/// Looks until it is `Ok`, or says what it last was.
async fn within(mut look: impl AsyncFnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let looked = tokio::time::timeout(DEADLINE, look()).await;
        match looked.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// The gauges of each process.
async fn gauges(world: &World) -> BTreeMap<String, BTreeMap<String, f64>> {
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
struct Watch {
    pids: Vec<(String, u32)>,
    began: Instant,
    samples: Arc<Mutex<Samples>>,
    at_rest: Mutex<[Samples; 3]>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(world: &World, every: Duration, began: Instant) -> Self {
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
    async fn rests(&self, world: &World) -> Result<(), String> {
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

    fn end(
        &self,
        warm_up: Duration,
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
                ram: Trend::of(&at_rest, warm_up),
                heap: Trend::of(&memory::without(&heap_at_rest, &stored_at_rest), warm_up),
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

/// Where it is played.
struct Stage<'a> {
    world: &'a World,
    traffic: &'a Traffic,
    watch: &'a Watch,
    channels_are_bad: Arc<AtomicBool>,
    began: Instant,
    faults: Vec<Fault>,
    agreed: u64,
    finished_first: u64,
    blocks: u64,
    streams: u64,
    /// The orchestrator that work is steered to next.
    steer: usize,
}

impl Stage<'_> {
    /// A fault, its end, and a moment in which everything has to agree.
    async fn round(&mut self, settings: &Settings, random: &mut StdRng) -> Result<(), String> {
        let wire = *world::wires().choose(random).expect("wires");
        let trouble: Trouble = *TROUBLES.choose(random).expect("troubles");
        let [least, most] = settings.fault;
        let lasts =
            Duration::from_secs_f64(random.random_range(least.as_secs_f64()..=most.as_secs_f64()));
        let at_s = self.began.elapsed().as_secs_f64();
        let say = |why: String| format!("{wire}, {trouble}, at {at_s:.0} s: {why}");
        self.channels_are_bad.store(wire == Wire::Channels, Ordering::SeqCst);
        self.world.break_wire(wire, trouble);
        sleep(lasts).await;
        self.world.mend_wire(wire);
        let mended = Instant::now();
        let ready = within(async || self.world.all_ready().await).await;
        self.faults.push(Fault {
            at_s,
            wire: wire.to_string(),
            trouble: trouble.to_string(),
            lasted_s: lasts.as_secs_f64(),
            ready_after_s: mended.elapsed().as_secs_f64(),
        });
        ready.map_err(say)?;
        sleep(settings.calm).await;
        self.agree().await.map_err(say)
    }

    /// Between two jobs: the books agree, streams are whole, time passes.
    async fn agree(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + AGREES_WITHIN;
        let mut steered = false;
        loop {
            let quiet = self.traffic.quiet().await;
            let agrees = self.money().await;
            match agrees {
                Ok(()) => {
                    self.streams_are_whole().await?;
                    self.world.chain.mine_blocks(BLOCKS).await;
                    sleep(SEEN_BY_ALL).await;
                    self.watch.rests(self.world).await?;
                    self.streams += self.traffic.streams().len() as u64;
                    self.traffic.new_streams();
                    drop(quiet);
                    self.blocks += BLOCKS;
                    self.agreed += 1;
                    self.finished_first += u64::from(steered);
                    return Ok(());
                }
                Err(why) if Instant::now() > deadline => return Err(why),
                // A purchase that was interrupted is finished with the next one there.
                Err(_) => {
                    drop(quiet);
                    self.steer().await?;
                    steered = true;
                }
            }
        }
    }

    async fn money(&self) -> Result<(), String> {
        crate::faults::laws::money(&self.world.sums().await?)
    }

    /// All work is done at one orchestrator for a while, each time at another one: the other one has nobody who does any.
    /// Payments arrive there all the same, so that this interrupts no purchase; and it begins and ends between two jobs.
    async fn steer(&mut self) -> Result<(), String> {
        self.steer = 1 - self.steer;
        let wires = [Pair::WorkerOrchestrator, Pair::OrchestratorRunner];
        let wires = wires.map(|pair| Wire::Roles(1 - self.steer, pair));
        let quiet = self.traffic.quiet().await;
        wires.iter().for_each(|wire| self.world.break_wire(*wire, Trouble::Reset));
        drop(quiet);
        let before = self.traffic.answered();
        let goes_on = until_answered(self.traffic, &before, STEERED).await;
        let quiet = self.traffic.quiet().await;
        wires.iter().for_each(|wire| self.world.mend_wire(*wire));
        drop(quiet);
        goes_on?;
        within(async || self.world.all_ready().await).await
    }

    /// A viewer finds the newest segments of each, each once, without a gap.
    async fn streams_are_whole(&self) -> Result<(), String> {
        for (stream, newest) in self.traffic.streams() {
            let playlist = self.traffic.playlist(&stream).await?;
            gateway_chaos::playlist_is_whole(&playlist, newest)
                .map_err(|why| format!("{stream}: {why}\n{playlist}"))?;
        }
        Ok(())
    }

    fn progress(&self) -> String {
        let answered: u64 = self.traffic.answered().values().sum();
        let memory: Vec<String> = {
            let samples = self.watch.samples.lock().unwrap();
            let last = |(name, samples): (&String, &Vec<Sample>)| {
                let (_, kib) = samples.last()?;
                Some(format!("{name} {:.1}", *kib as f64 / 1_024.0))
            };
            samples.iter().filter_map(last).collect()
        };
        format!(
            "{} faults, {answered} jobs, the books agreed {} times; MiB: {}",
            self.faults.len(),
            self.agreed,
            memory.join(", ")
        )
    }

    /// Every offer ends, every winner is paid, once, and the books agree for good.
    async fn in_the_end(&self, violations: &mut Vec<String>) -> crate::faults::laws::Sums {
        self.world.chain.mine_blocks(MORE_THAN_AN_OFFER).await;
        let paid = within(async || {
            let winners = self.world.winners().await?;
            let all_paid = winners.iter().all(|count| *count == winners[0]);
            if all_paid { Ok(()) } else { Err(format!("winners: {winners:?}")) }
        })
        .await;
        violations.extend(paid.err());
        let panics = self.world.logged("panicked").into_iter();
        violations.extend(panics.map(|line| format!("a panic: {line:.300}")));
        let sums = self.world.sums().await;
        violations.extend(sums.as_ref().err().cloned());
        let sums = sums.unwrap_or_default();
        violations.extend(crate::faults::laws::money(&sums).err());
        let [signed, credited, debited] = sums.map(|sum| sum.to_string());
        crate::faults::laws::Sums {
            signed_wei: signed,
            credited_wei: credited,
            debited_wei: debited,
            winners: self.world.winners().await.unwrap_or_default(),
        }
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

    fn memory(process: &str, [ram, heap]: [Vec<Sample>; 2]) -> Memory {
        Memory {
            process: process.to_owned(),
            ram: Trend::of(&ram, NO_TIME),
            heap: Trend::of(&heap, NO_TIME),
            at_rest: ram,
            heap_at_rest: heap,
            stored_at_rest: Vec::new(),
            samples: Vec::new(),
            gauges: BTreeMap::new(),
        }
    }

    fn found(all: &[Memory]) -> Vec<String> {
        findings(&roles(all, NO_TIME), all, "--minutes, now 1")
    }

    #[test]
    fn a_process_that_grows_is_named_when_its_twin_falls_as_much() {
        let both = |process, mib_per_h| memory(process, [rise(mib_per_h), rise(0.0)]);
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
        // 3 MiB an hour, under an allocator that swings by 20 MiB within minutes.
        let swings: Vec<Sample> = rise(3.0)
            .into_iter()
            .map(|(at, kib)| (at, kib + (10_000.0 + 10_000.0 * (at / 200.0).sin()) as u64))
            .collect();
        let leaks = found(&[memory("signer", [swings.clone(), rise(3.0)])]);
        let is_named = |what: &str| leaks.iter().any(|line| line.starts_with(what));
        assert!(is_named("role signer, on its heap GROWS"), "{leaks:?}");
        assert!(is_named("process signer, on its heap GROWS"), "{leaks:?}");
        assert_eq!(found(&[memory("signer", [swings, rise(0.5)])]), Vec::<String>::new());
    }

    #[test]
    fn a_run_that_was_too_short_for_a_verdict_says_how_to_get_one() {
        let short = || rise(0.0)[..3].to_vec();
        let named = found(&[memory("signer", [short(), short()])]);
        assert!(
            matches!(&named[..], [ram, heap] if ram.contains("--minutes, now 1")
                && heap.contains("--minutes, now 1")),
            "{named:?}"
        );
    }

    #[test]
    fn a_program_that_does_not_count_its_heap_is_found_out() {
        let named = found(&[memory("signer", [rise(0.0), Vec::new()])]);
        assert!(
            matches!(&named[..], [one] if one.starts_with("role signer, on its heap: UNKNOWN")),
            "{named:?}"
        );
    }
}

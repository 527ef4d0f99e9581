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
pub mod watch;
mod world;

use self::{
    channels::{Channels, Delivered},
    traffic::{CLIENTS, Traffic},
    watch::{Memory, RoleMemory, Watch, gauges},
    world::{Plan, Wire, World},
};
use crate::{
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
        Arc,
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
    let memory = watch.end(&at_warm_up.unwrap_or_default(), &at_end);
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
    let mut report = Report {
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
        roles: Vec::new(),
        violations,
    };
    report.judge();
    report
}

impl Report {
    /// Draws from the samples of memory what they say: the rules may be newer than the run.
    pub fn judge(&mut self) {
        let warm_up = Duration::from_secs_f64(self.warm_up_s);
        self.memory.iter_mut().for_each(|one| one.judge(warm_up));
        self.roles = watch::roles(&self.memory, warm_up);
    }

    /// Why a run that was long enough to say anything fails, whatever was not violated.
    pub fn findings(&self, longer: &str) -> Vec<String> {
        let mut found = watch::findings(&self.roles, &self.memory, longer);
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
                    self.world.beat().await;
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
            let last = |(name, kib)| format!("{name} {:.1}", kib as f64 / 1_024.0);
            self.watch.last().into_iter().map(last).collect()
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

    #[test]
    fn the_documented_figures_are_judged_by_todays_rules() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/data/soak.json");
        let text = std::fs::read_to_string(file).unwrap();
        let report: Report =
            serde_json::from_str(&text).expect("measure again: `cargo xtask soak`");
        let mut judged = report.clone();
        judged.judge();
        let said = |report: &Report| {
            let of = |role: &RoleMemory| {
                let verdicts = [role.ram, role.heap, role.stored].map(|trend| trend.verdict);
                (role.role.clone(), role.processes, verdicts)
            };
            report.roles.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(said(&judged), said(&report), "judge again: `penstock-loadtest soak-again`");
        assert_eq!(report.roles.len(), 6);
        assert!(report.load_s >= 30.0 * 60.0, "half an hour at least");
        assert_eq!(report.channels.missing, 0);
    }
}

//! What breaks things, one after the other. Each act waits for counted work before it, and ends when
//! the fleet is whole again; no job and no segment meets two of them.

use super::{Settings, Tally, ai};
use crate::fleet::{Fleet, Notice, Stores};
use penstock_testkit::{until, until_ok};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long Redis is paused.
pub const PAUSE: Duration = Duration::from_secs(2);
/// Requests that fail for want of the replicas before the primary dies: what was begun in that time is
/// what the promoted replica lacks.
const LOST_WORK: u64 = 4;

/// Something to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// `kill -9` of a gateway, wherever it is in its work.
    KillGateway,
    /// A gateway dies by itself at this point of its work.
    GatewayAt(&'static str),
    /// `kill -9` of the orchestrator that serves the stream.
    KillOrchestrator,
    /// That orchestrator stops in its tracks: connections stay open, and nothing comes.
    FreezeOrchestrator,
    /// A simulated orchestrator with AI jobs at work loses its listener and all connections at once.
    KillAiOrchestrator,
    /// Such a one neither reads nor writes any more, and its connections stand.
    SilenceAiOrchestrator,
    /// Redis does not answer for [`PAUSE`].
    PauseRedis,
    /// The primary dies, and a replica that lacks the last writes takes its place.
    FailOver,
    /// `kill -9` of a signer.
    KillSigner,
}

/// Where a gateway can die by itself: each between two things that it makes durable.
pub const FAILPOINTS: [&str; 5] = [
    "gateway.after_transcode",
    "gateway.after_publish",
    "gateway.after_result",
    "gateway.after_sign",
    "gateway.after_delivery",
];

impl Act {
    /// The long form: what a dead orchestrator costs is judged by many deaths. The stream's is left by a time
    /// limit when it is silent, which a busy machine would reach as well.
    pub fn all_long(stores: Stores, two_signers: bool) -> Vec<Self> {
        let mut acts = Self::all(stores, two_signers);
        acts.extend([Self::KillOrchestrator, Self::KillOrchestrator, Self::FreezeOrchestrator]);
        acts.push(Self::KillAiOrchestrator);
        acts
    }

    /// Whether somebody dies of it, and does not only fall silent for a while.
    pub fn is_deadly(self) -> bool {
        !matches!(self, Self::PauseRedis | Self::FreezeOrchestrator | Self::SilenceAiOrchestrator)
    }

    /// All that make sense: gateways die most, unless what they know dies with them.
    pub fn all(stores: Stores, two_signers: bool) -> Vec<Self> {
        let mut acts =
            vec![Self::KillOrchestrator, Self::KillAiOrchestrator, Self::SilenceAiOrchestrator];
        if stores == Stores::Redis {
            acts.extend([Self::KillGateway; 3]);
            acts.extend([Self::PauseRedis, Self::FailOver]);
            acts.extend(FAILPOINTS.map(Self::GatewayAt));
        }
        if two_signers {
            acts.push(Self::KillSigner);
        }
        acts
    }
}

const DEATH_OF_ITS_OWN: &str = "death of a gateway at ";

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillGateway => f.write_str("kill -9 of a gateway"),
            Self::GatewayAt(point) => write!(f, "{DEATH_OF_ITS_OWN}{point}"),
            Self::KillOrchestrator => f.write_str("kill -9 of the orchestrator in use"),
            Self::FreezeOrchestrator => f.write_str("silence of the orchestrator in use"),
            Self::KillAiOrchestrator => f.write_str("death of an orchestrator with AI jobs"),
            Self::SilenceAiOrchestrator => f.write_str("silence of an orchestrator with AI jobs"),
            Self::PauseRedis => f.write_str("Redis paused for 2 s"),
            Self::FailOver => f.write_str("Redis primary killed, replica without the last writes"),
            Self::KillSigner => f.write_str("kill -9 of a signer"),
        }
    }
}

/// How often each was done, and the viewer's longest wait around it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// By act.
    pub acts: BTreeMap<String, Effect>,
}

/// What one kind of act came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Times.
    pub times: u64,
    /// Of each: the longest wait of the viewer for a segment from the act until all was whole again.
    pub gaps_ms: Vec<u64>,
    /// Of each AI job that was tried in vain at the orchestrator that was gone: what that cost it, from then or from
    /// the job's beginning until its answer, without what the work takes by itself.
    #[serde(default)]
    pub costs_ms: Vec<u64>,
}

impl Broken {
    /// What was under way when each began may have been done again: a gateway that dies by itself was killed
    /// before, to be armed.
    pub fn disturbances(&self) -> u64 {
        let weight = |name: &str| if name.starts_with(DEATH_OF_ITS_OWN) { 2 } else { 1 };
        self.acts.iter().map(|(name, effect)| weight(name) * effect.times).sum()
    }

    /// Of each such act: the viewer's longest wait around it.
    pub fn gaps_ms(&self, act: Act) -> &[u64] {
        self.acts.get(&act.to_string()).map_or(&[], |effect| &effect.gaps_ms)
    }

    /// Of the AI jobs that met each such act: what it cost them.
    pub fn costs_ms(&self, act: Act) -> &[u64] {
        self.acts.get(&act.to_string()).map_or(&[], |effect| &effect.costs_ms)
    }

    /// Processes that died, and orchestrators that were cut off.
    pub fn deaths(&self) -> u64 {
        let deadly =
            |(name, _): &(&String, &Effect)| !name.contains("paused") && !name.contains("silence");
        self.acts.iter().filter(deadly).map(|(_, effect)| effect.times).sum()
    }
}

/// Breaks things.
pub struct Monkey {
    /// So far.
    pub broken: Broken,
    random: StdRng,
    acts: Vec<Act>,
    round: Vec<Act>,
    turn: usize,
    /// Simulated orchestrators that came back, by number: how many payments they had then.
    back: BTreeMap<usize, u32>,
    /// How Sentinel learns of a dead primary.
    notice: Notice,
}

impl Monkey {
    pub fn new(settings: &Settings) -> Self {
        Self {
            broken: Broken::default(),
            random: StdRng::seed_from_u64(settings.seed),
            acts: settings.acts.clone(),
            round: Vec::new(),
            turn: 0,
            back: BTreeMap::new(),
            // A busy machine may take seconds to answer, and is not to be measured.
            notice: if settings.long.is_some() { Notice::ByItself } else { Notice::Told },
        }
    }

    /// Each round has everything in it, in a new order: a short run misses nothing.
    pub fn next(&mut self) -> Act {
        if self.round.is_empty() {
            self.round = self.acts.clone();
            self.round.shuffle(&mut self.random);
        }
        self.round.pop().expect("a round has acts")
    }

    /// Whether some of a round is still to come.
    pub fn is_within_a_round(&self) -> bool {
        !self.round.is_empty()
    }

    /// Tickets that were signed for somebody who was gone are delivered with the next payment there.
    pub async fn everybody_is_paid_again(&self, fleet: &Fleet, tally: &Tally) {
        for (number, before) in &self.back {
            let simulated = &fleet.rig.orchestrators[*number];
            until("who came back is paid again", || async {
                simulated.seen.lock().unwrap().payments > *before || !tally.violations().is_empty()
            })
            .await;
        }
    }

    /// Does it, and waits until everything runs again and work went on for everybody.
    pub async fn perform(&mut self, act: Act, fleet: &mut Fleet, tally: &Arc<Tally>) {
        if matches!(act, Act::KillOrchestrator | Act::FreezeOrchestrator) {
            take_stream_over(fleet, tally).await;
        }
        let before = tally.gaps_ms.lock().unwrap().len();
        self.turn += 1;
        let mut costs_ms = Vec::new();
        match act {
            Act::KillGateway => {
                let victim = self.turn % fleet.gateways.len();
                fleet.gateways[victim].kill9();
                restart(fleet, victim, None).await;
            }
            Act::GatewayAt(point) => self.die_at(point, fleet).await,
            Act::KillOrchestrator => kill_orchestrator(fleet, tally).await,
            Act::FreezeOrchestrator => freeze_orchestrator(fleet, tally).await,
            Act::KillAiOrchestrator | Act::SilenceAiOrchestrator => {
                let gone = ai::take_away(act, fleet, tally).await;
                self.back.insert(gone.number, gone.payments);
                costs_ms = gone.costs_ms;
            }
            Act::PauseRedis => fleet.redis.as_ref().expect("a Redis").pause(PAUSE).await,
            Act::FailOver => fail_over(fleet, tally, self.notice).await,
            Act::KillSigner => {
                let victim = self.turn % fleet.rig.replicas.len();
                fleet.rig.replicas[victim].kill9();
                fleet.rig.replicas[victim].restart().await;
                fleet.rig.ready(victim).await;
                let name = format!("signer-{}", victim + 1);
                fleet.balancer.knows(&fleet.http, &name).await;
            }
        }
        for number in 0..fleet.gateways.len() {
            fleet.gateway_serves(number).await;
        }
        if let Some(redis) = &fleet.redis {
            redis.whole().await;
        }
        progress(tally, 1, 1, &format!("after {act}")).await;
        let longest = tally.gaps_ms.lock().unwrap()[before..].iter().copied().max().unwrap_or(0);
        let effect = self.broken.acts.entry(act.to_string()).or_default();
        effect.times += 1;
        effect.gaps_ms.push(longest);
        effect.costs_ms.extend(costs_ms);
    }

    /// A gateway is armed, gets work, dies of it, and comes back.
    async fn die_at(&mut self, point: &'static str, fleet: &mut Fleet) {
        let victim = self.turn % fleet.gateways.len();
        let log = fleet.rig.scratch().join(format!("failpoint-{victim}"));
        let _ = fs::remove_file(&log);
        fleet.gateways[victim].kill9();
        restart(fleet, victim, Some((point, &log.display().to_string()))).await;
        fleet.gateways[victim].ended().await;
        let hits = fs::read_to_string(&log).unwrap_or_default();
        assert!(hits.contains(point), "gateway {victim} ended elsewhere than at {point}: {hits}");
        restart(fleet, victim, None).await;
    }
}

async fn restart(fleet: &mut Fleet, number: usize, failpoint: Option<(&str, &str)>) {
    let gateway = &mut fleet.gateways[number];
    let env = gateway.env_mut();
    env.remove("PENSTOCK_FAILPOINTS");
    if let Some((point, log)) = failpoint {
        env.insert("PENSTOCK_FAILPOINTS".to_owned(), format!("{point}=abort@1"));
        env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), log.to_owned());
    }
    gateway.restart().await;
    if failpoint.is_none() {
        fleet.gateway_serves(number).await;
    }
}

/// The real orchestrator, whose process can die, has the stream afterwards: the simulated ones have no
/// room until it does.
async fn take_stream_over(fleet: &Fleet, tally: &Tally) {
    let transcoder = fleet.transcoder.as_ref().expect("a real orchestrator");
    let full = |full: bool| {
        for simulated in &fleet.rig.orchestrators {
            simulated.full.store(full, Ordering::SeqCst);
        }
    };
    let (_, before) = transcoder.totals().await;
    full(true);
    until("the real orchestrator has the stream", || async {
        transcoder.totals().await.1 > before || !tally.violations().is_empty()
    })
    .await;
    full(false);
    progress(tally, 2, 0, "at the real orchestrator").await;
}

/// The stream has to go on elsewhere; the dead one comes back.
async fn kill_orchestrator(fleet: &mut Fleet, tally: &Tally) {
    let transcoder = fleet.transcoder.as_mut().expect("a real orchestrator");
    transcoder.orchestrator.kill9();
    progress(tally, 3, 1, "while an orchestrator is dead").await;
    let transcoder = fleet.transcoder.as_mut().expect("a real orchestrator");
    transcoder.orchestrator.restart().await;
    transcoder.ready().await;
}

/// The stream has to go on elsewhere; the silent one goes on as if nothing had been.
async fn freeze_orchestrator(fleet: &mut Fleet, tally: &Tally) {
    let transcoder = fleet.transcoder.as_ref().expect("a real orchestrator");
    transcoder.orchestrator.signal("STOP");
    progress(tally, 3, 1, "while an orchestrator is silent").await;
    transcoder.orchestrator.signal("CONT");
    transcoder.ready().await;
}

async fn fail_over(fleet: &mut Fleet, tally: &Tally, notice: Notice) {
    let redis = fleet.redis.as_mut().expect("a Redis");
    let refused = || tally.counted("segment refusals (503)") + tally.counted("AI refusals (503)");
    redis.cut_replicas_off();
    let before = refused();
    until("work fails for want of the replicas", || async { refused() >= before + LOST_WORK })
        .await;
    redis.fail_over(notice).await;
}

/// Waits for so many more segments, and so many more jobs of every client.
pub async fn progress(tally: &Tally, segments: u64, jobs: u64, why: &str) {
    let (segments, before) = (tally.segments() + segments, tally.jobs());
    until_ok(&format!("work goes on {why}"), || async {
        let now = tally.jobs();
        // One was under way before.
        let behind = now.iter().zip(&before).filter(|(now, before)| **now < **before + jobs + 1);
        let (behind, shown) = (behind.count(), tally.segments());
        if behind == 0 && shown >= segments || !tally.violations().is_empty() {
            return Ok(());
        }
        Err(format!("{shown} segments of {segments}, {behind} clients wait"))
    })
    .await;
}

//! Every wire between two roles, and before Redis, PostgreSQL and the chain, is made bad in every way while work goes on:
//! a matrix of cells, each with what it promises. What is promised is data ([`cell`]), whether it was kept is decided by
//! pure functions ([`promise`], [`laws`]).
//!
//! The seed decides the order of the cells. A cell ends when everything that it promises was seen; then its wire is
//! mended, everybody has to be ready and at work again by himself, and the books have to agree to the wei.

pub mod cell;
pub mod laws;
pub mod promise;
mod traffic;
pub(crate) mod world;

use self::{
    cell::{Cell, KINDS, Kind, Pair, Role},
    promise::{Seen, Sign, missing, words},
    traffic::Traffic,
    world::{Plan, World},
};
use crate::{
    gateway_chaos::{self, ms},
    machine::Origin,
};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::sync::RwLockWriteGuard;

/// Until what was promised is seen, or everybody is at work again: beyond what a slow machine needs, so that passing it
/// is a failure and no result.
const DEADLINE: Duration = Duration::from_secs(150);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long a client waits for an answer; where its own wire is bad, it has to find that out by itself.
const PATIENCE: Duration = Duration::from_secs(100);
const PATIENCE_WITH_A_BAD_WIRE: Duration = Duration::from_secs(5);
/// Of each kind, jobs that begin after a fault and are answered: then work goes on.
const GOES_ON: u64 = 2;
/// Longer than any offer lives, L1 blocks.
const MORE_THAN_AN_OFFER: u64 = 45;
/// Five times what passes until everybody has asked the chain again (`--chain-poll-ms=200`).
const SEEN_BY_ALL: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs.
    pub programs: PathBuf,
    /// PostgreSQL databases of the run's own: the signer's, the orchestrator's, the redeemer's.
    pub ledgers: [String; 3],
    /// Which cells.
    pub cells: Vec<Cell>,
    /// Decides their order.
    pub seed: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// What decided the order.
    pub seed: u64,
    /// Seconds under load.
    pub load_s: u64,
    /// Cells that the matrix has, of which a run may try some.
    pub matrix: usize,
    /// Each cell, in the order of the matrix.
    pub cells: Vec<Outcome>,
    /// Requests that were answered, by kind.
    pub answered: BTreeMap<Kind, u64>,
    /// What the books say in the end.
    pub sums: laws::Sums,
    /// What must not be. Empty, or the run failed.
    pub violations: Vec<String>,
}

/// What became of a cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub cell: Cell,
    /// The wire in words.
    pub pair: String,
    /// The fault in words.
    pub trouble: String,
    /// The promise in words.
    pub promise: String,
    /// What of it was not seen, or what was seen that must not be. Empty: it was kept.
    pub missing: Vec<String>,
    /// Why, where it is known.
    pub cause: Option<String>,
    /// Until everything that was promised was seen, milliseconds.
    pub seen_after_ms: u64,
    /// Until everybody was ready and at work after the fault, milliseconds.
    pub well_after_ms: u64,
    /// What was seen while it lasted.
    pub seen: Seen,
    /// Jobs that were charged once more, because their answer had been lost.
    pub charged_again: u64,
}

/// Runs it. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    let plan = Plan { programs: settings.programs.clone(), ledgers: settings.ledgers.clone() };
    let world = World::start(&plan).await;
    say("everything runs");
    let traffic = Traffic::new(world.url(), gateway_chaos::media(world.scratch()));
    traffic.set_patience(PATIENCE);
    let mut clients = traffic.start();
    let began = Instant::now();
    let mut stage = Stage { world: &world, traffic: &traffic, charged_again: 0 };
    let (mut outcomes, mut violations) = (Vec::new(), Vec::new());
    violations.extend(stage.works_since(began).await.err().map(|why| format!("at first: {why}")));
    let mut cells = settings.cells.clone();
    cells.shuffle(&mut StdRng::seed_from_u64(settings.seed));
    for (number, cell) in cells.iter().enumerate() {
        say(&format!("{} of {}: {cell}", number + 1, cells.len()));
        let (outcome, is_well) = stage.play(*cell).await;
        say(&format!(
            "    seen after {} ms, well after {} ms {}",
            outcome.seen_after_ms,
            outcome.well_after_ms,
            outcome.missing.join("; ")
        ));
        violations.extend(outcome.violation());
        outcomes.push(outcome);
        // Whoever is not well afterwards would spoil the next ones.
        if !is_well {
            violations.push(format!("{} cells were not tried", cells.len() - number - 1));
            break;
        }
    }
    traffic.stop();
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client notes what it finds and does not panic");
    }
    let load_s = began.elapsed().as_secs();
    let sums = stage.in_the_end(&mut violations).await;
    outcomes.sort_by_key(|outcome| outcome.cell);
    Report {
        origin,
        seed: settings.seed,
        load_s,
        matrix: cell::all().len(),
        cells: outcomes,
        answered: traffic.answered(),
        sums,
        violations,
    }
}

impl Outcome {
    /// A promise that was broken, or is said to be and was not.
    fn violation(&self) -> Option<String> {
        match (&self.cause, self.missing.is_empty()) {
            (None, false) => Some(format!("{}: {}", self.cell, self.missing.join("; "))),
            (Some(_), true) => {
                Some(format!("{} is said not to keep its promise, and does", self.cell))
            }
            _ => None,
        }
    }
}

/// Where cells are played.
struct Stage<'a> {
    world: &'a World,
    traffic: &'a Traffic,
    charged_again: u64,
}

/// What was counted when the wire broke.
struct Before {
    elsewhere: u64,
    met: u64,
    redeemed: u64,
}

/// Looks until it is `Ok`, or says what it last was.
async fn within(mut look: impl AsyncFnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let looked = tokio::time::timeout(DEADLINE, look()).await;
        match looked.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

impl Stage<'_> {
    /// What became of it, and whether everybody is well again.
    async fn play(&mut self, cell: Cell) -> (Outcome, bool) {
        let promise = cell.promise();
        let mut missed = Vec::new();
        // The stream is where the fault is, and may go elsewhere from then on.
        self.keep_the_stream_here(true);
        if let Err(why) = self.stream_goes_on_here().await {
            missed.push(format!("before the fault: {why}"));
        }
        if cell.pair == Pair::ApplicationGateway {
            self.traffic.set_patience(PATIENCE_WITH_A_BAD_WIRE);
        }
        let mut due = 0;
        if cell.redemption_is_under_way() {
            match self.a_redemption_begins(cell).await {
                Ok(winners) => due = winners,
                Err(why) => missed.push(format!("before the fault: {why}")),
            }
        }
        let broke = Instant::now();
        let before = Before {
            elsewhere: self.world.elsewhere(),
            met: self.world.met(cell.pair),
            redeemed: self.world.at_the_redeemer().await.map_or(0, |[_, redeemed]| redeemed),
        };
        self.world.break_wire(cell);
        if cell.redemption_is_under_way() && self.world.redeeming().await == Ok(0) {
            missed.push("no redemption was on its way when the wire broke".to_owned());
        }
        self.keep_the_stream_here(false);

        let mut seen = Seen::default();
        let kept = within(async || {
            self.look(&mut seen, cell, broke, &before).await;
            let missing = missing(&promise, &seen);
            if missing.is_empty() { Ok(()) } else { Err(words(&missing)) }
        })
        .await;
        let seen_after_ms = ms(broke.elapsed());
        missed.extend(kept.err());

        let mended = Instant::now();
        self.world.mend_wire(cell);
        self.traffic.set_patience(PATIENCE);
        self.keep_the_stream_here(true);
        let well = self.works_since(mended).await;
        let (well_after_ms, is_well) = (ms(mended.elapsed()), well.is_ok());
        missed.extend(well.err().map(|why| format!("afterwards: {why}")));
        // What was due when it broke is redeemed, and known to be.
        let redeemed = within(async || match self.world.at_the_redeemer().await? {
            [_, redeemed] if redeemed >= due => Ok(()),
            [_, redeemed] => Err(format!("{due} winners were due, {redeemed} are redeemed")),
        });
        missed.extend(redeemed.await.err().map(|why| format!("afterwards: {why}")));
        let again = self.books_agree(&mut missed).await;
        if again > 0 && !cell.may_repeat_work() {
            missed.push(format!("{again} jobs were charged once more"));
        }
        missed.extend(self.traffic.take_wrong());
        let outcome = Outcome {
            cell,
            pair: cell.pair.to_string(),
            trouble: cell.trouble.to_string(),
            promise: words(&promise),
            missing: missed,
            cause: cell.known_cause().map(str::to_owned),
            seen_after_ms,
            well_after_ms,
            seen,
            charged_again: again,
        };
        (outcome, is_well)
    }

    /// The other orchestrator has no room for segments, or has.
    fn keep_the_stream_here(&self, here: bool) {
        self.world.other.full.store(here, Ordering::SeqCst);
    }

    /// Winners wait at the redeemer, get due, and the first of them is on its way to the chain: how many are redeemed
    /// when all of those are.
    async fn a_redemption_begins(&self, cell: Cell) -> Result<u64, String> {
        let mut due = 0;
        within(async || match self.world.at_the_redeemer().await? {
            [winners, redeemed] if winners > redeemed => {
                due = winners;
                Ok(())
            }
            _ => Err("nothing was won".to_owned()),
        })
        .await?;
        // A payment under way for an offer that ends would be nobody's.
        let quiet = self.agreed().await?;
        self.world.slow_down(cell);
        self.world.chain.mine_blocks(MORE_THAN_AN_OFFER).await;
        // Everybody asks the chain but the one that is simulated.
        self.world.chain.show(&self.world.other).await;
        tokio::time::sleep(SEEN_BY_ALL).await;
        drop(quiet);
        within(async || match self.world.redeeming().await? {
            0 => Err("no redemption begins".to_owned()),
            _ => Ok(()),
        })
        .await?;
        Ok(due)
    }

    async fn stream_goes_on_here(&self) -> Result<(), String> {
        let from = Instant::now();
        within(async || {
            let seen = self.traffic.seen(from);
            let goes_on = Sign::GoesOn(Kind::Segments).is_in(&seen);
            if goes_on { Ok(()) } else { Err("segments do not go on".to_owned()) }
        })
        .await
    }

    /// Adds what can be seen now.
    async fn look(&self, seen: &mut Seen, cell: Cell, broke: Instant, before: &Before) {
        let told = self.traffic.seen(broke);
        (seen.answered, seen.refused, seen.lost) = (told.answered, told.refused, told.lost);
        seen.elsewhere = self.world.elsewhere() - before.elsewhere;
        seen.met = self.world.met(cell.pair) - before.met;
        for sign in cell.promise() {
            match sign {
                Sign::Red(role) => {
                    let said = self.world.readiness(role).await;
                    if said.is_ok_and(|(status, _)| status == 503) {
                        seen.red.insert(role);
                    }
                }
                Sign::Degraded => {
                    let said = self.world.readiness(Role::Orchestrator).await;
                    seen.degraded |= said
                        .is_ok_and(|(status, words)| status == 200 && words.contains("degraded"));
                }
                Sign::Redeemed => {
                    if let Ok([_, redeemed]) = self.world.at_the_redeemer().await {
                        seen.redeemed = redeemed.saturating_sub(before.redeemed);
                    }
                }
                _ => {}
            }
        }
    }

    /// Everybody is ready, and each kind of work is answered that is asked for from then on.
    async fn works_since(&self, from: Instant) -> Result<(), String> {
        within(async || {
            self.world.all_ready().await?;
            let seen = self.traffic.seen(from);
            let lacks = KINDS.iter().find(|kind| seen.answered.get(kind).copied() < Some(GOES_ON));
            lacks.map_or(Ok(()), |kind| Err(format!("{kind} do not go on")))
        })
        .await
    }

    /// Between two jobs, when the books agree: none begins while this is held. A purchase that was interrupted is
    /// finished with the next one there, so that it may take further jobs, here and elsewhere.
    async fn agreed(&self) -> Result<RwLockWriteGuard<'_, ()>, String> {
        let (mut here, mut held) = (true, None);
        within(async || {
            let quiet = self.traffic.quiet().await;
            let agree = laws::money(&self.world.sums().await?);
            if agree.is_ok() {
                held = Some(quiet);
                return agree;
            }
            drop(quiet);
            here = !here;
            self.keep_the_stream_here(here);
            self.works_since(Instant::now()).await?;
            agree
        })
        .await?;
        held.ok_or_else(|| "jobs do not end".to_owned())
    }

    /// Whether they do; how many jobs were charged once more since they were looked at last.
    async fn books_agree(&mut self, missed: &mut Vec<String>) -> u64 {
        let quiet = match self.agreed().await {
            Ok(quiet) => quiet,
            Err(why) => {
                missed.push(why);
                self.traffic.quiet().await
            }
        };
        let mut found = Vec::new();
        let charged_again = laws::jobs(self.world, self.traffic, &mut found).await;
        drop(quiet);
        missed.append(&mut found);
        let since = charged_again.saturating_sub(self.charged_again);
        self.charged_again = charged_again;
        since
    }

    /// Every offer ends, every winner is paid, once.
    async fn in_the_end(&self, violations: &mut Vec<String>) -> laws::Sums {
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
        let [signed, credited, debited] = sums.unwrap_or_default().map(|sum| sum.to_string());
        laws::Sums {
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

    /// A cell that is new is measured before it is documented.
    #[test]
    fn the_documented_figures_are_of_the_matrix_of_now() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/data/faults.json");
        let text = std::fs::read_to_string(file).unwrap();
        let report: Report = serde_json::from_str(&text).expect("figures that can be read");
        let cells: Vec<Cell> = report.cells.iter().map(|outcome| outcome.cell).collect();
        assert_eq!(cells, cell::all(), "measure again: `cargo xtask chaos faults`");
        assert_eq!(report.matrix, cells.len());
        let broken =
            report.cells.iter().filter(|one| !one.missing.is_empty() && one.cause.is_none());
        let broken: Vec<String> =
            broken.map(|one| format!("{}: {}", one.cell, one.missing.join("; "))).collect();
        assert_eq!(broken, Vec::<String>::new(), "mend it, or say its cause");
        assert_eq!(report.violations, Vec::<String>::new());
    }
}

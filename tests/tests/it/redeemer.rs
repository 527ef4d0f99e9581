//! A redeemer of its own between an orchestrator and the chain: whatever dies, and wherever, each winner is
//! on one disk at least at every moment, and the chain pays it once.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use penstock::dev::Role;
use penstock_testkit::{Process, figure, postgres, until, until_some};
use serde_json::Value;

use crate::{
    books::Books,
    failpoints::assert_hit,
    kills::{Application, work_goes_on},
    network::{Needs, Network, SignerOn},
    payer::{Payer, Restart},
    video::small_segments,
};

/// Pixels that cost about three tickets, of which one in four wins.
const UNITS: u64 = 100_000_000;

/// A network whose orchestrator hands its winners over.
struct Redeemed {
    network: Network,
    redeemer: Process,
}

impl Redeemed {
    async fn start(needs: Needs, flags: &[String]) -> Self {
        Self::start_with(needs, flags, &[]).await
    }

    /// The same with flags of the orchestrator's own.
    async fn start_with(needs: Needs, flags: &[String], orchestrator: &[String]) -> Self {
        let mut network = Network::start_with(needs, SignerOn::default(), orchestrator).await;
        let redeemer = network.a_redeemer(flags).await;
        network.hand_over_to(&format!("https://{}", redeemer.addr("service"))).await;
        Self { network, redeemer }
    }

    /// Hashes of the winners in the orchestrator's books, and how many of them are still to be handed over.
    async fn at_the_orchestrator(&self) -> (BTreeSet<String>, usize) {
        let admin = self.network.admin(Role::Orchestrator);
        let winners = self.network.get(&format!("{admin}/v1/winners?limit=10000")).await;
        let waiting = of_status(&winners, "queued").len() + of_status(&winners, "redeeming").len();
        (hashes(&winners), waiting)
    }

    /// The winners in the redeemer's books.
    async fn at_the_redeemer(&self) -> Value {
        let url = format!("http://{}/v1/winners?limit=10000", self.redeemer.addr("admin"));
        self.network.get(&url).await
    }

    /// Waits until all that was won is in the redeemer's books: each, and once.
    async fn all_are_handed_over(&self) -> BTreeSet<String> {
        let won = until_some("all winners are handed over", || async {
            let (won, waiting) = self.at_the_orchestrator().await;
            (waiting == 0).then_some(won)
        })
        .await;
        let kept = self.at_the_redeemer().await;
        assert_eq!(hashes(&kept), won);
        assert_eq!(kept.as_array().map(Vec::len), Some(won.len()), "one is there twice");
        won
    }

    /// When all offers have ended: the chain pays each winner once.
    async fn all_are_paid(&self) {
        let won = self.all_are_handed_over().await;
        until("the redeemer has redeemed all", || async {
            of_status(&self.at_the_redeemer().await, "redeemed") == won
        })
        .await;
        assert_eq!(self.redemptions().await, won.len() as u64);
        for winner in self.at_the_redeemer().await.as_array().unwrap() {
            let hash = winner["ticket_hash"].as_str().unwrap();
            let devnet = self.network.url(Role::Devnet);
            let ticket = self.network.get(&format!("{devnet}/v1/tickets/{hash}")).await;
            assert_eq!(ticket["redemption"]["tx_hash"], winner["tx_hash"], "{ticket}");
        }
    }

    async fn redemptions(&self) -> u64 {
        let status = format!("{}/v1/status", self.network.url(Role::Devnet));
        self.network.get(&status).await["redemptions"].as_u64().unwrap()
    }

    fn process(&mut self, whose: Whose) -> &mut Process {
        match whose {
            Whose::Orchestrator => self.network.process(Role::Orchestrator),
            Whose::Redeemer => &mut self.redeemer,
        }
    }

    /// Starts one over that dies at a failpoint, and pays until it has.
    async fn dies_at(&mut self, payer: &mut Payer, whose: Whose, failpoint: &str) {
        let log = self.arm(whose, failpoint).await;
        for _ in 0..100 {
            payer.pay(&mut self.network, UNITS, Restart::Dead(&[Role::Orchestrator])).await;
            if Books::read(&self.network).await.winners > 0 && log.exists() {
                break;
            }
        }
        // The last one that won may be on its way.
        until(&format!("{failpoint} is reached"), || async { log.exists() }).await;
        assert_hit(&log, failpoint);
        match whose {
            Whose::Orchestrator => self.network.revive(Role::Orchestrator).await,
            Whose::Redeemer => {
                assert!(!self.redeemer.ended().await.success());
                self.redeemer.restart().await;
            }
        }
    }

    async fn arm(&mut self, whose: Whose, failpoint: &str) -> PathBuf {
        let log = self.network.scratch().join(format!("{failpoint}.hits"));
        let _ = fs::remove_file(&log);
        let process = self.process(whose);
        process.kill9();
        let env = process.env_mut();
        env.insert("PENSTOCK_FAILPOINTS".to_owned(), format!("{failpoint}=abort@1"));
        env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), log.to_string_lossy().into_owned());
        process.restart().await;
        process.env_mut().clear();
        log
    }
}

#[derive(Clone, Copy)]
enum Whose {
    Orchestrator,
    Redeemer,
}

fn hashes(winners: &Value) -> BTreeSet<String> {
    let hash = |winner: &Value| winner["ticket_hash"].as_str().unwrap().to_owned();
    winners.as_array().unwrap().iter().map(hash).collect()
}

fn of_status(winners: &Value, status: &str) -> BTreeSet<String> {
    let of = |winner: &&Value| winner["status"] == status;
    let found = winners.as_array().unwrap().iter().filter(of);
    found.map(|winner| winner["ticket_hash"].as_str().unwrap().to_owned()).collect()
}

async fn whatever_dies(flags: &[String]) {
    let mut all = Redeemed::start(Needs::PAYMENTS, flags).await;
    let mut payer = Payer::new("redeemer");
    for (whose, failpoint) in [
        (Whose::Orchestrator, "orchestrator.before_hand_over"),
        (Whose::Orchestrator, "orchestrator.after_hand_over"),
        (Whose::Redeemer, "redeemer.before_store"),
        (Whose::Redeemer, "redeemer.after_store"),
    ] {
        all.dies_at(&mut payer, whose, failpoint).await;
        all.all_are_handed_over().await;
    }
    let mut redeemed = 0;
    for failpoint in ["orchestrator.before_redeem", "orchestrator.after_redeem"] {
        for _ in 0..100 {
            if all.at_the_orchestrator().await.0.len() as u64 > redeemed {
                break;
            }
            payer.pay(&mut all.network, UNITS, Restart::Dead(&[])).await;
        }
        all.all_are_handed_over().await;
        // Its offers still live: it dies when they have ended.
        let log = all.arm(Whose::Redeemer, failpoint).await;
        all.network.mine(60).await;
        assert!(!all.redeemer.ended().await.success());
        assert_hit(&log, failpoint);
        all.redeemer.restart().await;
        all.all_are_paid().await;
        redeemed = all.redemptions().await;
        payer.refresh(&all.network).await;
    }
    let books = Books::read(&all.network).await;
    books.assert_settled();
    assert!(books.winners >= 2 && books.winners == redeemed, "{books:?}");
    figure("a separate redeemer: winners, redeemed through six deaths", redeemed);
}

#[tokio::test]
async fn whatever_dies_each_winner_is_redeemed_once() {
    whatever_dies(&[]).await;
}

#[tokio::test]
async fn the_same_with_the_redeemers_books_in_postgresql() {
    let ledger = postgres::database().await;
    // A redeemer that died is followed when its lease is over.
    whatever_dies(&[format!("--ledger={}", ledger.url()), "--lease-ms=1000".to_owned()]).await;
}

/// Winners of real work, with both killed in the middle of it.
#[tokio::test]
async fn winners_of_jobs_are_redeemed_by_the_redeemer() {
    // So dear that a segment costs a ticket or so.
    let price = ["--price-per-unit=10000".to_owned()];
    let mut all = Redeemed::start_with(Needs::VIDEO, &[], &price).await;
    all.network.work().await;
    let segments = small_segments(all.network.scratch());
    let stop = Arc::new(AtomicBool::new(false));
    let name = "redeemed".to_owned();
    let streams = [Application::start(&all.network, name, segments, Arc::clone(&stop))];
    work_goes_on(&streams, "at first").await;
    all.process(Whose::Redeemer).kill9();
    // One ticket in four wins: with work going on, one does.
    until("a ticket has won", || async { Books::read(&all.network).await.winners > 0 }).await;
    all.process(Whose::Redeemer).restart().await;
    work_goes_on(&streams, "with the redeemer").await;
    all.process(Whose::Orchestrator).kill9();
    all.process(Whose::Orchestrator).restart().await;
    work_goes_on(&streams, "after a kill").await;
    stop.store(true, Ordering::SeqCst);
    for stream in streams {
        stream.task.await.unwrap();
    }
    all.all_are_handed_over().await;
    all.network.mine(60).await;
    all.all_are_paid().await;
    let paid = all.redemptions().await;
    assert!(paid > 0);
    figure("a separate redeemer: winners of jobs, redeemed", paid);
}

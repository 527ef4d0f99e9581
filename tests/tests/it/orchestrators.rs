//! Three processes on one PostgreSQL ledger are one orchestrator: when one is killed in the middle of
//! paid sessions, they go on at the others, no good ticket is refused, none counts twice, and the books
//! agree to the wei.

use std::cell::Cell;

use penstock::dev::Role;
use penstock_testkit::{Process, figure, postgres, until, until_ok};

use crate::{
    books::Books,
    failpoints::assert_hit,
    network::{Needs, Network, SignerOn},
    payer::{Attempt, Payer, Sent, Signed},
};

/// Pixels that cost about three tickets.
const UNITS: u64 = 100_000_000;
const SESSIONS: usize = 4;
/// Plain kills, of the first and of the second process in turn.
const KILLS: usize = 4;

/// A network whose orchestrator is three processes. The network's own is the third, which lives.
struct Trio {
    network: Network,
    urls: [String; 3],
    // After the network: its processes end first.
    _ledger: postgres::Database,
}

impl Trio {
    async fn start(needs: Needs) -> (Self, [Process; 2]) {
        let ledger = postgres::database().await;
        let flags = [format!("--ledger={}", ledger.url())];
        let network = Network::start_with(needs, SignerOn::default(), &flags).await;
        let a = network.another_orchestrator("orchestrator-a").await;
        let b = network.another_orchestrator("orchestrator-b").await;
        let service = |process: &Process| format!("https://{}", process.addr("service"));
        let urls = [service(&a), service(&b), network.url(Role::Orchestrator)];
        let trio = Self { network, urls, _ledger: ledger };
        for process in [&a, &b] {
            trio.ready(process).await;
        }
        (trio, [a, b])
    }

    async fn ready(&self, process: &Process) {
        until_ok("an orchestrator is ready", || self.network.readiness_of(process)).await;
    }
}

/// What has happened so far.
#[derive(Default)]
struct Progress {
    /// Payments that were answered, by session.
    sessions: [Cell<u32>; SESSIONS],
    /// The same, by process.
    answered: [Cell<u32>; 3],
    /// Payments that were not, by process.
    unanswered: [Cell<u32>; 3],
    enough: Cell<bool>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

/// Each of these grows.
async fn grow(what: &str, cells: &[&Cell<u32>]) {
    let before: Vec<u32> = cells.iter().map(|cell| cell.get()).collect();
    until(what, || async { cells.iter().zip(&before).all(|(cell, n)| cell.get() > *n) }).await;
}

impl Progress {
    /// Every session gets another payment answered, and so does each of these processes.
    async fn goes_on(&self, when: &str, processes: &[usize]) {
        let answered = processes.iter().map(|index| &self.answered[*index]);
        let cells: Vec<&Cell<u32>> = self.sessions.iter().chain(answered).collect();
        grow(&format!("payments are answered {when}"), &cells).await;
    }
}

/// A paid session.
struct Session {
    index: usize,
    payer: Payer,
    paid: Vec<Signed>,
}

impl Session {
    /// Begins with an offer of the process at `url`.
    async fn begin(trio: &Trio, index: usize, url: &str) -> Self {
        let mut payer = Payer::new(&format!("session-{index}"));
        assert_eq!(payer.refresh_at(&trio.network, url).await, Attempt::Done(()));
        Self { index, payer, paid: Vec::new() }
    }

    /// Tickets for the next payment. When the offer is used up, whoever is there makes a new one.
    async fn buy(&mut self, trio: &Trio) -> Signed {
        let mut asked = self.index;
        loop {
            match self.payer.buy(&trio.network, UNITS).await {
                Attempt::Done(signed) => return signed,
                Attempt::Again => panic!("the signer does not answer"),
                Attempt::Refresh => {
                    let url = &trio.urls[asked % trio.urls.len()];
                    asked += 1;
                    // One of them lives, so that this ends.
                    let _ = self.payer.refresh_at(&trio.network, url).await;
                }
            }
        }
    }

    /// Pays at the processes in turn. What one does not answer goes to the next, in the same words.
    async fn pay_on(&mut self, trio: &Trio, progress: &Progress) {
        let mut turn = self.index;
        while !progress.enough.get() {
            let signed = self.buy(trio).await;
            let mut repeated = false;
            loop {
                let at = turn % trio.urls.len();
                turn += 1;
                match self.payer.deliver_at(&trio.urls[at], &signed, repeated).await {
                    Attempt::Done(()) => {
                        count(&progress.answered[at]);
                        break;
                    }
                    // One of them lives, so that this ends.
                    _ => count(&progress.unanswered[at]),
                }
                repeated = true;
            }
            count(&progress.sessions[self.index]);
            self.paid.push(signed);
        }
    }
}

/// `kill -9`; the others take its payments; it comes back, and takes some again.
async fn kill(trio: &Trio, progress: &Progress, victim: &mut Process, index: usize) {
    progress.goes_on("before a kill", &[0, 1, 2]).await;
    victim.kill9();
    grow("a payment was not answered", &[&progress.unanswered[index]]).await;
    progress.goes_on("at the others", &[1 - index, 2]).await;
    Books::read(&trio.network).await;
    victim.restart().await;
    progress.goes_on("after a restart", &[0, 1, 2]).await;
}

/// The same at a failpoint, in the middle of a payment.
async fn die_at(trio: &Trio, progress: &Progress, victim: &mut Process, failpoint: &str) {
    victim.kill9();
    let log = trio.network.scratch().join(format!("{failpoint}.hits"));
    let env = victim.env_mut();
    env.insert("PENSTOCK_FAILPOINTS".to_owned(), format!("{failpoint}=abort@1"));
    env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), log.to_string_lossy().into_owned());
    victim.spawn();
    assert!(!victim.ended().await.success());
    assert_hit(&log, failpoint);
    victim.env_mut().clear();
    progress.goes_on("at the others", &[1, 2]).await;
    Books::read(&trio.network).await;
    victim.restart().await;
    progress.goes_on("after a restart", &[0, 1, 2]).await;
}

#[tokio::test]
async fn sessions_of_a_killed_process_go_on_at_the_others_and_no_ticket_counts_twice() {
    let (trio, mut mortal) = Trio::start(Needs::PAYMENTS).await;
    let network = &trio.network;
    let progress = Progress::default();
    // All but one begin at the process that dies most.
    let [mut s0, mut s1, mut s2, mut s3] = [
        Session::begin(&trio, 0, &trio.urls[0]).await,
        Session::begin(&trio, 1, &trio.urls[0]).await,
        Session::begin(&trio, 2, &trio.urls[1]).await,
        Session::begin(&trio, 3, &trio.urls[0]).await,
    ];
    let deaths = async {
        for round in 0..KILLS {
            let index = round % mortal.len();
            kill(&trio, &progress, &mut mortal[index], index).await;
        }
        die_at(&trio, &progress, &mut mortal[0], "orchestrator.before_credit").await;
        die_at(&trio, &progress, &mut mortal[0], "orchestrator.after_credit").await;
        // One ticket in four wins: with payments going on, one does.
        until("a ticket has won", || async { Books::read(network).await.winners > 0 }).await;
        progress.enough.set(true);
    };
    tokio::join!(
        s0.pay_on(&trio, &progress),
        s1.pay_on(&trio, &progress),
        s2.pay_on(&trio, &progress),
        s3.pay_on(&trio, &progress),
        deaths,
    );
    let mut sessions = [s0, s1, s2, s3];
    let found: u32 = sessions.iter().map(|session| session.payer.found_credited).sum();
    assert!(found > 0, "the payment credited at the failpoint was not found by another process");
    everything_counts_once(network, &sessions).await;

    // Tickets that were credited are taken by nobody again.
    let before = Books::read(network).await;
    for session in &sessions {
        for signed in session.paid.iter().rev().take(3) {
            assert_eq!(at_all(&trio, session, signed).await, [Sent::Seen; 3]);
        }
    }
    assert_eq!(Books::read(network).await, before);
    // And those that come to all of them at once are credited by one.
    for session in &mut sessions {
        for _ in 0..3 {
            let signed = session.buy(&trio).await;
            let mut answers = at_all(&trio, session, &signed).await;
            answers.sort();
            assert_eq!(answers, [Sent::Credited, Sent::Seen, Sent::Seen]);
            session.payer.acknowledged += 1;
        }
    }
    everything_counts_once(network, &sessions).await;
    all_say_the_same(&trio, &mortal).await;

    let books = Books::read(network).await;
    figure("three orchestrators: payments, of them found credited at another", {
        let paid: u32 = sessions.iter().map(|session| session.payer.acknowledged).sum();
        format!("{paid}, {found}")
    });
    figure(
        "three orchestrators: tickets, winners, wei signed = credited",
        format!("{}, {}, {}", books.signed_tickets, books.winners, books.credited_wei),
    );
    network.winners_are_redeemed().await;
}

async fn at_all(trio: &Trio, session: &Session, signed: &Signed) -> [Sent; 3] {
    let [a, b, c] = &trio.urls;
    let payer = &session.payer;
    let sent = tokio::join!(payer.send(a, signed), payer.send(b, signed), payer.send(c, signed));
    sent.into()
}

/// Every payment that was signed was answered and credited, once.
async fn everything_counts_once(network: &Network, sessions: &[Session]) {
    let books = Books::read(network).await;
    books.assert_settled();
    assert_eq!(books.accepted.len() as u64, books.signed_tickets, "a nonce for each ticket");
    let signer = network.get(&format!("{}/v1/summary", network.admin(Role::Signer))).await;
    let answered: u32 = sessions.iter().map(|session| session.payer.acknowledged).sum();
    assert_eq!(signer["payments"].as_u64(), Some(u64::from(answered)));
}

/// Each process shows the whole ledger.
async fn all_say_the_same(trio: &Trio, others: &[Process]) {
    let network = &trio.network;
    let books = Books::read(network).await;
    let admin = network.admin(Role::Orchestrator);
    for page in ["summary", "accounts"] {
        let shown = network.get(&format!("{admin}/v1/{page}")).await;
        for process in others {
            let url = format!("http://{}/v1/{page}", process.addr("admin"));
            assert_eq!(network.get(&url).await, shown, "{url}");
        }
        if page == "summary" {
            let wei = |field: &str| shown[field].as_str().and_then(|text| text.parse().ok());
            assert_eq!(shown["tickets"].as_u64(), Some(books.credited_tickets));
            assert_eq!(wei("credited_wei"), Some(books.credited_wei.clone()));
            assert_eq!(wei("debited_wei"), Some(books.debited_wei.clone()));
            assert_eq!(wei("balance_wei"), Some(&books.credited_wei - &books.debited_wei));
        } else {
            assert!(shown.as_array().is_some_and(|all| all.len() >= SESSIONS), "{shown}");
        }
    }
}

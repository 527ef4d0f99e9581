//! Three processes on one PostgreSQL ledger are one orchestrator: when one is killed in the middle of
//! paid sessions, they go on at the others, no good ticket is refused, none counts twice, and the books
//! agree to the wei.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{Process, Sdk, figure, postgres, until, until_ok};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{
    books::Books,
    failpoints::assert_hit,
    kills::{Application, work_goes_on},
    network::{Needs, Network, SignerOn},
    payer::{Attempt, Payer, Sent, Signed},
    sdk_live,
    video::small_segments,
};

/// Pixels that cost about three tickets.
const UNITS: u64 = 100_000_000;
const SESSIONS: usize = 4;
const STREAMS: usize = 2;
/// Plain kills, of the first and of the second process in turn.
const KILLS: usize = 2;

/// A network whose orchestrator is three processes. The network's own is the third, which lives.
struct Trio {
    network: Network,
    urls: [String; 3],
    // After the network: its processes end first.
    ledger: postgres::Database,
}

impl Trio {
    async fn start(needs: Needs) -> (Self, [Process; 2]) {
        Self::start_with(needs, Vec::new()).await
    }

    /// With more settings of the orchestrator.
    async fn start_with(needs: Needs, mut flags: Vec<String>) -> (Self, [Process; 2]) {
        let ledger = postgres::database().await;
        flags.push(format!("--ledger={}", ledger.url()));
        let network = Network::start_with(needs, SignerOn::default(), &flags).await;
        let a = network.another_orchestrator("orchestrator-a").await;
        let b = network.another_orchestrator("orchestrator-b").await;
        let service = |process: &Process| format!("https://{}", process.addr("service"));
        let urls = [service(&a), service(&b), network.url(Role::Orchestrator)];
        let trio = Self { network, urls, ledger };
        for process in [&a, &b] {
            trio.ready(process).await;
        }
        (trio, [a, b])
    }

    /// The signer tells gateways of all three; each has a worker.
    async fn everybody_is_asked(&mut self) {
        let urls = self.urls.join(",");
        let listen = self.network.url(Role::Signer).trim_start_matches("http://").parse().unwrap();
        let mut signer = self.network.plan.signer(listen, &self.network.chain());
        signer.args.push(format!("--orchestrators={urls}"));
        self.network.process(Role::Signer).set_args(signer.args);
        self.network.crash(Role::Signer).await;
        self.network.ready(Role::Signer).await;
        let network = &self.network;
        let discovered = format!("{}/discover-orchestrators", network.url(Role::Signer));
        until_ok("all three do work", || async {
            // It has asked nobody yet: 503.
            let answer = network.http.get(&discovered).send().await.map_err(|e| e.to_string())?;
            let listed = answer.text().await.map_err(|e| e.to_string())?;
            let missing = self.urls.iter().find(|url| !listed.contains(url.as_str()));
            missing.map_or(Ok(()), |url| Err(format!("{url} is not in {listed}")))
        })
        .await;
        network.work().await;
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
            assert!(shown.as_array().is_some_and(|all| !all.is_empty()), "{shown}");
        }
    }
}

/// A session of live video by the official SDK, whose process is killed: the next one begins at another process, with all
/// that the first had paid and not used.
#[tokio::test]
async fn live_video_of_a_killed_process_leaves_its_money_to_the_next_at_another() {
    let (runner, models) = sdk_live::runner().await;
    let mut flags = sdk_live::settings(&models);
    flags.push("--lease-ms=3000".to_owned());
    let (trio, [mut mortal, other]) = Trio::start_with(Needs::PAYMENTS, flags).await;
    let network = &trio.network;
    let begin = async |url: &str| {
        let mut sdk = Sdk::start("live.py", ["session", &network.url(Role::Signer), url]);
        let started = sdk.hear().await;
        let frames = sdk.hear().await;
        assert_eq!(frames, json!({ "sizes": [[320, 180]], "errors": 0 }));
        (sdk, started)
    };
    let only_account = async || {
        let accounts = network.get(&format!("http://{}/v1/accounts", other.addr("admin"))).await;
        let [account] = &accounts.as_array().unwrap()[..] else { panic!("{accounts}") };
        account.clone()
    };
    let wei = |value: &Value| value.as_str().unwrap().parse::<Rational>().unwrap();
    let (sdk, first) = begin(&trio.urls[0]).await;
    until("time was charged", || async { only_account().await["debited_wei"] != "0" }).await;
    mortal.kill9();
    sdk.kill9().await;
    until("the runner is free", || async { runner.sessions() == 0 }).await;
    until("the others know of the death", || async {
        let mut ledger = PgConnection::connect(trio.ledger.url()).await.unwrap();
        let alive = sqlx::query("SELECT id FROM processes WHERE lease_until > clock_timestamp()");
        let alive = alive.fetch_all(&mut ledger).await.unwrap().len();
        let _ = ledger.close().await;
        alive == 2
    })
    .await;
    let left = only_account().await;
    assert!(wei(&left["balance_wei"]).is_positive(), "{left}");

    let (mut sdk, second) = begin(&trio.urls[1]).await;
    assert_eq!(second["manifest"], first["manifest"]);
    let manifest = first["manifest"].as_str().unwrap();
    assert!(!second["publish"].as_str().unwrap().contains(manifest), "{second}");
    // Both sessions' time and both ones' tickets are there, to the wei.
    until("its time was charged, too", || async {
        wei(&only_account().await["debited_wei"]) > wei(&left["debited_wei"])
    })
    .await;
    let now = only_account().await;
    assert_eq!(wei(&now["balance_wei"]), &wei(&now["credited_wei"]) - &wei(&now["debited_wei"]));
    assert!(wei(&now["credited_wei"]) > wei(&left["credited_wei"]), "{now}");
    sdk.hear().await;
    sdk.tell("enough").await;
    assert_eq!(sdk.hear().await, json!({ "closed": true }));
    Books::read(network).await;
}

/// Two of the three die in every round, each time others: whatever is under way has to be taken up at the
/// one that is left.
#[tokio::test]
async fn streams_go_on_at_whichever_process_is_left() {
    let (mut trio, mut mortal) = Trio::start(Needs::VIDEO).await;
    let _workers = [
        trio.network.another_worker("worker-a", &trio.urls[0]).await,
        trio.network.another_worker("worker-b", &trio.urls[1]).await,
    ];
    trio.everybody_is_asked().await;
    let segments = small_segments(trio.network.scratch());
    let stop = Arc::new(AtomicBool::new(false));
    let streams: Vec<Application> = (0..STREAMS)
        .map(|n| {
            let (name, stop) = (format!("stream{n}"), Arc::clone(&stop));
            Application::start(&trio.network, name, segments.clone(), stop)
        })
        .collect();
    work_goes_on(&streams, "at first").await;
    for left in [0, 1, 2, 0] {
        for (index, process) in mortal.iter_mut().enumerate() {
            if index != left {
                process.kill9();
            }
        }
        if left != 2 {
            trio.network.process(Role::Orchestrator).kill9();
        }
        let debited = Books::read(&trio.network).await.debited_wei;
        work_goes_on(&streams, &format!("at {}", trio.urls[left])).await;
        until("the one that is left is paid", || async {
            Books::read(&trio.network).await.debited_wei > debited
        })
        .await;
        for (index, process) in mortal.iter_mut().enumerate() {
            if index != left {
                process.restart().await;
            }
        }
        if left != 2 {
            trio.network.process(Role::Orchestrator).restart().await;
        }
        for process in &mortal {
            trio.ready(process).await;
        }
        trio.network.ready(Role::Orchestrator).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut answered = 0;
    for stream in streams {
        answered += stream.done();
        stream.task.await.unwrap();
    }
    // What is done for nobody any more is booked as well: until then the pages may differ.
    until("no job is under way", || async {
        let mut held = PgConnection::connect(trio.ledger.url()).await.unwrap();
        let holds = sqlx::query(
            "SELECT id FROM holds WHERE process IN \
             (SELECT id FROM processes WHERE lease_until > now())",
        );
        let holds = holds.fetch_all(&mut held).await.unwrap();
        let _ = held.close().await;
        holds.is_empty()
    })
    .await;
    figure("three orchestrators: segments answered while two of three died four times", answered);
    let books = Books::read(&trio.network).await;
    assert!(books.debited_wei.is_positive(), "{books:?}");
    all_say_the_same(&trio, &mortal).await;
    trio.network.winners_are_redeemed().await;
}

//! `kill -9` of every role, alone and together, in the middle of paid work. Three applications push
//! video all the while and repeat what was not answered; afterwards the books agree.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use penstock::dev::Role;
use penstock_testkit::{figure, until};
use tokio::task::JoinHandle;

use crate::{
    books::Books,
    jobs::push,
    network::{Needs, Network},
    video::{TINY, small_segments},
};

/// Every role alone so many times, then everything at once so many times.
const ROUNDS: usize = 4;
const ALL_AT_ONCE: usize = 2;
const APPLICATIONS: usize = 3;

/// An application that never gives up on a segment.
pub struct Application {
    done: Arc<AtomicUsize>,
    pub task: JoinHandle<()>,
}

impl Application {
    pub fn start(
        network: &Network,
        name: String,
        segments: Vec<Vec<u8>>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let (http, gateway, counter) =
            (network.http.clone(), network.url(Role::Gateway), Arc::clone(&done));
        let task = tokio::spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let segment = &segments[number % segments.len()];
                // The answer's absence says nothing about whether the work was done: the same
                // segment is pushed again until it is answered.
                until(&format!("{name}/{number} is answered"), || async {
                    push(&http, &gateway, &name, number, segment.clone(), Some(TINY)).await.is_ok()
                })
                .await;
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { done, task }
    }

    pub fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

async fn winner_hashes(network: &Network) -> BTreeSet<String> {
    let url = format!("{}/v1/winners", network.admin(Role::Orchestrator));
    let winners = network.get(&url).await;
    let hash = |winner: &serde_json::Value| winner["ticket_hash"].as_str().unwrap().to_owned();
    winners.as_array().unwrap().iter().map(hash).collect()
}

/// Every application gets one more answer than it has now: work goes on for everyone.
pub async fn work_goes_on(applications: &[Application], why: &str) {
    for application in applications {
        let before = application.done();
        until(&format!("work goes on {why}"), || async {
            assert!(!application.task.is_finished(), "an application gave up {why}");
            application.done() > before
        })
        .await;
    }
}

#[tokio::test]
async fn killed_roles_lose_neither_money_nor_work() {
    let mut network = Network::start(Needs::VIDEO).await;
    let segments = small_segments(network.scratch());
    let stop = Arc::new(AtomicBool::new(false));
    let applications: Vec<Application> = (0..APPLICATIONS)
        .map(|n| {
            Application::start(&network, format!("app{n}"), segments.clone(), Arc::clone(&stop))
        })
        .collect();
    work_goes_on(&applications, "at first").await;

    let mut kills = 0;
    for _ in 0..ROUNDS {
        for role in network.roles() {
            // One application has just been answered; the others are somewhere in between.
            work_goes_on(&applications[..1], "before a kill").await;
            let winners = winner_hashes(&network).await;
            network.crash(role).await;
            kills += 1;
            work_goes_on(&applications, &format!("after the {role} was killed")).await;
            Books::read(&network).await;
            let kept = winner_hashes(&network).await;
            assert!(winners.is_subset(&kept), "a stored winner is gone after the {role}'s death");
        }
    }
    for _ in 0..ALL_AT_ONCE {
        work_goes_on(&applications[..1], "before all are killed").await;
        let winners = winner_hashes(&network).await;
        let roles = network.roles();
        for role in &roles {
            network.process(*role).kill9();
            kills += 1;
        }
        // The chain first, the gateway last, as after a power cut.
        for role in roles.iter().rev() {
            network.process(*role).restart().await;
        }
        work_goes_on(&applications, "after all were killed").await;
        Books::read(&network).await;
        assert!(winners.is_subset(&winner_hashes(&network).await), "a stored winner is gone");
    }
    figure("kills under load: processes killed", kills);
    assert!(kills >= 20, "{kills} kills");

    // One ticket in four wins: with work going on, one does.
    until("a ticket has won", || async { Books::read(&network).await.winners > 0 }).await;
    stop.store(true, Ordering::SeqCst);
    let mut answered = 0;
    for application in applications {
        application.task.await.unwrap();
        answered += application.done.load(Ordering::SeqCst);
    }
    figure("kills under load: segments answered, all of those pushed", answered);
    let books = Books::read(&network).await;
    figure(
        "kills under load: tickets, winners",
        format!("{}, {}", books.signed_tickets, books.winners),
    );
    assert!(books.winners > 0 && books.debited_wei.is_positive(), "{books:?}");

    // Nothing that was won before a kill is unpaid after it.
    network.winners_are_redeemed().await;
}

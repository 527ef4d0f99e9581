//! Two kinds of load: as much as a number of clients can ask for, and arrivals at a steady pace.

use crate::{
    client::{Answer, Session},
    rig,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};

/// What a load did.
#[derive(Debug, Default)]
pub struct Done {
    /// Of each payment, from its planned arrival to its answer.
    pub latencies_us: Vec<u64>,
    /// Answers 480.
    pub refreshes: u64,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.refreshes += other.refreshes;
    }
}

/// Pays once, with a new offer where one is needed.
async fn pay(
    session: &mut Session,
    http: &reqwest::Client,
    url: &str,
    units: u64,
    planned: Instant,
    done: &mut Done,
) {
    loop {
        match session.pay(http, url, units).await {
            Answer::Paid(answer) => {
                session.advance(&answer);
                let us = u64::try_from(planned.elapsed().as_micros()).unwrap();
                done.latencies_us.push(us);
                return;
            }
            Answer::Refresh => {
                session.refresh();
                done.refreshes += 1;
            }
            other => panic!("the signer did not pay: {other:?}"),
        }
    }
}

/// `clients` requests are always under way, until `payments` were answered.
pub async fn closed(
    url: &str,
    sessions: Vec<Session>,
    clients: usize,
    payments: u64,
    units: u64,
) -> (Vec<Session>, Done) {
    let left = Arc::new(AtomicU64::new(payments));
    let http = rig::http();
    let mut tasks = JoinSet::new();
    let mut shares: Vec<Vec<Session>> = (0..clients).map(|_| Vec::new()).collect();
    for (number, session) in sessions.into_iter().enumerate() {
        shares[number % clients].push(session);
    }
    for mut share in shares {
        let (left, http, url) = (Arc::clone(&left), http.clone(), url.to_owned());
        tasks.spawn(async move {
            let mut done = Done::default();
            'paying: loop {
                for session in &mut share {
                    let took =
                        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                    if took.is_err() {
                        break 'paying;
                    }
                    pay(session, &http, &url, units, Instant::now(), &mut done).await;
                }
            }
            (share, done)
        });
    }
    gather(tasks).await
}

/// `rate` arrivals a second, whether the ones before are answered or not. A session pays one after
/// the other; an arrival without a free session waits, and its waiting counts.
pub async fn paced(
    url: &str,
    sessions: Vec<Session>,
    payments: u64,
    rate: f64,
    units: u64,
) -> (Vec<Session>, Done) {
    let http = rig::http();
    let (free, mut waiting) = mpsc::channel(sessions.len());
    for session in sessions {
        free.try_send(session).unwrap();
    }
    let mut tasks: JoinSet<Done> = JoinSet::new();
    let began = Instant::now();
    let mut total = Done::default();
    for n in 0..payments {
        let planned = began + Duration::from_secs_f64(n as f64 / rate);
        tokio::time::sleep_until(planned.into()).await;
        let mut session: Session = waiting.recv().await.expect("sessions come back");
        let (free, http, url) = (free.clone(), http.clone(), url.to_owned());
        tasks.spawn(async move {
            let mut done = Done::default();
            pay(&mut session, &http, &url, units, planned, &mut done).await;
            free.send(session).await.unwrap();
            done
        });
        while let Some(done) = tasks.try_join_next() {
            total.add(done.unwrap());
        }
    }
    while let Some(done) = tasks.join_next().await {
        total.add(done.unwrap());
    }
    drop(free);
    let mut sessions = Vec::new();
    while let Some(session) = waiting.recv().await {
        sessions.push(session);
    }
    (sessions, total)
}

async fn gather(mut tasks: JoinSet<(Vec<Session>, Done)>) -> (Vec<Session>, Done) {
    let (mut sessions, mut total) = (Vec::new(), Done::default());
    while let Some(ended) = tasks.join_next().await {
        let (share, done) = ended.unwrap();
        sessions.extend(share);
        total.add(done);
    }
    (sessions, total)
}

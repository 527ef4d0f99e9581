//! What breaks things: one after the other, after so many payments, in an order that the seed
//! decides; and what starts dead replicas again.

use super::{Held, Settings, clients::Urls};
use crate::rig::Rig;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use std::{collections::BTreeMap, fmt, fs, time::Duration};

/// Where a signer can die by itself.
pub const FAILPOINTS: [&str; 4] =
    ["signer.after_reserve", "signer.after_sign", "signer.after_commit", "signer.before_reply"];
/// Between two looks at the replicas.
const WATCH: Duration = Duration::from_millis(10);

/// What was broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Replicas killed at a moment of their own (`kill -9`).
    pub kills: u64,
    /// Of them: all replicas at once.
    pub kills_of_all: u64,
    /// Deaths at each failpoint.
    pub failpoints: BTreeMap<String, u64>,
    /// Database connections ended by the server.
    pub connections: u64,
    /// Times that connections were ended.
    pub cuts: u64,
}

impl Broken {
    /// Deaths of a process, of whatever kind.
    pub fn deaths(&self) -> u64 {
        self.kills + self.failpoints.values().sum::<u64>()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let died: u64 = self.failpoints.values().sum();
        write!(
            f,
            "{} kills, {died} deaths at failpoints, {} database connections ended in {} cuts",
            self.kills, self.connections, self.cuts
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kill,
    KillAll,
    Failpoint(&'static str),
    Cut,
    CutAll,
}

/// Breaks things.
pub struct Monkey {
    /// So far.
    pub broken: Broken,
    random: StdRng,
    urls: Urls,
    between: u64,
    next_at: u64,
    round: Vec<Act>,
    has_server: bool,
}

impl Monkey {
    pub fn new(settings: &Settings, urls: Urls) -> Self {
        let mut monkey = Self {
            broken: Broken::default(),
            random: StdRng::seed_from_u64(settings.seed),
            urls,
            between: settings.payments_between.max(2),
            next_at: 0,
            round: Vec::new(),
            has_server: settings.postgres.is_some(),
        };
        monkey.schedule(0);
        monkey
    }

    fn schedule(&mut self, payments: u64) {
        self.next_at = payments + self.random.random_range(self.between / 2..self.between * 3 / 2);
    }

    /// Each round has everything in it once, in a new order: a short run misses nothing.
    fn act(&mut self) -> Act {
        if self.round.is_empty() {
            self.round = FAILPOINTS.map(Act::Failpoint).to_vec();
            self.round.extend([Act::Kill, Act::KillAll, Act::Kill]);
            if self.has_server {
                self.round.extend([Act::Cut, Act::CutAll, Act::Cut]);
            }
            self.round.shuffle(&mut self.random);
        }
        self.round.pop().expect("a round has acts")
    }

    /// Starts what is dead, and breaks something if it is time.
    pub async fn step(&mut self, rig: &mut Rig, held: &Held, server: Option<&str>) {
        for number in 0..rig.replicas.len() {
            if !rig.replicas[number].runs() {
                self.died(rig, number);
                self.start(rig, number, None).await;
            }
        }
        let payments = held.payments();
        if payments >= self.next_at {
            self.schedule(payments);
            let act = self.act();
            self.perform(act, rig, server).await;
        }
        tokio::time::sleep(WATCH).await;
    }

    async fn perform(&mut self, act: Act, rig: &mut Rig, server: Option<&str>) {
        let victim = self.random.random_range(0..rig.replicas.len());
        match act {
            Act::Kill => {
                self.kill(rig, victim);
                self.start(rig, victim, None).await;
            }
            Act::KillAll => {
                self.broken.kills_of_all += 1;
                for number in 0..rig.replicas.len() {
                    self.kill(rig, number);
                }
                for number in 0..rig.replicas.len() {
                    self.start(rig, number, None).await;
                }
            }
            Act::Failpoint(name) => {
                self.kill(rig, victim);
                let pass = self.random.random_range(1..=8);
                self.start(rig, victim, Some((name, pass))).await;
            }
            Act::Cut | Act::CutAll => {
                self.cut(server.expect("a database server"), act == Act::CutAll).await;
            }
        }
    }

    fn kill(&mut self, rig: &mut Rig, number: usize) {
        if rig.replicas[number].runs() {
            self.broken.kills += 1;
        } else {
            self.died(rig, number);
        }
        rig.replicas[number].kill9();
    }

    /// A process that ended by itself must have done so at its failpoint.
    fn died(&mut self, rig: &mut Rig, number: usize) {
        let file = rig.scratch().join(format!("failpoint-{number}"));
        let hits = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        let name = hits.lines().find_map(|line| line.strip_suffix(" abort"));
        let Some(name) = name else {
            panic!("signer {number} ended by itself:\n{}", rig.replicas[number].log_tail());
        };
        *self.broken.failpoints.entry(name.to_owned()).or_default() += 1;
        rig.replicas[number].kill9();
    }

    async fn start(&mut self, rig: &mut Rig, number: usize, failpoint: Option<(&str, u32)>) {
        let log = rig.scratch().join(format!("failpoint-{number}")).display().to_string();
        let replica = &mut rig.replicas[number];
        let env = replica.env_mut();
        env.remove("PENSTOCK_FAILPOINTS");
        env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), log);
        if let Some((name, pass)) = failpoint {
            env.insert("PENSTOCK_FAILPOINTS".to_owned(), format!("{name}=abort@{pass}"));
        }
        replica.restart().await;
        *self.urls[number].lock().unwrap() = rig.url(number);
    }

    /// Ends database connections: some, or all but the one that asks.
    async fn cut(&mut self, server: &str, all: bool) {
        let mut connection = PgConnection::connect(server).await.expect("PostgreSQL answers");
        let mut pids: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid",
        )
        .fetch_all(&mut connection)
        .await
        .expect("connections are listed");
        if !all {
            pids.shuffle(&mut self.random);
            pids.truncate(pids.len().div_ceil(2));
        }
        let ended: Vec<bool> =
            sqlx::query_scalar("SELECT pg_terminate_backend(pid) FROM unnest($1) AS pid")
                .bind(&pids)
                .fetch_all(&mut connection)
                .await
                .expect("connections can be ended");
        self.broken.connections += ended.into_iter().filter(|ended| *ended).count() as u64;
        self.broken.cuts += 1;
        let _ = connection.close().await;
    }

    /// Everything runs, and nothing is armed any more.
    pub async fn calm(&mut self, rig: &mut Rig) {
        for number in 0..rig.replicas.len() {
            if !rig.replicas[number].runs() {
                self.died(rig, number);
            }
            rig.replicas[number].kill9();
            self.start(rig, number, None).await;
            rig.ready(number).await;
        }
    }
}

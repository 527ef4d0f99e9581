//! What breaks things: one after the other, after so many payments, in an order that the seed
//! decides; and what starts dead replicas again.
//!
//! A replica that is told to die at a failpoint is left alone until it has: nothing else is broken
//! meanwhile, however slow the machine is. So that every death that was planned happens.

use super::{Held, Settings, clients::Urls};
use crate::rig::Rig;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use std::{collections::BTreeMap, fmt, fs, path::PathBuf, time::Duration};

/// Where a signer can die by itself.
pub const FAILPOINTS: [&str; 4] =
    ["signer.after_reserve", "signer.after_sign", "signer.after_commit", "signer.before_reply"];
/// A run that has seen less than this proves little: its load goes on.
const LEAST_KILLS: u64 = 5;
const LEAST_CONNECTIONS: u64 = 5;
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
    fn deaths_at(&self, failpoint: &str) -> u64 {
        self.failpoints.get(failpoint).copied().unwrap_or_default()
    }

    /// Where the fewest died: whatever happened before, none is forgotten.
    fn rarest_failpoint(&self) -> &'static str {
        let mut rarest = FAILPOINTS[0];
        for name in FAILPOINTS {
            if self.deaths_at(name) < self.deaths_at(rarest) {
                rarest = name;
            }
        }
        rarest
    }

    /// What has not been broken often enough.
    pub fn lacks(&self, has_server: bool) -> Option<String> {
        if let Some(name) = FAILPOINTS.into_iter().find(|name| self.deaths_at(name) == 0) {
            return Some(format!("no signer died at {name}"));
        }
        if self.kills < LEAST_KILLS || self.kills_of_all == 0 {
            return Some(format!("{} kills, {} of all at once", self.kills, self.kills_of_all));
        }
        if has_server && self.connections < LEAST_CONNECTIONS {
            return Some(format!("{} database connections ended", self.connections));
        }
        None
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
    Failpoint,
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
    /// The replica that will die by itself, and where.
    armed: Option<(usize, &'static str)>,
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
            armed: None,
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
            self.round = vec![Act::Failpoint; FAILPOINTS.len()];
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
        if self.armed.is_none() && held.payments() >= self.next_at {
            let act = self.act();
            self.perform(act, rig, server).await;
            // From here: what is paid while a signer starts brings the next blow no nearer.
            self.schedule(held.payments());
        }
        tokio::time::sleep(WATCH).await;
    }

    /// What has not happened often enough, here or at the clients.
    pub fn lacks(&self, held: &Held) -> Option<String> {
        let waits = self.armed.map(|(signer, name)| format!(" (signer {signer} is armed: {name})"));
        let lacks = self.broken.lacks(self.has_server).or(held.lacks().map(str::to_owned))?;
        Some(lacks + &waits.unwrap_or_default())
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
            Act::Failpoint => {
                let name = self.broken.rarest_failpoint();
                let pass = self.random.random_range(1..=8);
                self.kill(rig, victim);
                self.armed = Some((victim, name));
                self.start(rig, victim, Some((name, pass))).await;
            }
            Act::Cut | Act::CutAll => {
                self.cut(server.expect("a database server"), act == Act::CutAll).await;
            }
        }
    }

    /// Never an armed one, so that one that is dead already died of something else.
    fn kill(&mut self, rig: &mut Rig, number: usize) {
        assert!(rig.replicas[number].runs(), "{}", by_itself(rig, number));
        self.broken.kills += 1;
        rig.replicas[number].kill9();
    }

    /// A process that ended by itself must have done so at its failpoint.
    fn died(&mut self, rig: &mut Rig, number: usize) {
        let hits = fs::read_to_string(hits_file(rig, number)).unwrap_or_default();
        match self.armed.take() {
            Some((armed, name)) if armed == number && was_hit(&hits, name) => {
                *self.broken.failpoints.entry(name.to_owned()).or_default() += 1;
                rig.replicas[number].kill9();
            }
            armed => panic!("armed {armed:?}, hits {hits:?}; {}", by_itself(rig, number)),
        }
    }

    async fn start(&mut self, rig: &mut Rig, number: usize, failpoint: Option<(&str, u32)>) {
        let hits = hits_file(rig, number);
        let _ = fs::remove_file(&hits);
        let replica = &mut rig.replicas[number];
        let env = replica.env_mut();
        env.remove("PENSTOCK_FAILPOINTS");
        env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), hits.display().to_string());
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
        self.armed = None;
    }
}

/// Where a replica records that it died at its failpoint.
fn hits_file(rig: &Rig, number: usize) -> PathBuf {
    rig.scratch().join(format!("failpoint-{number}"))
}

fn was_hit(hits: &str, failpoint: &str) -> bool {
    hits.lines().any(|line| line.strip_suffix(" abort") == Some(failpoint))
}

fn by_itself(rig: &Rig, number: usize) -> String {
    format!("signer {number} ended by itself:\n{}", rig.replicas[number].log_tail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failpoint_has_its_turn_before_any_has_a_second() {
        let mut broken = Broken::default();
        let mut order = Vec::new();
        for _ in 0..FAILPOINTS.len() {
            order.push(broken.rarest_failpoint());
            *broken.failpoints.entry(order[order.len() - 1].to_owned()).or_default() += 1;
        }
        assert_eq!(order, FAILPOINTS);
        assert_eq!(broken.rarest_failpoint(), FAILPOINTS[0]);
    }

    #[test]
    fn a_run_that_broke_too_little_says_what() {
        let mut broken = Broken { kills: 9, kills_of_all: 1, ..Broken::default() };
        assert_eq!(broken.lacks(false).unwrap(), "no signer died at signer.after_reserve");
        broken.failpoints = FAILPOINTS.map(|name| (name.to_owned(), 1)).into();
        assert_eq!(broken.lacks(false), None);
        assert_eq!(broken.lacks(true).unwrap(), "0 database connections ended");
        broken.connections = LEAST_CONNECTIONS;
        assert_eq!(broken.lacks(true), None);
        broken.kills_of_all = 0;
        assert_eq!(broken.lacks(true).unwrap(), "9 kills, 0 of all at once");
    }

    #[test]
    fn only_the_armed_failpoint_counts() {
        assert!(was_hit("signer.after_sign abort\n", "signer.after_sign"));
        assert!(!was_hit("signer.after_sign log\nsigner.after", "signer.after_sign"));
        assert!(!was_hit("", "signer.after_sign"));
    }
}

//! Carries the plan out: one act after the other, each when so many tickets were taken, and each ends
//! when every client works again.

use super::{
    clock::now_ms,
    plan::Act,
    tally::Tally,
    trio::{LEASE, Trio},
};
use crate::database::{Database, Stop};
use penstock_testkit::until;
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use std::{collections::BTreeMap, fs, sync::Arc};

/// Answers of the others that are waited for while somebody is dead.
const GOES_ON: u64 = 10;

/// What was broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// By kind of act.
    pub acts: BTreeMap<String, Effect>,
    /// Orchestrators killed (`kill -9`).
    pub kills: u64,
    /// Orchestrators that died by themselves, by failpoint.
    pub failpoints: BTreeMap<String, u64>,
    /// Orchestrators that ended in order (SIGTERM).
    pub ended: u64,
    /// Database connections ended by the server.
    pub connections: u64,
}

/// One kind of act.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// How often.
    pub times: u64,
    /// Of each time: the longest that a client waited between two answers.
    pub waits_ms: Vec<u64>,
}

impl Broken {
    /// Deaths of orchestrators, of whatever kind.
    pub fn deaths(&self) -> u64 {
        self.kills + self.failpoints.values().sum::<u64>()
    }
}

/// Breaks things.
pub struct Monkey<'a> {
    /// So far.
    pub broken: Broken,
    /// What is broken.
    pub trio: &'a mut Trio,
    /// PostgreSQL, if it is the run's own.
    pub database: Option<&'a mut Database>,
    /// The books.
    pub ledger: &'a str,
    /// What clients see.
    pub tally: Arc<Tally>,
}

impl Monkey<'_> {
    /// Does one thing, and sees every client work again.
    pub async fn perform(&mut self, act: Act) {
        self.everybody_works(&act.to_string()).await;
        self.tally.take_longest_ms();
        let began_ms = now_ms();
        match act {
            Act::Kill(victim) => {
                self.kill(victim);
                self.others_go_on(&[victim]).await;
                self.start(victim, None).await;
            }
            Act::KillAllBut(left) => {
                let victims = self.all_but(left);
                victims.iter().for_each(|victim| self.kill(*victim));
                self.others_go_on(&victims).await;
                self.start_all(&victims).await;
            }
            Act::KillAll => {
                let victims: Vec<usize> = (0..self.trio.processes.len()).collect();
                victims.iter().for_each(|victim| self.kill(*victim));
                self.start_all(&victims).await;
            }
            Act::DieAt(victim, point, pass) => {
                self.kill(victim);
                self.start(victim, Some((point, pass))).await;
                self.died(victim, point).await;
                self.others_go_on(&[victim]).await;
                self.start(victim, None).await;
            }
            Act::DieRedeeming(victim, point, pass) => {
                self.kill(victim);
                self.start(victim, Some((point, pass))).await;
                let others = self.all_but(victim);
                others.iter().for_each(|other| self.kill(*other));
                self.died(victim, point).await;
                self.start_all(&(0..self.trio.processes.len()).collect::<Vec<_>>()).await;
            }
            Act::Pause(victim, percent) => {
                let process = &self.trio.processes[victim];
                process.signal("STOP");
                tokio::time::sleep(LEASE * percent / 100).await;
                process.signal("CONT");
                self.tally.paused(began_ms, victim);
            }
            Act::Cut(percent) => self.cut(percent).await,
            Act::RestartDatabase => self.restart_database(Stop::Fast).await,
            Act::CrashDatabase => self.restart_database(Stop::Immediate).await,
            Act::Rolling => self.rolling().await,
        }
        for number in 0..self.trio.processes.len() {
            self.trio.ready(number).await;
        }
        self.everybody_works(&act.to_string()).await;
        self.tally.broken(began_ms, act.touches(self.trio.processes.len()));
        let effect = self.broken.acts.entry(act.kind()).or_default();
        effect.times += 1;
        effect.waits_ms.push(self.tally.take_longest_ms());
    }

    fn all_but(&self, left: usize) -> Vec<usize> {
        (0..self.trio.processes.len()).filter(|number| *number != left).collect()
    }

    /// Never one that ended by itself.
    fn kill(&mut self, number: usize) {
        let process = &mut self.trio.processes[number];
        assert!(process.runs(), "orchestrator {number} ended by itself:\n{}", process.log_tail());
        process.kill9();
        self.broken.kills += 1;
    }

    async fn start(&mut self, number: usize, failpoint: Option<(&str, u32)>) {
        let hits = self.trio.hits_file(number);
        let _ = fs::remove_file(&hits);
        self.tally.new_life(number);
        let process = &mut self.trio.processes[number];
        let env = process.env_mut();
        env.clear();
        if let Some((name, pass)) = failpoint {
            env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), hits.display().to_string());
            env.insert("PENSTOCK_FAILPOINTS".to_owned(), format!("{name}=abort@{pass}"));
        }
        process.spawn();
        if failpoint.is_none() {
            process.announced().await;
        }
    }

    async fn start_all(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.start(*number, None).await;
        }
    }

    /// Waits until a process has died at its failpoint.
    async fn died(&mut self, number: usize, point: &str) {
        let status = self.trio.processes[number].ended().await;
        let hits = fs::read_to_string(self.trio.hits_file(number)).unwrap_or_default();
        let hit = hits.lines().any(|line| line.strip_suffix(" abort") == Some(point));
        let log = self.trio.processes[number].log_tail();
        assert!(hit && !status.success(), "orchestrator {number} ended by itself: {status}\n{log}");
        *self.broken.failpoints.entry(point.to_owned()).or_default() += 1;
    }

    /// Some answers of those that live.
    async fn others_go_on(&self, dead: &[usize]) {
        let alive = || {
            let all = 0..self.trio.processes.len();
            let living = all.filter(|number| !dead.contains(number));
            living.map(|number| self.tally.answered_by(number)).sum::<u64>()
        };
        let before = alive();
        until("the others answer", || async { alive() >= before + GOES_ON }).await;
    }

    /// Every client gets an answer that it asked for after now, and so some more than one.
    async fn everybody_works(&self, when: &str) {
        let before = self.tally.done();
        until(&format!("every client works around: {when}"), || async {
            self.tally.done().iter().zip(&before).all(|(now, before)| *now > before + 1)
        })
        .await;
    }

    async fn rolling(&mut self) {
        for number in 0..self.trio.processes.len() {
            let status = self.trio.processes[number].terminate().await;
            if !status.success() {
                self.tally.violation(format!("orchestrator {number} ended in order with {status}"));
            }
            self.broken.ended += 1;
            self.start(number, None).await;
            self.trio.ready(number).await;
        }
    }

    async fn restart_database(&mut self, how: Stop) {
        self.database.as_mut().expect("a database of the run's own").restart(how).await;
    }

    /// Ends some of the connections, or all but the one that asks.
    async fn cut(&mut self, percent: u32) {
        let mut connection = PgConnection::connect(self.ledger).await.expect("PostgreSQL answers");
        let ended: i64 = sqlx::query_scalar(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM ( \
               SELECT pid, row_number() OVER (ORDER BY pid) AS n, count(*) OVER () AS of \
               FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() \
             ) AS all_of_them WHERE n * 100 <= of * $1",
        )
        .bind(i64::from(percent))
        .fetch_one(&mut connection)
        .await
        .expect("connections can be ended");
        self.broken.connections += ended.unsigned_abs();
        let _ = connection.close().await;
    }
}

//! Writes that count only when replicas have them. A `WAIT` holds up whatever is behind it on its
//! connection, and takes long just when a replica is away. So these writes have connections of their
//! own, with one `WAIT` at a time on each: what comes meanwhile stands in line here, and goes
//! together, with one `WAIT` for all of it. However many there are, each is answered within two of them.

use super::{connect::Connection, lane::Lane};
use redis::{Cmd, Pipeline, RedisError, Value};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Connections, each with a batch under way.
const CONNECTIONS: usize = 4;
/// Lines of a cluster, each of as many slots: servers that have their replicas do not stand behind one
/// that has lost its own.
const LANES: usize = 64;
/// Slots of a cluster.
const SLOTS: usize = 16_384;
/// Writes of one batch, at most: they are small, but may have up to 1 MiB.
const BATCH: usize = 32;
/// Writes in line, at most.
const LINE: usize = 4_096;

/// What became of a write: the server's answer, which may be an error of its own, and whether enough
/// replicas have it. Or what became of its whole batch.
pub(super) type Outcome = Result<(Value, bool), Arc<RedisError>>;

#[derive(Debug)]
pub(super) struct Replicated {
    /// One, or one for each part of a cluster's slots.
    lines: Vec<mpsc::Sender<Write>>,
}

struct Write {
    cmd: Cmd,
    key: String,
    answer: oneshot::Sender<Outcome>,
}

/// How to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// For so many replicas.
    pub replicas: u32,
    /// So long.
    pub wait: Duration,
    /// Whether any two writes may go to one server together.
    pub together: bool,
}

impl Replicated {
    /// How many connections to make.
    pub const CONNECTIONS: usize = CONNECTIONS;

    /// On these connections. Its tasks end with it.
    pub fn on(lanes: Vec<Lane>, rule: Rule) -> Self {
        if rule.together {
            let (line, waiting) = mpsc::channel(LINE);
            let waiting = Arc::new(Mutex::new(waiting));
            for lane in lanes {
                tokio::spawn(serve(lane.into(), Arc::clone(&waiting), rule));
            }
            return Self { lines: vec![line] };
        }
        // A cluster's connection is one to each server, so that many lines may share it.
        let lanes: Vec<Arc<Lane>> = lanes.into_iter().map(Arc::new).collect();
        let lines = lanes.iter().cycle().take(LANES).map(|lane| {
            let (line, waiting) = mpsc::channel(LINE / LANES);
            tokio::spawn(serve(Arc::clone(lane), Arc::new(Mutex::new(waiting)), rule));
            line
        });
        Self { lines: lines.collect() }
    }

    /// Has it written. `None`: there are too many in line, or nobody serves them any more.
    pub async fn write(&self, cmd: Cmd, key: &str) -> Option<Outcome> {
        let (answer, outcome) = oneshot::channel();
        let line = match self.lines.as_slice() {
            [one] => one,
            lanes => lanes.get(lane_of(slot_of(key), lanes.len()))?,
        };
        line.try_send(Write { cmd, key: key.to_owned(), answer }).ok()?;
        outcome.await.ok()
    }
}

/// A key's slot: CRC-16/XMODEM of its hash tag, or of all of it (Redis cluster specification). The client
/// computes it too, and does not tell.
fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    crc % SLOTS as u16
}

/// Neighbours are mostly of one server.
fn lane_of(slot: u16, lanes: usize) -> usize {
    usize::from(slot) * lanes / SLOTS
}

async fn serve(lane: Arc<Lane>, waiting: Arc<Mutex<mpsc::Receiver<Write>>>, rule: Rule) {
    let most = if rule.together { BATCH } else { 1 };
    let mut batch = Vec::new();
    while waiting.lock().await.recv_many(&mut batch, most).await > 0 {
        // Whoever waits no longer has been told that it failed, and may have begun something else.
        let writes: Vec<Write> =
            batch.drain(..).filter(|write| !write.answer.is_closed()).collect();
        if !writes.is_empty() {
            let mut used = lane.take();
            match write_all(&mut used.connection, writes, rule).await {
                Heard::Something => lane.heard(),
                Heard::Nothing => lane.unheard(&used).await,
            }
        }
    }
}

/// Whether a connection gave an answer, any answer.
enum Heard {
    Something,
    Nothing,
}

async fn write_all(connection: &mut Connection, writes: Vec<Write>, rule: Rule) -> Heard {
    let mut pipe = Pipeline::with_capacity(writes.len() + 1);
    let mut answers = Vec::with_capacity(writes.len());
    let mut key = String::new();
    for Write { cmd, key: at, answer } in writes {
        pipe.add_command(cmd);
        answers.push(answer);
        key = at;
    }
    let wait_ms = u64::try_from(rule.wait.as_millis()).unwrap_or(u64::MAX).max(1);
    pipe.cmd("WAIT").arg(rule.replicas).arg(wait_ms);
    // Nobody may wait for the answer any more: then nothing is said.
    match connection.pipeline(pipe, answers.len() + 1, &key).await {
        Ok(mut values) => {
            let have = values.pop().and_then(|have| redis::from_redis_value::<u32>(have).ok());
            let enough = have.is_some_and(|have| have >= rule.replicas);
            for (answer, value) in answers.into_iter().zip(values) {
                let _ = answer.send(Ok((value, enough)));
            }
            Heard::Something
        }
        Err(error) => {
            let heard = if error.is_timeout() { Heard::Nothing } else { Heard::Something };
            let error = Arc::new(error);
            for answer in answers {
                let _ = answer.send(Err(Arc::clone(&error)));
            }
            heard
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_slots_side_by_side() {
        assert_eq!((lane_of(0, LANES), lane_of(16_383, LANES)), (0, LANES - 1));
        let mut before = 0;
        for slot in 0..16_384 {
            let lane = lane_of(slot, LANES);
            assert!(lane == before || lane == before + 1, "{slot}");
            before = lane;
        }
    }

    #[test]
    fn slots_are_the_clients() {
        use redis::cluster_routing::Slot;
        for key in ["", "123456789", "p:{s:show}:a", "{s:show}:b", "{}x", "a{b", "é{ü}"] {
            assert_eq!(Slot::new(slot_of(key)), Some(Slot::for_key(key)), "{key}");
        }
    }
}

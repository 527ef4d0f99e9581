//! Writes that count only when replicas have them. A `WAIT` holds up whatever is behind it on its
//! connection, and takes long just when a replica is away. So these writes have connections of their
//! own, with one `WAIT` at a time on each: what comes meanwhile stands in line here, and goes
//! together, with one `WAIT` for all of it. However many there are, each is answered within two of them.

use super::connect::Connection;
use redis::{Cmd, Pipeline, RedisError, Value};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Connections, each with a batch under way.
const CONNECTIONS: usize = 4;
/// Writes of one batch, at most: they are small, but may have up to 1 MiB.
const BATCH: usize = 32;
/// Writes in line, at most.
const LINE: usize = 4_096;

/// What became of a write: the server's answer, which may be an error of its own, and whether enough
/// replicas have it. Or what became of its whole batch.
pub(super) type Outcome = Result<(Value, bool), Arc<RedisError>>;

#[derive(Debug)]
pub(super) struct Replicated {
    line: mpsc::Sender<Write>,
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
    pub fn on(connections: Vec<Connection>, rule: Rule) -> Self {
        let (line, waiting) = mpsc::channel(LINE);
        let waiting = Arc::new(Mutex::new(waiting));
        for connection in connections {
            tokio::spawn(serve(connection, Arc::clone(&waiting), rule));
        }
        Self { line }
    }

    /// Has it written. `None`: there are too many in line, or nobody serves them any more.
    pub async fn write(&self, cmd: Cmd, key: &str) -> Option<Outcome> {
        let (answer, outcome) = oneshot::channel();
        self.line.try_send(Write { cmd, key: key.to_owned(), answer }).ok()?;
        outcome.await.ok()
    }
}

async fn serve(mut connection: Connection, waiting: Arc<Mutex<mpsc::Receiver<Write>>>, rule: Rule) {
    let most = if rule.together { BATCH } else { 1 };
    let mut batch = Vec::new();
    while waiting.lock().await.recv_many(&mut batch, most).await > 0 {
        // Whoever waits no longer has been told that it failed, and may have begun something else.
        let writes: Vec<Write> =
            batch.drain(..).filter(|write| !write.answer.is_closed()).collect();
        if !writes.is_empty() {
            write_all(&mut connection, writes, rule).await;
        }
    }
}

async fn write_all(connection: &mut Connection, writes: Vec<Write>, rule: Rule) {
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
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                let _ = answer.send(Err(Arc::clone(&error)));
            }
        }
    }
}

//! A connection for what may take long. That an answer is late is no sign there that the server is away; but
//! where nothing came back twice in a row, the connection itself may be dead without anybody having said so
//! (a host or a firewall that went away in silence), and is replaced.

use super::connect::{Connection, Way};
use redis::RedisResult;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many times in a row.
const SILENT: u32 = 2;

#[derive(Debug)]
pub(super) struct Lane {
    way: Way,
    /// How long an answer may take.
    longest: Duration,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    connection: Connection,
    /// Counts connections: what is said of an older one is no news.
    number: u64,
    silent: u32,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct InUse {
    pub connection: Connection,
    number: u64,
}

impl Lane {
    pub async fn make(way: &Way, longest: Duration) -> RedisResult<Self> {
        let connection = way.go(longest).await?;
        let now = Mutex::new(Now { connection, number: 0, silent: 0 });
        Ok(Self { way: way.clone(), longest, now })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take(&self) -> InUse {
        let now = self.now();
        InUse { connection: now.connection.clone(), number: now.number }
    }

    /// Something came back.
    pub fn heard(&self) {
        self.now().silent = 0;
    }

    /// Nothing came back in time. Returns when the connection is replaced, if it is. A cluster's client looks after
    /// its connections itself.
    pub async fn unheard(&self, used: &InUse) {
        if matches!(self.way, Way::Cluster(_)) {
            return;
        }
        let number = {
            let mut now = self.now();
            if now.number != used.number {
                return;
            }
            now.silent += 1;
            if now.silent < SILENT {
                return;
            }
            // Whoever comes meanwhile does not replace it as well.
            now.silent = 0;
            now.number
        };
        match self.way.go(self.longest).await {
            Ok(connection) => {
                let mut now = self.now();
                if now.number == number {
                    tracing::warn!("a connection to Redis on which nothing came back was replaced");
                    *now = Now { connection, number: number + 1, silent: 0 };
                }
            }
            Err(error) => tracing::warn!(%error, "a silent connection to Redis was not replaced"),
        }
    }
}

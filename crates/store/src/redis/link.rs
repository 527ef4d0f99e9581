//! The way to the servers. Either it is up, and a call goes out at once on a shared connection, or
//! it is down, and a call fails at once: nothing waits in line behind a server that is away. One
//! task in the background brings it up again.

use super::{
    connect::{After, Connection, connect},
    lane::Lane,
    options::RedisOptions,
    replicated::{Outcome, Replicated, Rule},
    script::Script,
};
use crate::{Sight, StoreError};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};
use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pauses between tries to connect: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How many times as long as a record's answer one of a write that waits for replicas may take, while
/// somebody is there; and one with media in it.
const SLOW: u32 = 2;
const SLOW_MEDIA: u32 = 10;
/// Who is connected is asked at most so often, however many want to know.
const LIST_FRESH: Duration = Duration::from_millis(250);
/// Connections for media: what is large there holds up less that is small.
const MEDIA: usize = 4;

/// What goes over a link. One for both would have records wait behind media, until the servers
/// count as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Records: each answer is there soon, or nobody is.
    Records,
    /// Files of up to many MiB.
    Media,
}

#[derive(Debug)]
pub(super) struct Link {
    options: RedisOptions,
    purpose: Purpose,
    /// Of this process, at the servers.
    name: String,
    state: Mutex<State>,
    turn: AtomicUsize,
    /// Who was connected when it was asked last.
    listed: tokio::sync::Mutex<Option<Listed>>,
    /// For the task in the background, which must not keep the link alive.
    me: Weak<Self>,
}

#[derive(Debug)]
enum State {
    Up(Arc<Connections>),
    /// Why; the task that connects is at it.
    Down(String),
}

/// One set, from one time of connecting.
#[derive(Debug)]
struct Connections {
    quick: Connection,
    /// The server knows `quick` by the link's name.
    named: bool,
    /// When it was made: nothing was lost on it since.
    since: Instant,
    /// For writes that replicas must have, where there are any.
    replicated: Option<Replicated>,
    /// For media, on a link that is for them.
    media: Vec<Arc<Lane>>,
    /// Cancelled when nobody uses this set any more.
    gone: CancellationToken,
    /// Whether anybody is there is being asked just now.
    doubted: AtomicBool,
}

/// Names of processes that were connected.
#[derive(Debug)]
struct Listed {
    /// Who was asked; another set of connections says nothing of it.
    on: Weak<Connections>,
    at: Instant,
    /// `None`: nobody tells.
    names: Option<Arc<HashSet<String>>>,
}

/// Whether a write must not be lost with one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The primary has it.
    Here,
    /// So many replicas as configured have it too.
    Replicated,
}

impl Link {
    /// Tries to connect once; a server that is away is no error, it may come.
    pub async fn open(options: RedisOptions, purpose: Purpose) -> Arc<Self> {
        let name = format!("penstock-{:016x}", rand::random::<u64>());
        let first = match Self::make(&options, purpose, &name).await {
            Ok(connections) => State::Up(Arc::new(connections)),
            Err(error) => State::Down(words(&error)),
        };
        let down = matches!(first, State::Down(_));
        let link = Arc::new_cyclic(|me| Self {
            options,
            purpose,
            name,
            state: Mutex::new(first),
            turn: AtomicUsize::new(0),
            listed: tokio::sync::Mutex::default(),
            me: me.clone(),
        });
        if down {
            Self::bring_up(Arc::downgrade(&link));
        }
        link
    }

    pub fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// Runs a script. It may be run twice when an answer was lost on the way; each is written for that.
    pub async fn run<T: FromRedisValue, K: AsRef<str>>(
        &self,
        script: &Script,
        keys: &[K],
        args: &[Vec<u8>],
        keep: Keep,
    ) -> Result<T, StoreError> {
        let key = keys.first().map(AsRef::as_ref).unwrap_or_default();
        let answer = match self.send(script.by_hash(keys, args), key, keep).await {
            // It was restarted, or is another one than before.
            Err(Failure::NoScript) => self.send(script.whole(keys, args), key, keep).await,
            other => other,
        };
        read(answer?)
    }

    /// Whether anybody is there.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let connections = self.connections()?;
        Ok(self.quickly(&connections, redis::cmd("PING")).await.map(drop)?)
    }

    /// How the servers know this process now, if they do.
    pub fn seen_as(&self) -> Option<String> {
        let connections = self.connections().ok()?;
        connections.named.then(|| self.name.clone())
    }

    /// Whether a process is connected. Servers that do not tell are no reason to fail.
    pub async fn sight(&self, name: &str) -> Result<Sight, StoreError> {
        let connections = self.connections()?;
        // Behind sentinels there may be an old primary, cut off, where others still are and whose word counts for
        // them unless replicas have to have it.
        let at_one_primary = self.options.replicas > 0 || !self.options.url.is_sentinel();
        if !connections.named || !at_one_primary {
            return Ok(Sight::Unknown);
        }
        let Some(names) = self.names(&connections).await? else { return Ok(Sight::Unknown) };
        if names.contains(name) {
            return Ok(Sight::Here);
        }
        let unbroken = connections.since.elapsed().as_millis();
        Ok(Sight::Gone { unbroken_ms: u64::try_from(unbroken).unwrap_or(u64::MAX) })
    }

    /// Who is connected, if the servers tell: a moment ago at most. Whoever asks at a time is told the same.
    async fn names(
        &self,
        connections: &Arc<Connections>,
    ) -> Result<Option<Arc<HashSet<String>>>, StoreError> {
        let mut listed = self.listed.lock().await;
        if let Some(known) = &*listed
            && std::ptr::eq(known.on.as_ptr(), Arc::as_ptr(connections))
            && known.at.elapsed() < LIST_FRESH
        {
            return Ok(known.names.clone());
        }
        let mut list = redis::cmd("CLIENT");
        list.arg("LIST").arg("TYPE").arg("NORMAL");
        let names = match self.quickly(connections, list).await {
            Ok(answer) => {
                let clients: String = read(answer)?;
                let words = clients.split_ascii_whitespace();
                let names = words.filter_map(|word| word.strip_prefix("name="));
                let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
                Some(Arc::new(names.collect()))
            }
            Err(_) if self.uses(connections) => None,
            Err(failure) => return Err(failure.into()),
        };
        let (on, at) = (Arc::downgrade(connections), Instant::now());
        *listed = Some(Listed { on, at, names: names.clone() });
        Ok(names)
    }

    /// Whether these are the connections in use.
    fn uses(&self, connections: &Arc<Connections>) -> bool {
        matches!(&*self.state(), State::Up(current) if Arc::ptr_eq(current, connections))
    }

    /// One command.
    pub async fn ask<T: FromRedisValue>(&self, cmd: Cmd) -> Result<T, StoreError> {
        read(self.send(cmd, "", Keep::Here).await?)
    }

    async fn send(&self, cmd: Cmd, key: &str, keep: Keep) -> Result<Value, Failure> {
        let connections = self.connections()?;
        match (keep, &connections.replicated) {
            (Keep::Replicated, Some(replicated)) => {
                let written = self.slowly(&connections, SLOW, replicated.write(cmd, key)).await?;
                self.replicated(&connections, written)
            }
            _ if connections.media.is_empty() => self.quickly(&connections, cmd).await,
            _ => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % connections.media.len();
                let Some(lane) = connections.media.get(turn) else {
                    return self.quickly(&connections, cmd).await;
                };
                let mut used = lane.take();
                let work = used.connection.command(&cmd);
                let answer = self.slowly(&connections, SLOW_MEDIA, work).await;
                match &answer {
                    Ok(Ok(_)) => lane.heard(),
                    Ok(Err(error)) if !error.is_timeout() => {}
                    // Behind the back of whoever waits.
                    _ => {
                        let lane = Arc::clone(lane);
                        tokio::spawn(async move { lane.unheard(&used).await });
                    }
                }
                answer?.map_err(|error| self.slow_failed(&connections, &error))
            }
        }
    }

    async fn quickly(&self, used: &Arc<Connections>, cmd: Cmd) -> Result<Value, Failure> {
        let mut quick = used.quick.clone();
        // A cluster's client may ask twice, at two nodes.
        let longest = self.options.timeout * 2;
        let answer = tokio::time::timeout(longest, quick.command(&cmd)).await;
        answer.unwrap_or_else(|_| Err(timed_out())).map_err(|error| self.failed(used, &error))
    }

    /// Waits for something that may take longer than one answer, and is no sign that nobody is there: that is
    /// asked beside it.
    async fn slowly<T>(
        &self,
        used: &Arc<Connections>,
        times: u32,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        for _ in 0..times {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = used.gone.cancelled() => break,
                () = tokio::time::sleep(self.options.timeout) => self.doubt(used),
            }
        }
        Err(StoreError::Unavailable(words(&timed_out())).into())
    }

    fn replicated(
        &self,
        used: &Arc<Connections>,
        written: Option<Outcome>,
    ) -> Result<Value, Failure> {
        let too_many = || StoreError::Unavailable("too many writes wait for replicas".to_owned());
        match written.ok_or_else(too_many)? {
            Ok((value, enough)) => {
                let value = value.extract_error().map_err(|error| self.failed(used, &error))?;
                let few = || {
                    let replicas = self.options.replicas;
                    format!("a write reached fewer than {replicas} replicas in time")
                };
                if enough { Ok(value) } else { Err(StoreError::Unavailable(few()).into()) }
            }
            Err(error) => Err(self.slow_failed(used, &error)),
        }
    }

    /// That it ends late is no sign either.
    fn slow_failed(&self, used: &Arc<Connections>, error: &RedisError) -> Failure {
        if !error.is_timeout() {
            return self.failed(used, error);
        }
        self.doubt(used);
        StoreError::Unavailable(words(error)).into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> Result<Arc<Connections>, StoreError> {
        match &*self.state() {
            State::Up(connections) => Ok(connections.clone()),
            State::Down(why) => Err(StoreError::Unavailable(why.clone())),
        }
    }

    /// What a failure means for the caller, and for the link.
    fn failed(&self, used: &Arc<Connections>, error: &RedisError) -> Failure {
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
            return Failure::NoScript;
        }
        if error.code() == Some("OOM") {
            return Failure::Store(StoreError::Full("the memory of Redis"));
        }
        if error.code() == Some("WRONGTYPE") {
            return Failure::Store(StoreError::Corrupt("record: the key is of another kind"));
        }
        let why = words(error);
        match used.quick.after(error) {
            After::Up => {}
            After::Away => self.give_up(used, &why),
            After::Doubtful => self.doubt(used),
        }
        Failure::Store(StoreError::Unavailable(why))
    }

    fn give_up(&self, used: &Arc<Connections>, why: &str) {
        let mut state = self.state();
        // Not if somebody else did, and it is up again since.
        if matches!(&*state, State::Up(current) if Arc::ptr_eq(current, used)) {
            tracing::warn!(redis = %self.options.url, why, "Redis is away");
            *state = State::Down(why.to_owned());
            used.gone.cancel();
            Self::bring_up(self.me.clone());
        }
    }

    /// Asks, behind the back of whoever waits, whether anybody is there.
    fn doubt(&self, used: &Arc<Connections>) {
        if used.doubted.swap(true, Ordering::AcqRel) {
            return;
        }
        let (link, used, longest) = (self.me.clone(), used.clone(), self.options.timeout);
        tokio::spawn(async move {
            let mut connection = used.quick.clone();
            let asked = tokio::time::timeout(longest, connection.anybody()).await;
            used.doubted.store(false, Ordering::Release);
            let why = match asked {
                Ok(Ok(())) => return,
                Ok(Err(error)) => words(&error),
                Err(_) => words(&timed_out()),
            };
            if let Some(link) = link.upgrade() {
                link.give_up(&used, &why);
            }
        });
    }

    /// Connects in the background until it works or the store is dropped.
    fn bring_up(link: Weak<Self>) {
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                let Some(link) = link.upgrade() else { return };
                let made = Self::make(&link.options, link.purpose, &link.name).await;
                let mut state = link.state();
                match made {
                    Ok(connections) => {
                        tracing::info!(redis = %link.options.url, "Redis is back");
                        *state = State::Up(Arc::new(connections));
                        return;
                    }
                    Err(error) => *state = State::Down(words(&error)),
                }
            }
        });
    }

    async fn make(
        options: &RedisOptions,
        purpose: Purpose,
        name: &str,
    ) -> Result<Connections, RedisError> {
        let all = async {
            let (way, mut quick) = connect(options).await?;
            let since = Instant::now();
            let named = match purpose {
                Purpose::Media => false,
                Purpose::Records => known_by(&mut quick, name, options).await?,
            };
            let media = match purpose {
                Purpose::Records => 0,
                Purpose::Media => MEDIA,
            };
            let media = (0..media).map(|_| Lane::make(&way, options.timeout * SLOW_MEDIA));
            let media = futures::future::try_join_all(media).await?;
            let media = media.into_iter().map(Arc::new).collect();
            let replicated = match (purpose, options.replicas) {
                (Purpose::Media, _) | (_, 0) => None,
                (Purpose::Records, replicas) => {
                    let (wait, longest) = (options.timeout / 2, options.timeout * SLOW);
                    let lanes = (0..Replicated::CONNECTIONS).map(|_| Lane::make(&way, longest));
                    let lanes = futures::future::try_join_all(lanes).await?;
                    let together = !options.url.is_cluster();
                    Some(Replicated::on(lanes, Rule { replicas, wait, together }))
                }
            };
            let (gone, doubted) = (CancellationToken::new(), AtomicBool::new(false));
            Ok(Connections { quick, named, since, replicated, media, gone, doubted })
        };
        // A cluster's client waits for each server that is silent, more than once, and then does without it.
        let longest = options.timeout * if options.url.is_cluster() { 6 } else { 2 };
        tokio::time::timeout(longest, all).await.unwrap_or_else(|_| Err(timed_out()))
    }
}

/// Has a server know a connection by a name. One that may not be told goes without, and so does a cluster, whose
/// servers each know somebody else.
async fn known_by(
    connection: &mut Connection,
    name: &str,
    options: &RedisOptions,
) -> Result<bool, RedisError> {
    if options.url.is_cluster() {
        return Ok(false);
    }
    let mut set = redis::cmd("CLIENT");
    set.arg("SETNAME").arg(name);
    match connection.command(&set).await {
        Ok(_) => Ok(true),
        Err(error) if connection.after(&error) == After::Up => Ok(false),
        Err(error) => Err(error),
    }
}

/// Between sending and the port's errors.
enum Failure {
    NoScript,
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoScript => Self::Unavailable("a script is not known".to_owned()),
            Failure::Store(error) => error,
        }
    }
}

fn read<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    redis::from_redis_value(answer).map_err(|_| StoreError::Corrupt("answer"))
}

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

/// For logs and `/readyz`.
fn words(error: &RedisError) -> String {
    error.to_string().chars().take(200).collect()
}

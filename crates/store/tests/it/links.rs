//! Connections to Redis whose other end went away without a word, and who is seen at the servers.

use crate::redis::{T0, options};
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use penstock_store::{
    DocKey, DocStore, MemberStore, MemoryStore, RedisOptions, RedisStore, SegmentKey, SegmentStore,
    SessionStore, Sight, StoreError, StoredSegment,
};
use penstock_testkit::{
    redis::{RedisPair, RedisServer},
    until,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A way to a server on which connections can go dead: they stay open, and nothing comes through.
struct Way {
    at: SocketAddr,
    made: Arc<AtomicUsize>,
    /// Connections from the second to before this one are dead.
    dead: Arc<AtomicUsize>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (made, dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, until) = (Arc::clone(&made), Arc::clone(&dead));
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let ((read, write), (far_read, far_write)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(read, far_write, number, Arc::clone(&until)));
                tokio::spawn(pass(far_read, write, number, Arc::clone(&until)));
            }
        });
        Self { at, made, dead }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.at)
    }

    /// All that there are die, but for the first: on it the store asks whether anybody is there.
    fn kill_all_but_the_first(&self) {
        let made = self.made.load(Ordering::SeqCst);
        assert!(made > 1, "{made}");
        self.dead.store(made, Ordering::SeqCst);
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: usize,
    dead: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let is_dead = (1..dead.load(Ordering::SeqCst)).contains(&number);
        if !is_dead && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Short, so that silence is noticed soon. A busy machine that is slower makes the store connect anew.
const TIMEOUT: Duration = Duration::from_millis(1_000);

#[tokio::test]
async fn a_silent_connection_of_replicated_writes_is_replaced() {
    let pair = RedisPair::start().await;
    let way = Way::to(pair.primary.port()).await;
    let store =
        RedisStore::open(RedisOptions { timeout: TIMEOUT, replicas: 1, ..options(&way.url()) })
            .await;
    let write = |n: u32| {
        let (store, key) = (store.clone(), DocKey::new("job", n.to_string()));
        async move { store.put_doc(&key, None, Bytes::new(), 600_000, T0).await.is_ok() }
    };
    until("a write counts", || write(0)).await;
    way.kill_all_but_the_first();
    // One after the other, so that each has the connection whose turn it is.
    let number = AtomicUsize::new(1);
    until("writes count again, whichever connection has its turn", || async {
        for _ in 0..8 {
            let next = u32::try_from(number.fetch_add(1, Ordering::SeqCst)).unwrap();
            if !write(next).await {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test]
async fn a_silent_connection_of_media_is_replaced() {
    let server = RedisServer::on_port(&[]).await;
    let way = Way::to(server.port()).await;
    let like = RedisOptions { timeout: TIMEOUT, ..options(&way.url()) };
    let media = RedisStore::open(like).await.segments(100_000).await;
    let segment = StoredSegment { data: vec![7; 9].into(), format: SegmentFormat::MpegTs };
    let put = || async {
        let puts = (0..8).map(|n| {
            let (media, segment) = (&media, segment.clone());
            async move { media.put(&SegmentKey(n.to_string()), segment, 600_000, T0).await.is_ok() }
        });
        futures::future::join_all(puts).await.into_iter().all(|stored| stored)
    };
    until("media is taken", put).await;
    way.kill_all_but_the_first();
    until("media is taken again, on every connection", put).await;
}

/// The system looks after idle connections: `/proc/net/tcp` says which timer a socket has.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_connections_are_looked_after() {
    const ESTABLISHED: &str = "01";
    const KEEPALIVE: &str = "02:";
    let server = RedisServer::on_port(&[]).await;
    let url = format!("redis://127.0.0.1:{}", server.port());
    let store = RedisStore::open(options(&url)).await;
    until("it answers", || async { store.ping().await.is_ok() }).await;
    let there = format!(":{:04X}", server.port());
    until("each connection has its timer", || async {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut ours = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut ours = ours
            .by_ref()
            .filter(|row| row.len() > 5 && row[2].ends_with(&there) && row[3] == ESTABLISHED)
            .peekable();
        ours.peek().is_some() && ours.all(|row| row[5].starts_with(KEEPALIVE))
    })
    .await;
}

#[tokio::test]
async fn who_ends_is_seen_to_be_gone() {
    let server = RedisServer::on_port(&[]).await;
    let url = format!("redis://127.0.0.1:{}", server.port());
    let one = RedisStore::open(options(&url)).await;
    let other = RedisStore::open(options(&url)).await;
    let name = other.seen_as().expect("servers tell");
    assert_ne!(one.seen_as().expect("servers tell"), name);
    assert_eq!(one.sight(&name).await, Ok(Sight::Here));
    drop(other);
    until("it is gone", || async { matches!(one.sight(&name).await, Ok(Sight::Gone { .. })) })
        .await;
    // A break: everybody connects anew, and what was seen before it says nothing.
    let before = std::time::Instant::now();
    assert_eq!(server.cli(&["client", "kill", "type", "normal"]), "1");
    until("it is back", || async { one.ping().await.is_ok() }).await;
    let Ok(Sight::Gone { unbroken_ms }) = one.sight(&name).await else { panic!("gone") };
    assert!(u128::from(unbroken_ms) <= before.elapsed().as_millis());
    assert_eq!(one.sight(&one.seen_as().expect("servers tell")).await, Ok(Sight::Here));
}

/// However many wait for it to be told.
#[tokio::test]
async fn who_is_seen_is_asked_once_for_all() {
    let server = RedisServer::on_port(&[]).await;
    let url = format!("redis://127.0.0.1:{}", server.port());
    let store = RedisStore::open(options(&url)).await;
    let me = store.seen_as().expect("servers tell");
    let asked = || {
        let said = server.cli(&["info", "commandstats"]);
        let line = said.lines().find(|line| line.starts_with("cmdstat_client|list:"));
        let calls = line.and_then(|line| line.split_once("calls=")?.1.split(',').next());
        calls.map_or(0, |calls| calls.parse::<usize>().unwrap())
    };
    let before = asked();
    let sights = futures::future::join_all((0..400).map(|_| store.sight(&me))).await;
    assert!(sights.iter().all(|sight| *sight == Ok(Sight::Here)), "{sights:?}");
    // Once; oftener when a busy machine takes longer than an answer counts.
    let asked = asked() - before;
    assert!((1..=40).contains(&asked), "{asked}");
}

/// Who may not ask, and who is alone, knows nothing; that is no failure of the store.
#[tokio::test]
async fn nobody_is_taken_for_gone_for_want_of_a_view() {
    let memory = MemoryStore::default();
    assert_eq!((memory.seen_as(), memory.sight("a").await), (None, Ok(Sight::Unknown)));
    let server = RedisServer::on_port(&[]).await;
    let url = format!("redis://user@127.0.0.1:{}", server.port());
    for (rights, seen) in [("+ping +hello", false), ("+ping +hello +client|setname", true)] {
        let mut rule = vec!["acl", "setuser", "user", "reset", "on", ">secret", "~*"];
        rule.extend(rights.split(' '));
        assert_eq!(server.cli(&rule), "OK");
        let like = RedisOptions { password: Some("secret".into()), ..options(&url) };
        let store = RedisStore::open(like).await;
        assert_eq!(store.ping().await, Ok::<(), StoreError>(()));
        assert_eq!(store.seen_as().is_some(), seen, "{rights}");
        assert_eq!(store.sight("a").await, Ok(Sight::Unknown), "{rights}");
        assert_eq!(store.ping().await, Ok(()), "it is there all the same");
    }
}

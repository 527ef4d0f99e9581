//! The Redis backend on real servers: the suite that every backend passes, in each topology, and what
//! becomes of it when servers go away.

use bytes::Bytes;
use penstock_domain::{ManifestId, SegmentFormat, StreamId};
use penstock_store::{
    Cas, DocKey, DocStore, Fence, HlsStore, Lease, MemberStore, OrchestratorSessionStore, OwnerId,
    RedisOptions, RedisStore, RedisUrl, Saved, SegmentKey, SegmentStore, SessionKey, SessionRecord,
    SessionStore, Sight, StoreError, StoredSegment, StreamStore, UnixMs, conformance, idle,
};
use penstock_testkit::{
    figure, places,
    redis::{RedisCluster, RedisPair, RedisServer},
    until, until_some,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Options for a URL, with a prefix that no other store has. The timeout is for a busy machine.
pub fn options(url: &str) -> RedisOptions {
    let prefix = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let url = RedisUrl::parse(url).unwrap();
    RedisOptions { prefix, timeout: Duration::from_secs(20), ..RedisOptions::new(url) }
}

async fn store(url: &str) -> RedisStore {
    RedisStore::open(options(url)).await
}

#[tokio::test]
async fn one_server_conforms() {
    let server = RedisServer::start().await;
    let url = server.url();
    conformance::all(|| store(&url)).await;
    // Nothing stays for ever.
    for key in server.cli(&["keys", "*"]).lines() {
        let ttl: i64 = server.cli(&["pttl", key]).parse().unwrap();
        assert!(ttl > 0, "{key} has no TTL");
    }
}

#[tokio::test]
async fn a_cluster_conforms() {
    let cluster = RedisCluster::start().await;
    let url = cluster.url();
    conformance::all(|| store(&url)).await;
    for node in &cluster.nodes {
        assert_ne!(node.cli(&["dbsize"]), "0", "each node has its share");
    }
}

#[tokio::test]
async fn the_primary_of_a_sentinel_conforms_and_waits_for_its_replica() {
    let pair = RedisPair::start().await;
    let url = pair.url();
    conformance::all(|| async {
        RedisStore::open(RedisOptions { replicas: 1, ..options(&url) }).await
    })
    .await;
}

/// Each primary of a cluster has its own replica, and a write waits for the one of its slot. What was
/// acknowledged so is there when that primary dies.
#[tokio::test]
async fn a_cluster_with_replicas_conforms_and_waits_for_the_right_one() {
    let mut cluster = RedisCluster::replicated().await;
    let url = cluster.url();
    let store = async || {
        // Half of it is how long a write waits for a replica, which a busy machine keeps waiting.
        let timeout = Duration::from_secs(8);
        RedisStore::open(RedisOptions { replicas: 1, timeout, ..options(&url) }).await
    };
    conformance::all(&store).await;

    let store = store().await;
    let key = |n: u32| DocKey::new("job", n.to_string());
    let value = || Bytes::from_static(b"acknowledged");
    let mut versions = Vec::new();
    for n in 0..12 {
        let put = store.put_doc(&key(n), None, value(), 600_000, T0).await.unwrap();
        let Cas::Stored(version) = put else { panic!("{n}: {put:?}") };
        versions.push(version);
    }
    // The replica of the first primary hears nothing from now on: nothing can be promised for its slots,
    // and the others go on as they were.
    let names = cluster.nodes[0].cli(&["keys", "*"]);
    let (its, others): (Vec<u32>, Vec<u32>) =
        (0..12).partition(|n| names.contains(&format!("{{d:job:{n}}}")));
    assert!(!its.is_empty() && !others.is_empty());
    cluster.replicas[0].pause();
    let put = async |n: u32| {
        let expected = Some(versions[n as usize]);
        store.put_doc(&key(n), expected, Bytes::from_static(b"next"), 600_000, T0).await
    };
    let refused = put(its[0]).await;
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("replica")),
        "{refused:?}"
    );
    assert!(matches!(put(others[0]).await, Ok(Cas::Stored(_))));
    cluster.replicas[0].resume();
    until("the replica goes on", || {
        let linked = cluster.replicas[0].cli(&["info", "replication"]);
        async move { linked.contains("master_link_status:up") }
    })
    .await;

    cluster.nodes[0].kill9();
    until("its replica has taken over", || {
        cluster.replicas[0].cli(&["cluster", "failover", "takeover"]);
        let now = cluster.replicas[0].cli(&["info", "replication"]);
        async move { now.contains("role:master") }
    })
    .await;
    for n in its.iter().skip(1) {
        until("the store finds the new primary", || async {
            store.doc(&key(*n), T0).await.is_ok()
        })
        .await;
        let kept = store.doc(&key(*n), T0).await.unwrap().unwrap();
        assert_eq!((kept.value, kept.version), (value(), versions[*n as usize]), "{n}");
    }
    // It has no replica of its own, so nothing more can be promised there; elsewhere it can.
    let late = put(its[1]).await;
    assert!(
        matches!(&late, Err(StoreError::Unavailable(why)) if why.contains("replica")),
        "{late:?}"
    );
    assert!(matches!(put(others[1]).await, Ok(Cas::Stored(_))));
}

pub const T0: UnixMs = UnixMs(1_700_000_000_000);

fn at(ms: u64) -> UnixMs {
    T0.plus_ms(ms)
}

fn owner(name: &str) -> OwnerId {
    OwnerId(name.into())
}

fn session() -> SessionKey {
    SessionKey { scope: "stream:a".into(), orchestrator: "https://o:8935".into() }
}

fn record(state: &str) -> SessionRecord {
    SessionRecord {
        info: vec![1, 2, 3],
        info_at: T0,
        manifest_id: ManifestId::new("0a1b2c3d").unwrap(),
        payment_state: Some(state.to_owned()),
        credential: None,
        purchase: None,
    }
}

fn granted(lease: Lease) -> Fence {
    match lease {
        Lease::Granted { fence, .. } => fence,
        Lease::Held { .. } => panic!("expected the lease"),
    }
}

fn away<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_)))
}

/// The promoted replica never heard of the newest lease, of the newest version: whoever holds them
/// must not write over what others did since.
#[tokio::test]
async fn a_failover_that_forgets_lets_nobody_write_twice() {
    let mut pair = RedisPair::start().await;
    // Long enough for a fail-over, short enough to notice a dead primary.
    let store =
        RedisStore::open(RedisOptions { timeout: Duration::from_secs(5), ..options(&pair.url()) })
            .await;
    let (key, doc, ttl) = (session(), DocKey::new("job", "1"), 600_000);
    let old = granted(store.lease_session(&key, &owner("z"), 1_000, at(0)).await.unwrap());
    store.save_session(&key, old, &record("kept"), ttl, at(0)).await.unwrap();
    store.release_session(&key, &owner("z"), at(0)).await.unwrap();
    let put = |expected, text: &'static str, ms| {
        store.put_doc(&doc, expected, Bytes::from_static(text.as_bytes()), ttl, at(ms))
    };
    let Cas::Stored(kept) = put(None, "kept", 0).await.unwrap() else { panic!() };
    until("the replica has all of it", || {
        // Replication keeps the order, and the last write made a key.
        let have = pair.replica.cli(&["dbsize"]) == pair.primary.cli(&["dbsize"]);
        async move { have }
    })
    .await;
    // From here on the replica hears nothing: what follows is the second that is lost.
    pair.replica.cli(&["replicaof", "no", "one"]);
    let lost = granted(store.lease_session(&key, &owner("a"), 60_000, at(100)).await.unwrap());
    assert_eq!(store.save_session(&key, lost, &record("lost"), ttl, at(101)).await, Ok(Saved::Yes));
    let Cas::Stored(lost_version) = put(Some(kept), "lost", 100).await.unwrap() else { panic!() };
    pair.primary.kill9();
    let after = store_on(&pair.replica, &store).await;
    // What was there before is there still, with its version; what was lost is as if it never was.
    let read = after.session(&key, at(200)).await.unwrap().unwrap();
    assert_eq!(read.payment_state.as_deref(), Some("kept"));
    assert_eq!(after.doc(&doc, at(200)).await.unwrap().unwrap().version, kept);
    // Another owner gets the lease that was lost with another fence, and the old holder is refused.
    let new = granted(after.lease_session(&key, &owner("b"), 1_000, at(100)).await.unwrap());
    assert!(new > old && new != lost);
    let late = after.save_session(&key, lost, &record("late"), ttl, at(201)).await;
    assert_eq!(late, Ok(Saved::Fenced));
    assert_eq!(after.remove_session(&key, lost, at(201)).await, Ok(Saved::Fenced));
    after.save_session(&key, new, &record("new"), ttl, at(202)).await.unwrap();
    // The same for versions: the other writer's next one is not the one that was lost.
    let text = |t: &'static str| Bytes::from_static(t.as_bytes());
    let other = after.put_doc(&doc, Some(kept), text("other"), ttl, at(100)).await.unwrap();
    let Cas::Stored(other) = other else { panic!() };
    assert!(other > kept && other != lost_version);
    let late = after.put_doc(&doc, Some(lost_version), text("late"), ttl, at(203)).await.unwrap();
    assert!(matches!(late, Cas::Conflict(Some(_))));
    assert_eq!(after.doc(&doc, at(204)).await.unwrap().unwrap().value, "other");
}

/// The same keys on another server.
async fn store_on(server: &RedisServer, like: &RedisStore) -> RedisStore {
    let url = RedisUrl::parse(&server.url()).unwrap();
    RedisStore::open(RedisOptions { url, ..like.options().clone() }).await
}

/// A sentinel promotes the replica, and the store follows by itself.
#[tokio::test]
async fn it_follows_the_sentinel() {
    let mut pair = RedisPair::start().await;
    let url = pair.url();
    let timeout = Duration::from_secs(4);
    let store = RedisStore::open(RedisOptions { timeout, replicas: 1, ..options(&url) }).await;
    let (value, mut tries) = (Bytes::from_static(b"acknowledged"), 0);
    let key = |n: u32| DocKey::new("job", n.to_string());
    until("a write is on the replica", || {
        tries += 1;
        let (store, key, value) = (&store, key(tries), value.clone());
        async move { store.put_doc(&key, None, value, 600_000, T0).await.is_ok() }
    })
    .await;
    let key = key(tries);
    pair.primary.kill9();
    pair.notice();
    assert!(away(store.doc(&key, T0).await));
    let kept =
        until_some("the replica has been promoted", || async { store.doc(&key, T0).await.ok() })
            .await;
    assert_eq!(kept.unwrap().value, value);
    // There is no replica any more, so nothing more can be promised. Connections to the new primary may
    // still be made.
    until("a write has no replica", || async {
        let last = DocKey::new("job", "last");
        let next = store.put_doc(&last, None, value.clone(), 600_000, T0).await;
        assert!(away(next.clone()), "{next:?}");
        matches!(next, Err(StoreError::Unavailable(why)) if why.contains("replica"))
    })
    .await;
}

/// A replica that says nothing makes writes wait that it must have, and then fail. However many these
/// are, the primary is not taken for gone: whoever does not need the replica is answered meanwhile.
#[tokio::test]
async fn a_silent_replica_takes_nothing_from_others() {
    const WRITES: u32 = 100;
    let pair = RedisPair::start().await;
    let timeout = Duration::from_secs(4);
    let store =
        RedisStore::open(RedisOptions { timeout, replicas: 1, ..options(&pair.url()) }).await;
    let key = |n: u32| DocKey::new("job", n.to_string());
    let write = |n: u32| {
        let (store, key) = (store.clone(), key(n));
        async move { store.put_doc(&key, None, Bytes::new(), 600_000, T0).await }
    };
    until("a write is on the replica", || async { write(WRITES).await.is_ok() }).await;
    pair.replica.pause();
    let writes: tokio::task::JoinSet<_> = (0..WRITES).map(write).collect();
    let mut writing = std::pin::pin!(writes.join_all());
    let written = loop {
        match futures::poll!(writing.as_mut()) {
            std::task::Poll::Ready(written) => break written,
            std::task::Poll::Pending => store.ping().await.unwrap(),
        }
    };
    store.ping().await.unwrap();
    for answer in written {
        let of_replicas =
            matches!(&answer, Err(StoreError::Unavailable(why)) if why.contains("replicas"));
        assert!(of_replicas, "{answer:?}");
    }
    // Each was done at the primary, once.
    for n in 0..WRITES {
        assert!(store.doc(&key(n), T0).await.unwrap().is_some(), "{n}");
    }
    pair.replica.resume();
    until("writes count again", || async { write(WRITES + 1).await.is_ok() }).await;
}

/// Media has connections and a state of its own: when it loses them, whoever asks for a record does not
/// even notice.
#[tokio::test]
async fn media_takes_nothing_from_records() {
    let server = RedisServer::start().await;
    let store = store(&server.url()).await;
    // The commands that ask are connections, too, and other ones each time.
    let mine = || -> BTreeSet<String> {
        let list = server.cli(&["client", "list"]);
        let others = list.lines().filter(|line| !line.contains("cmd=client"));
        others.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    let of_records = mine();
    let media = store.segments(100_000).await;
    let key = SegmentKey("a/source/0.ts".into());
    let segment = StoredSegment { data: vec![7; 50_000].into(), format: SegmentFormat::MpegTs };
    media.put(&key, segment.clone(), 600_000, T0).await.unwrap();
    let of_media: Vec<_> = mine().difference(&of_records).cloned().collect();
    assert!(of_media.len() > 1, "{of_media:?}");
    for id in &of_media {
        let id = id.strip_prefix("id=").unwrap();
        assert_eq!(server.cli(&["client", "kill", "id", id]), "1");
    }
    assert!(away(media.get(&key, T0).await));
    store.ping().await.unwrap();
    until("media is back", || async { media.get(&key, T0).await == Ok(Some(segment.clone())) })
        .await;
    assert!(mine().is_superset(&of_records), "records still have their own");
}

/// Killed and started again: calls fail at once meanwhile, and then work, with scripts that the new
/// server has never seen.
#[tokio::test]
async fn it_comes_back_by_itself() {
    let mut server = RedisServer::start().await;
    let store = store(&server.url()).await;
    let key = session();
    granted(store.lease_session(&key, &owner("a"), 1_000, T0).await.unwrap());
    server.kill9();
    assert!(away(store.lease_session(&key, &owner("a"), 1_000, T0).await));
    // The answer is there without asking anybody: the first poll has it.
    let mut call = std::pin::pin!(store.ping());
    assert!(futures::poll!(call.as_mut()).is_ready(), "nothing waits for a server that is away");
    server.restart().await;
    until("it is back", || async { store.ping().await.is_ok() }).await;
    granted(store.lease_session(&key, &owner("b"), 1_000, T0).await.unwrap());
}

/// Stopped in its tracks: whoever asked first waits one timeout, the others do not wait.
#[tokio::test]
async fn a_server_that_says_nothing_is_away() {
    let server = RedisServer::start().await;
    let timeout = Duration::from_millis(500);
    let store = RedisStore::open(RedisOptions { timeout, ..options(&server.url()) }).await;
    until("it answers", || async { store.ping().await.is_ok() }).await;
    server.pause();
    assert!(away(store.ping().await));
    for _ in 0..1_000 {
        let mut call = std::pin::pin!(store.ping());
        assert!(futures::poll!(call.as_mut()).is_ready());
    }
    server.resume();
    until("it is back", || async { store.ping().await.is_ok() }).await;
}

/// The same for a cluster of which nobody answers: it is found out once, and then no call waits. One
/// server of it alone takes nothing from the others.
#[tokio::test]
async fn a_cluster_that_says_nothing_is_away() {
    let cluster = RedisCluster::start().await;
    for node in &cluster.nodes {
        // The others go on without it.
        assert_eq!(node.cli(&["config", "set", "cluster-require-full-coverage", "no"]), "OK");
    }
    let options = RedisOptions { timeout: Duration::from_secs(1), ..options(&cluster.url()) };
    let store = RedisStore::open(options.clone()).await;
    let key = |n: u32| DocKey::new("job", n.to_string());
    for n in 0..12 {
        let put = async || store.put_doc(&key(n), None, Bytes::new(), 600_000, T0).await;
        until("it is written", || async { matches!(put().await, Ok(Cas::Stored(_))) }).await;
    }
    let (one, others) = cluster.nodes.split_first().unwrap();
    let names = one.cli(&["keys", "*"]);
    let (gone, there): (Vec<u32>, Vec<u32>) =
        (0..12).partition(|n| names.contains(&format!("{{d:job:{n}}}")));
    one.pause();
    assert!(away(store.doc(&key(gone[0]), T0).await));
    // Who comes now finds them, too.
    for store in [&store, &RedisStore::open(options).await] {
        until("the others answer", || async { store.doc(&key(there[0]), T0).await.is_ok() }).await;
    }
    others.iter().for_each(RedisServer::pause);
    until("nobody waits for a cluster that is away", || async {
        let key = key(0);
        let mut call = std::pin::pin!(store.doc(&key, T0));
        let now = futures::poll!(call.as_mut()).is_ready();
        if !now {
            assert!(away(call.await));
        }
        now
    })
    .await;
    cluster.nodes.iter().for_each(RedisServer::resume);
    until("it is back", || async { store.ping().await.is_ok() }).await;
}

/// A store whose server is not there yet, at start.
#[tokio::test]
async fn it_waits_for_a_server_that_comes_later() {
    let mut server = RedisServer::start().await;
    server.kill9();
    let store = store(&server.url()).await;
    assert!(away(store.ping().await));
    server.restart().await;
    until("it is there", || async { store.ping().await.is_ok() }).await;
}

/// What somebody else wrote under our names is an error with a name, and no panic.
#[tokio::test]
async fn foreign_bytes_are_no_record() {
    let server = RedisServer::start().await;
    let store =
        RedisStore::open(RedisOptions { prefix: "x".into(), ..options(&server.url()) }).await;
    let id = StreamId::new("a").unwrap();
    for value in ["", "short", &"x".repeat(36), &format!("{}{}", "9".repeat(36), "{}")] {
        server.cli(&["set", "x:{s:a}:rec", value]);
        let read = store.stream(&id, T0).await;
        assert!(matches!(read, Ok(None) | Err(StoreError::Corrupt(_))), "{value:?}: {read:?}");
    }
    server.cli(&["lpush", "x:{s:a}:hls", "1"]);
    assert!(matches!(store.window(&id, T0).await, Err(StoreError::Corrupt(_))));
}

/// A full server refuses; nothing is half written.
#[tokio::test]
async fn a_full_server_says_so() {
    let server = RedisServer::start().await;
    let store = store(&server.url()).await;
    server.cli(&["config", "set", "maxmemory", "1mb"]);
    let (key, big) = (DocKey::new("job", "1"), Bytes::from(vec![0; 1 << 20]));
    let refused = store.put_doc(&key, None, big, 1_000, T0).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(store.doc(&key, T0).await.unwrap(), None);
}

/// Bytes of Redis for a stream: when it pauses after forty segments, and when it has been idle for as
/// long as its record, window and answers live. The budget for an idle one is 4 KiB.
#[tokio::test]
async fn an_idle_stream_is_small() {
    const STREAMS: usize = 50;
    let server = RedisServer::start().await;
    let options = RedisOptions { prefix: "penstock".into(), ..options(&server.url()) };
    let store = RedisStore::open(options).await;
    let used = || {
        let info = server.cli(&["info", "memory"]);
        let line = info.lines().find_map(|l| l.strip_prefix("used_memory_dataset:")).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    // What the first one brings in is not a stream's: scripts, buffers, tables.
    idle::fill(&store, STREAMS, T0).await.unwrap();
    let before = used();
    for n in 0..STREAMS {
        idle::fill(&store, n, T0).await.unwrap();
    }
    let paused = (used() - before) / STREAMS;
    // By key, and which of them are gone when the stream has been idle for so long.
    let mut parts = std::collections::BTreeMap::<String, usize>::new();
    let (mut short, mut long) = (0, 0);
    let account = |key: &&str| key.contains("{c:");
    let keys = server.cli(&["keys", "*"]);
    let mine = keys.lines().filter(|key| key.contains("{s:studio-00000007}"));
    for key in mine.chain(keys.lines().find(account)) {
        let bytes: usize = server.cli(&["memory", "usage", key, "samples", "0"]).parse().unwrap();
        let ttl: u64 = server.cli(&["pttl", key]).parse().unwrap();
        let kind = key.rsplit_once('}').unwrap().1.chars().take(5).collect::<String>();
        parts.insert(if kind.is_empty() { "credit".to_owned() } else { kind }, bytes);
        match ttl < 2 * idle::STREAM_TTL_MS {
            true => short += bytes,
            false => long += bytes,
        }
    }
    figure("stream that pauses: bytes of Redis", paused);
    figure("idle stream: bytes of Redis", format!("{long}, and {short} more for 5 min: {parts:?}"));
    assert!(long <= 4_096 && paused <= 8_192, "{paused} bytes, idle {long}; by key {parts:?}");
}

/// The rights that docs/session-store.md asks for are enough.
#[tokio::test]
async fn a_user_with_few_rights_conforms() {
    let text = std::fs::read_to_string(places::repository().join("docs/session-store.md")).unwrap();
    let (_, rights) = text.split_once("`~PREFIX:* ").unwrap();
    let (rights, _) = rights.split_once('`').unwrap();
    let server = RedisServer::on_port(&[]).await;
    let mut rule = vec!["acl", "setuser", "gateway", "on", ">secret", "~test*"];
    rule.extend(rights.split_whitespace());
    assert_eq!(server.cli(&rule), "OK");
    let url = format!("redis://gateway@127.0.0.1:{}", server.port());
    let user = || async {
        let store =
            RedisStore::open(RedisOptions { password: Some("secret".into()), ..options(&url) });
        let store = store.await;
        until("it is let in", || async { store.ping().await.is_ok() }).await;
        store
    };
    conformance::all(user).await;
    conformance::segments(&user().await.segments(100_000).await).await;
    let (one, other) = (user().await, user().await);
    let name = other.seen_as().expect("it may say who it is");
    assert_eq!(one.sight(&name).await, Ok(Sight::Here));
    let wrong = RedisOptions { password: Some("wrong".into()), ..options(&url) };
    let refused = RedisStore::open(wrong).await.ping().await;
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(why)) if !why.contains("wrong")),
        "{refused:?}"
    );
}

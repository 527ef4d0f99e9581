//! Replicas that share a Redis, and a Redis that goes away.

use crate::world::{OTHER, Replica, SOURCE, World, error};
use penstock_testkit::{redis::RedisServer, until};
use std::sync::Arc;
use tokio::{sync::Semaphore, task::JoinHandle};

/// How a gateway is told of a Redis, and more; the timeout is for a busy machine.
fn flags(redis: &RedisServer, more: &[&str]) -> Vec<String> {
    let url = redis.url();
    let usual = [
        ("--session-store", url.as_str()),
        ("--segment-store", "redis"),
        ("--session-store-timeout-ms", "20000"),
    ];
    let usual = usual.into_iter().map(|(name, value)| format!("{name}={value}"));
    let named = |flag: &String| flag.split('=').next().unwrap_or_default().to_owned() + "=";
    let usual = usual.filter(|flag| !more.iter().any(|m| m.starts_with(&named(flag))));
    usual.chain(more.iter().map(|m| (*m).to_owned())).collect()
}

async fn world(redis: &RedisServer, more: &[&str]) -> World {
    let flags = flags(redis, more);
    World::start(1, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn ready(url: &str, w: &World) -> (u16, String) {
    let answer = w.http.get(format!("{url}/readyz")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// What one replica begins another goes on with: one stream, one session, one payment's credit, one
/// playlist.
#[tokio::test]
async fn any_replica_takes_the_next_segment() {
    let redis = RedisServer::start().await;
    let mut w = world(&redis, &[]).await;
    let flags = flags(&redis, &[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let second = Replica::start(&w.signer.uri(), &flags).await;
    until("the second replica is ready without asking anybody", || async {
        ready(&second.url, &w).await.0 == 200
    })
    .await;
    let offers = |w: &World| w.orchestrator().seen.lock().unwrap().offers;
    let first_url = w.url.clone();
    w.pushed("/live/show/0.ts", SOURCE).await;
    let (asked, paid) = (offers(&w), w.signer.payments().len());
    assert_eq!(paid, 1);
    // Four jobs' worth was bought at once: the others need neither an offer nor a payment.
    for seq in 1..4 {
        w.url = if seq % 2 == 1 { second.url.clone() } else { first_url.clone() };
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    assert_eq!((offers(&w), w.signer.payments().len()), (asked, paid));
    assert_eq!(w.orchestrator().seen.lock().unwrap().segments.len(), 4);
    assert_eq!(w.orchestrator().books.lock().unwrap().len(), 1, "one account");
    // A segment that was answered by one is answered by the other as it was, and not paid again.
    w.url = second.url.clone();
    let again = w.pushed("/live/show/2.ts", SOURCE).await;
    w.url = first_url.clone();
    assert_eq!(w.pushed("/live/show/2.ts", SOURCE).await, again);
    assert_eq!(w.segments(), 4);
    // Both show the same playlist, with all of it.
    let playlist = w.get("/stream/show/small.m3u8").await;
    w.url = second.url.clone();
    assert_eq!(w.get("/stream/show/small.m3u8").await, playlist);
    assert_eq!((playlist.0, playlist.1.matches("#EXTINF").count()), (200, 4));
    second.stop.cancel();
}

/// Killed and started again on its data.
#[tokio::test]
async fn redis_is_killed_and_comes_back() {
    let mut redis = RedisServer::durable().await;
    let w = world(&redis, &[]).await;
    let first = w.pushed("/live/show/0.ts", SOURCE).await;
    let (segments, asked) = (w.segments(), w.signer.asked());
    redis.kill9();
    let answer = w.push("/live/show/1.ts", OTHER).await;
    assert_eq!(answer.headers()["retry-after"], "1");
    let (status, code, _) = error(answer).await;
    assert_eq!((status, code.as_str()), (503, "store_unavailable"));
    let (status, text) = ready(&w.url, &w).await;
    assert!(status == 503 && text.contains(r#""dependency":"session-store""#), "{status} {text}");
    assert!(text.contains("--session-store"), "{text}");
    assert_eq!(w.get("/healthz").await.0, 200, "alive, and not to be restarted");
    assert_eq!((w.segments(), w.signer.asked()), (segments, asked), "nothing was done or paid");
    redis.restart().await;
    until("it is ready again by itself", || async { ready(&w.url, &w).await.0 == 200 }).await;
    // Nothing is lost, nothing done twice.
    assert_eq!(w.pushed("/live/show/0.ts", SOURCE).await, first);
    assert_eq!(w.segments(), segments);
    w.pushed("/live/show/1.ts", OTHER).await;
    assert_eq!(w.segments(), segments + 1);
    assert_eq!(w.signer.payments().len(), 1);
}

/// Redis goes while an orchestrator is at work, and comes back: the result that was paid for is kept,
/// and the pusher gets it.
#[tokio::test]
async fn what_is_paid_for_waits_for_redis() {
    let mut redis = RedisServer::durable().await;
    let w = Arc::new(world(&redis, &[]).await);
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().segment_gate.lock().unwrap() = Some(gate.clone());
    let pushed = tokio::spawn({
        let w = w.clone();
        async move { w.pushed("/live/show/0.ts", SOURCE).await }
    });
    until("the orchestrator is at it", || async { w.segments() == 1 }).await;
    redis.kill9();
    gate.add_permits(1);
    until("the gateway has noticed", || async { ready(&w.url, &w).await.0 == 503 }).await;
    redis.restart().await;
    let parts = pushed.await.unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!((w.segments(), w.signer.payments().len()), (1, 1));
    assert_eq!(w.pushed("/live/show/0.ts", SOURCE).await, parts, "the stored answer");
    assert_eq!(w.segments(), 1);
    let (status, playlist) = w.get("/stream/show/small.m3u8").await;
    assert_eq!((status, playlist.matches("#EXTINF").count()), (200, 1));
}

/// Stopped in its tracks: the first request waits one timeout, what follows does not wait at all.
#[tokio::test]
async fn redis_says_nothing_for_a_while() {
    let redis = RedisServer::start().await;
    let w = world(&redis, &["--session-store-timeout-ms=4000"]).await;
    until("it is ready", || async { ready(&w.url, &w).await.0 == 200 }).await;
    redis.pause();
    for _ in 0..3 {
        let (status, code, _) = error(w.push("/live/show/0.ts", SOURCE).await).await;
        assert_eq!((status, code.as_str()), (503, "store_unavailable"));
    }
    assert_eq!(ready(&w.url, &w).await.0, 503);
    assert_eq!((w.segments(), w.signer.asked()), (0, 0));
    redis.resume();
    until("it is ready again", || async { ready(&w.url, &w).await.0 == 200 }).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!((w.segments(), w.signer.payments().len()), (1, 1));
}

/// A push that is going to fail, and waits for its orchestrator's offer until the gate opens.
fn held_up(w: &Arc<World>) -> (Arc<Semaphore>, JoinHandle<(u16, String, String)>) {
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().gate.lock().unwrap() = Some(gate.clone());
    let w = w.clone();
    let push = async move { error(w.push("/live/show/0.ts", SOURCE).await).await };
    (gate, tokio::spawn(push))
}

/// Redis goes while a segment waits for its orchestrator's offer: the push fails, and so does giving back
/// what it had claimed. What it had is free all the same as soon as Redis is back, and not only when
/// it has lapsed.
#[tokio::test]
async fn what_a_failed_push_had_claimed_is_given_back() {
    let mut redis = RedisServer::durable().await;
    let w = Arc::new(world(&redis, &[]).await);
    let (gate, pushed) = held_up(&w);
    // The names of what ends by itself, and whether they are held.
    let lease = || redis.cli(&["keys", "*:at:*"]);
    until("it has the session's lease", || async { !lease().is_empty() }).await;
    let (claim, lease) = (redis.cli(&["keys", "*:done"]), lease());
    assert_eq!(redis.cli(&["hlen", &claim]), "1");
    assert_eq!(redis.cli(&["hexists", &lease, "owner"]), "1");
    redis.kill9();
    gate.add_permits(1_000);
    let (status, code, _) = pushed.await.unwrap();
    assert_eq!((status, code.as_str()), (503, "store_unavailable"));
    redis.restart().await;
    // So that they do not vanish with their keys.
    assert_eq!(redis.cli(&["persist", &claim]), "1");
    assert_eq!(redis.cli(&["persist", &lease]), "1");
    until("the segment is free", || async { redis.cli(&["hlen", &claim]) == "0" }).await;
    until("the session is free", || async { redis.cli(&["hexists", &lease, "owner"]) == "0" })
        .await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!((w.segments(), w.signer.payments().len()), (1, 1));
}

/// A lease that somebody else had meanwhile is not renewed under its holder's feet: nothing could be
/// written with it, and others would wait.
#[tokio::test]
async fn a_lost_lease_is_not_taken_again() {
    let redis = RedisServer::start().await;
    let w = Arc::new(world(&redis, &["--session-lease-ms=1000"]).await);
    let (gate, pushed) = held_up(&w);
    let lease = || redis.cli(&["keys", "*:at:*"]);
    until("it has the session's lease", || async { !lease().is_empty() }).await;
    // Another holder, whose lease has lapsed by now.
    redis.cli(&["hset", &lease(), "owner", "another", "until", "1"]);
    until("nobody has it", || async { redis.cli(&["hexists", &lease(), "owner"]) == "0" }).await;
    gate.add_permits(1_000);
    assert_eq!(pushed.await.unwrap().0, 503, "what it found out is not stored");
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!((w.segments(), w.signer.payments().len()), (1, 1));
}

/// A hold on a key whose answer is an error may be there all the same: here no replica has it. It is
/// given back, so that the next try need not wait for it to lapse.
#[tokio::test]
async fn a_key_is_given_back_that_nobody_knows_to_have_got() {
    let redis = RedisServer::start().await;
    let w = world(&redis, &["--session-store-replicas=1", "--session-store-timeout-ms=2000"]).await;
    let job = w.http.post(format!("{}/llm", w.url)).header("idempotency-key", "once");
    let (status, code, _) = error(job.json(&serde_json::json!({})).send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (503, "store_unavailable"));
    let key = redis.cli(&["keys", "*{d:idem:*"]);
    assert!(!key.is_empty() && !key.contains('\n'), "{key}");
    // What stays of a record that was removed is its version, and an end in the past.
    until("the key is free", || async { redis.cli(&["get", &key]).ends_with(&"0".repeat(16)) })
        .await;
    assert_eq!(redis.cli(&["strlen", &key]), "36");
}

/// Media on a disk, state in Redis.
#[tokio::test]
async fn segments_on_a_disk() {
    let (redis, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let disk = format!("--segment-store=disk:{}", folder.path().display());
    let w = world(&redis, &[&disk]).await;
    let parts = w.pushed("/live/show/0.ts", SOURCE).await;
    let (status, _) = w.get("/stream/show/small.m3u8").await;
    assert_eq!(status, 200);
    assert_eq!(w.pushed("/live/show/0.ts", SOURCE).await, parts);
    assert_eq!(w.segments(), 1);
}

/// Redis forgets its last writes, among them a purchase: the older payment state is presented again, the
/// signer gives its stored answer, the orchestrator has had those tickets, and the stream goes on.
#[tokio::test]
async fn a_forgotten_purchase_is_not_made_twice() {
    let redis = RedisServer::start().await;
    let w = world(&redis, &["--prepay-jobs=1"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let keys = redis.cli(&["keys", "*"]);
    let money: Vec<&str> =
        keys.lines().filter(|k| k.contains(":at:") || k.contains("{c:")).collect();
    assert_eq!(money.len(), 2, "{keys}");
    for key in &money {
        assert_eq!(redis.cli(&["copy", key, &format!("old{key}")]), "1");
    }
    for seq in 1..4 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    let paid = w.signer.payments().len();
    assert!(paid > 1, "something was bought that can be forgotten");
    for key in &money {
        assert_eq!(redis.cli(&["copy", &format!("old{key}"), key, "replace"]), "1");
    }
    for seq in 4..8 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    assert_eq!(w.segments(), 8, "each was done once, by the one orchestrator there is");
    // Every ticket that the signer gave went out once and is credited.
    let issued: u64 = w.signer.payments().iter().map(|p| p.tickets).sum();
    assert_eq!(w.orchestrator().totals().tickets, issued);
}

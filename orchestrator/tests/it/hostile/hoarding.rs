//! Who takes every place there is and keeps it: connections, readers and writers of channels. Who pays streams on
//! through all of it, and who comes then is served, too.

use super::{begun, heard};
use crate::{
    live::{Stage, text},
    world::{World, client},
};
use futures::future::join_all;
use penstock_testkit::until;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

/// Another host of this machine's.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

const CHANNELS: [&str; 4] = ["publish_url", "subscribe_url", "control_url", "events_url"];
/// Requests that each channel of a greedy session is asked.
const EACH: usize = 12;

#[tokio::test]
async fn one_peer_never_has_all_connections() {
    let settings =
        ["--service-addr=http://127.0.0.1:0", "--max-connections=10", "--max-peer-connections=4"];
    let world = World::offchain(&settings).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(begun(&world.service, b"").await);
    }
    assert_eq!(heard(begun(&world.service, b"").await).await, b"", "one too many of this peer");
    let url = format!("{}/healthz", world.service);
    let other = client().local_address(ELSEWHERE).build().unwrap();
    assert_eq!(other.get(&url).send().await.unwrap().status(), 200);
    held.pop();
    until("a place that is left can be had", || async {
        let asked = client().build().unwrap().get(&url).send();
        asked.await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

/// Two paid sessions whose owner reads and writes as much as he gets, at the cost of two cheap sessions.
async fn greedy(stage: &Stage, refused: &Arc<AtomicUsize>) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let session = stage.session("noop", 50).await;
        for key in CHANNELS {
            let url = format!("{}/-1", session.url(key));
            for number in 0..2 * EACH {
                let (url, refused) = (url.clone(), Arc::clone(refused));
                let http = client().local_address(ELSEWHERE).build().unwrap();
                tasks.push(tokio::spawn(async move {
                    let request = if number % 2 == 0 {
                        http.get(url)
                    } else {
                        // A writer that never says anything.
                        let silent = futures::stream::pending::<std::io::Result<Vec<u8>>>();
                        http.post(url).body(reqwest::Body::wrap_stream(silent))
                    };
                    if request.send().await.is_ok_and(|answer| answer.status() == 503) {
                        refused.fetch_add(1, Relaxed);
                    }
                }));
            }
        }
    }
    tasks
}

#[tokio::test]
async fn who_pays_streams_while_others_take_every_place_of_their_channels() {
    let settings = [
        "--live-trickle-requests=120",
        "--live-trickle-writer-room=40",
        "--live-trickle-readers=8",
        "--live-trickle-session-readers=14",
        "--live-trickle-session-writers=14",
    ];
    let stage = Stage::paid_with(4, &settings).await;
    let session = stage.session("noop", 300).await;
    let (mut media, mut output) =
        (session.publisher("publish_url").await, session.subscriber("subscribe_url"));
    let over = Arc::new(AtomicBool::new(false));
    let streams = async {
        let mut frames = 0;
        while !over.load(Relaxed) {
            let said = format!("frame {frames}");
            media.write(said.clone().into()).await.unwrap();
            assert_eq!(text(&mut output).await.unwrap(), said);
            frames += 1;
        }
        frames
    };
    let attack = async {
        let refused = Arc::new(AtomicUsize::new(0));
        let tasks = greedy(&stage, &refused).await;
        // Of each kind at most fourteen of a session wait; the others were told so.
        let most = 2 * 2 * 14;
        let waiting = || tasks.iter().filter(|task| !task.is_finished()).count();
        until("they have what they can get", || async { waiting() <= most }).await;
        assert!(waiting() > 0 && refused.load(Relaxed) > tasks.len() / 3, "{refused:?}");
        // Who comes now is served as who was there.
        let late = stage.session("noop", 50).await;
        let (mut media, mut output) =
            (late.publisher("publish_url").await, late.subscriber("subscribe_url"));
        for said in ["one", "two", "three"] {
            media.write(said.into()).await.unwrap();
            assert_eq!(text(&mut output).await.unwrap(), said);
        }
        over.store(true, Relaxed);
        assert!(waiting() > 0, "the attack lasted");
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        join_all(tasks).await;
    };
    let (frames, ()) = tokio::join!(streams, attack);
    assert!(frames > 0);
    let row = |row: &serde_json::Value| row["manifest_id"] == session.manifest();
    assert!(stage.sessions().await.iter().any(row), "it is the same session");
}

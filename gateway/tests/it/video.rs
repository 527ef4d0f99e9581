//! Segments that work: answers, replay, concurrency, payment.

use crate::world::{CONFIG, OTHER, SOURCE, World, parts};
use penstock_testkit::{media, places, sim::orchestrator::rendition, until::until_ok};
use std::{process::Stdio, sync::Arc};

#[tokio::test]
async fn a_segment_comes_back_in_its_renditions() {
    let w = World::with(1).await;
    let got = w.pushed("/live/show/7.ts", SOURCE).await;
    assert_eq!(
        got,
        [
            ("small".to_owned(), rendition("small", 7, SOURCE)),
            ("wide".to_owned(), rendition("wide", 7, SOURCE)),
        ]
    );
    let (_, state) = w.get("/api/streams/show").await;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["segments"], 1);
    assert_eq!(state["orchestrator"], *w.signer.orchestrators.lock().unwrap()[0]);
}

#[tokio::test]
async fn without_the_exact_accept_the_answer_is_empty() {
    let w = World::with(1).await;
    for accept in ["*/*", "multipart/mixed, */*"] {
        let answer = w
            .http
            .post(format!("{}/live/show/0.ts", w.url))
            .header("accept", accept)
            .header("livepeer-transcode-configuration", CONFIG)
            .body(SOURCE)
            .send()
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, String::new()));
    }
}

#[tokio::test]
async fn the_same_segment_again_costs_nothing() {
    let w = World::with(1).await;
    let first = w.pushed("/live/show/0.ts", SOURCE).await;
    let (paid, debited) = (w.signer.asked(), w.orchestrator().totals().debited);
    assert_eq!(w.pushed("/live/show/0.ts", SOURCE).await, first);
    assert_eq!((w.segments(), w.signer.asked()), (1, paid));
    assert_eq!(w.orchestrator().totals().debited, debited);
    // Other bytes under the same number are another segment.
    let other = w.pushed("/live/show/0.ts", OTHER).await;
    assert_ne!(other, first);
    assert_eq!(w.segments(), 2);
    assert_eq!(w.pushed("/live/show/0.ts", SOURCE).await, first);
}

#[tokio::test]
async fn the_same_segment_at_the_same_time_is_done_once() {
    let w = Arc::new(World::with(1).await);
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let w = w.clone();
        pushes.spawn(async move { w.pushed("/live/show/0.ts", SOURCE).await });
    }
    let all = pushes.join_all().await;
    assert!(all.iter().all(|parts| *parts == all[0]));
    assert_eq!(w.segments(), 1);
}

#[tokio::test]
async fn a_stream_may_be_pushed_in_parallel() {
    let w = Arc::new(World::with(1).await);
    let mut pushes = tokio::task::JoinSet::new();
    for seq in 0..12 {
        let w = w.clone();
        pushes.spawn(async move { w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await.len() });
    }
    assert_eq!(pushes.join_all().await, [2; 12]);
    // One stream, one payment session at the orchestrator, every segment in the playlist's order.
    let seen = w.orchestrator().seen.lock().unwrap().segments.clone();
    assert_eq!(
        seen.iter().map(|(session, _)| session).collect::<std::collections::HashSet<_>>().len(),
        1
    );
    let (_, playlist) = w.get("/stream/show/source.m3u8").await;
    let shown: Vec<_> = playlist.lines().filter(|l| l.starts_with("/stream")).collect();
    assert_eq!(shown.len(), 6);
    assert!(
        shown.windows(2).all(|two| {
            let seq = |l: &str| {
                l.rsplit('/').next().unwrap().split('.').next().unwrap().parse::<u64>().unwrap()
            };
            seq(two[0]) + 1 == seq(two[1])
        }),
        "{playlist}"
    );
    let (_, state) = w.get("/api/streams/show").await;
    assert!(state.contains(r#""segments":12"#), "{state}");
}

#[tokio::test]
async fn a_stream_without_renditions_is_only_shown() {
    let w = World::with(1).await;
    let answer = w
        .http
        .put(format!("{}/live/show/0.ts", w.url))
        .header("accept", "multipart/mixed")
        .header("livepeer-transcode-configuration", r#"{"profiles":[]}"#)
        .body(SOURCE)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(parts(answer).await.is_empty());
    assert_eq!((w.segments(), w.signer.asked()), (0, 0));
    let url = format!("{}/stream/show/source/0.ts", w.url);
    assert_eq!(w.http.get(url).send().await.unwrap().bytes().await.unwrap(), SOURCE);
}

/// A transport stream that declares H.264 and has no frame of it, then one of another size.
#[tokio::test]
async fn declared_video_without_frames_is_passed_through() {
    let w = World::with(1).await;
    let empty: &'static [u8] = Box::leak(transport_stream().into_boxed_slice());
    let got = w.pushed("/live/show/0.ts", empty).await;
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|(_, data)| data == empty));
    assert_eq!((w.segments(), w.signer.asked()), (0, 0));
}

/// PAT and PMT, nothing else.
fn transport_stream() -> Vec<u8> {
    let packet = |pid: u16, payload: &[u8]| {
        let mut p = vec![0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10];
        p.extend(payload);
        p.resize(188, 0xff);
        p
    };
    let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0x00, 1, 2, 3, 4];
    let pmt =
        [0, 2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0, 1, 2, 3, 4];
    [packet(0, &pat), packet(0x1000, &pmt)].concat()
}

#[tokio::test]
async fn one_trace_goes_with_the_job() {
    let w = World::with(1).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let answer = w
        .http
        .put(format!("{}/live/show/0.ts", w.url))
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .body(SOURCE)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let seen = w.orchestrator().seen.lock().unwrap().traces.clone();
    assert_eq!(seen.len(), 2, "the payment and the segment");
    assert!(
        seen.iter().chain(w.signer.traces.lock().unwrap().iter()).all(|t| t.contains(trace)),
        "{seen:?}"
    );
    assert_eq!(w.signer.traces.lock().unwrap().len(), 2, "the tickets and the credential");
}

/// ffmpeg's HLS muxer sends a whole segment and closes, without waiting for an answer.
#[tokio::test]
async fn an_encoder_that_does_not_wait_is_served() {
    use tokio::io::AsyncWriteExt;
    let w = World::start(1, &["--segment-timeout-ms=600000"]).await;
    let big: Vec<u8> = SOURCE.iter().copied().cycle().take(SOURCE.len() * 4_000).collect();
    for seq in 0..3 {
        let address = w.url.trim_start_matches("http://");
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /live/show/{seq}.ts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            big.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&big).await.unwrap();
        socket.write_all(b"\r\n0\r\n\r\n").await.unwrap();
        drop(socket);
        // One by one: nobody repeats what is told to come again.
        until_ok("it is done", || async {
            let (status, state) = w.get("/api/streams/show").await;
            let done = status == 200 && state.contains(&format!(r#""segments":{}"#, seq + 1));
            if done { Ok(()) } else { Err(format!("{status} {state}")) }
        })
        .await;
    }
    assert_eq!(w.segments(), 3);
}

/// The command with this beginning that a document shows, in words. Nothing in it is quoted.
fn documented(document: &str, beginning: &str) -> Vec<String> {
    let text = std::fs::read_to_string(places::repository().join(document)).unwrap();
    let at = text.find(beginning).unwrap_or_else(|| panic!("{document} has no {beginning:?}"));
    let block = text[at..].split("```").next().unwrap();
    block.replace("\\\n", " ").split_whitespace().map(str::to_owned).collect()
}

/// The line of the documentation, with this gateway's address and nothing else changed: every segment is
/// transcoded and shown, whole and in order.
#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_pushes_by_http_with_the_documented_line() {
    let w = World::start(1, &["--transcoding-options=P144p30fps16x9"]).await;
    let folder = tempfile::tempdir().unwrap();
    let small = media::shrink(&places::film(), folder.path());
    std::fs::rename(small, folder.path().join("film.mp4")).unwrap();
    let line = documented("docs/video.md", "ffmpeg -re -i film.mp4 -c:v libx264 -g 50");
    assert!(line.iter().any(|word| word == "PUT"), "{line:?}");
    let words = line[1..].iter().map(|word| word.replace("http://127.0.0.1:9935", &w.url));
    let output = tokio::process::Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error"])
        .args(words)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    until_ok("every segment is done", || async {
        let (status, state) = w.get("/api/streams/show").await;
        if state.contains(r#""segments":3"#) { Ok(()) } else { Err(format!("{status} {state}")) }
    })
    .await;
    let mut pictures = Vec::new();
    for track in ["source", "P144p30fps16x9"] {
        let (_, playlist) = w.get(&format!("/stream/show/{track}.m3u8")).await;
        let named: Vec<_> = playlist.lines().filter(|l| l.starts_with("/stream")).collect();
        assert_eq!(named.len(), 3, "{playlist}");
        assert!(!playlist.contains("GAP") && !playlist.contains("DISCONTINUITY"), "{playlist}");
        for (seq, name) in named.iter().enumerate() {
            assert!(name.starts_with(&format!("/stream/show/{track}/{seq}.ts")), "{playlist}");
            let answer = w.http.get(format!("{}{name}", w.url)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{name}");
            let data = answer.bytes().await.unwrap();
            if track == "source" {
                let file = folder.path().join(format!("{seq}.ts"));
                std::fs::write(&file, &data).unwrap();
                pictures.extend(media::probe(&file).frame_pts_90khz);
            }
        }
    }
    assert_eq!(pictures.len(), 132, "every picture of the film");
    assert!(pictures.is_sorted());
}

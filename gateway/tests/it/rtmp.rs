//! Publishing by RTMP, with a real encoder.

use crate::{
    recordings::{decoded, pictures, recorded, uris},
    stream_auth::Hook,
    world::{Replica, SOURCE, World, error},
};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use penstock_gateway::{
    config::Settings,
    front::caller::Caller,
    rtmp::{
        amf::{self, Value},
        chunk::{self, Message},
        segmenter::Cut,
    },
};
use penstock_store::{DocKey, UnixMs};
use penstock_testkit::{media, places, redis::RedisServer, sim::orchestrator::rendition, until};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// The film in small, as encoders send it: a key frame each second.
fn film(folder: &Path) -> PathBuf {
    let small = folder.join("film.flv");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-y", "-v", "error", "-i"])
        .arg(places::film())
        .args(["-vf", "scale=160:90", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2"])
        .args(["-g", "25", "-keyint_min", "25", "-sc_threshold", "0", "-c:a", "aac", "-ac", "2"])
        .arg(&small)
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&output.stderr));
    small
}

/// Publishes a file as fast as it is taken; whether the encoder was content.
async fn publish(film: &Path, url: String) -> bool {
    let mut command = tokio::process::Command::new("ffmpeg");
    command
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(film)
        .args(["-c", "copy", "-f", "flv"])
        .arg(url)
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.status().await.expect("ffmpeg runs").success()
}

async fn state(w: &World, stream: &str) -> serde_json::Value {
    let (_, text) = w.get(&format!("/api/streams/{stream}")).await;
    serde_json::from_str(&text).unwrap()
}

async fn finished(w: &World, stream: &str, segments: u64) {
    until("the segments are finished", || async { state(w, stream).await["segments"] == segments })
        .await;
}

fn segments(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| line.starts_with("/stream")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_publishes() {
    let w = World::start(1, &["--transcoding-options=P144p30fps16x9"]).await;
    let folder = tempfile::tempdir().unwrap();
    let film = film(folder.path());
    assert!(publish(&film, format!("{}/live/show/secret", w.rtmp)).await);
    finished(&w, "show", 3).await;
    let (_, playlist) = w.get("/stream/show/source.m3u8").await;
    let named = segments(&playlist);
    assert_eq!(named.len(), 3, "{playlist}");
    assert!(playlist.contains("#EXTINF:2.000,\n/stream/show/source/0.ts?h="), "{playlist}");
    assert!(!playlist.contains("DISCONTINUITY"), "{playlist}");
    // Every picture of the film, at its time, with its sound; each segment plays alone.
    let mut times = Vec::new();
    for (seq, name) in named.iter().enumerate() {
        let data =
            w.http.get(format!("{}{name}", w.url)).send().await.unwrap().bytes().await.unwrap();
        let file = folder.path().join(format!("{seq}.ts"));
        std::fs::write(&file, &data).unwrap();
        let video = media::probe(&file);
        assert_eq!((video.width, video.height, video.has_audio), (160, 90, true));
        times.extend(video.frame_pts_90khz);
        let url = format!("{}/stream/show/P144p30fps16x9/{seq}.ts", w.url);
        let got = w.http.get(url).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(got, rendition("P144p30fps16x9", seq as i64, &data));
    }
    assert_eq!(times.len(), 132);
    assert!(times.windows(2).all(|two| (3_500..3_700).contains(&(two[1] - two[0]))), "{times:?}");
    let master = w.get("/stream/show.m3u8").await.1;
    assert!(master.contains("RESOLUTION=160x90,CODECS=\"avc1."), "{master}");
    // DASH players get the same pictures, as fragmented MP4; the sound apart.
    let (_, manifest) = w.get("/stream/show.mpd").await;
    assert!(manifest.contains("type=\"dynamic\""), "{manifest}");
    for (kind, pictures) in [("v", 132), ("a", 0)] {
        let file = folder.path().join(format!("dash-{kind}.mp4"));
        std::fs::write(&file, dash(&w, &manifest, kind).await).unwrap();
        if pictures > 0 {
            let video = media::probe(&file);
            assert_eq!((video.width, video.frame_pts_90khz.len()), (160, pictures));
            let steps = video.frame_pts_90khz.windows(2).map(|two| two[1] - two[0]);
            assert!(steps.clone().all(|step| (3_500..3_700).contains(&step)));
            assert_eq!(video.frame_pts_90khz[0], 90_000);
        }
        assert_eq!(decoded(file.as_os_str()), "", "{kind}");
    }
    // Each piece is made once, out of files that are fetched once.
    let shown = &w.gateway.shown;
    let (files, pieces) = (shown.files.made(), shown.pieces.made());
    assert_eq!((files, pieces), (6, 8), "three files of two renditions; two kinds of four pieces");
    dash(&w, &manifest, "v").await;
    assert_eq!((shown.files.made(), shown.pieces.made()), (files, pieces));
    // Another program plays the presentation by its manifest, where a stream is over sooner.
    let stores = (w.gateway.store.clone(), w.gateway.segments.clone());
    let other = Replica::on(&w.signer.uri(), &["--stream-idle-ms=1000"], Some(stores)).await;
    let presentation = format!("{}/stream/show.mpd", other.url);
    until("the presentation is over", || async {
        let text = w.http.get(&presentation).send().await.unwrap().text().await.unwrap();
        text.contains("type=\"static\"")
    })
    .await;
    assert_eq!(pictures(&presentation), 132);
    assert_eq!(decoded(presentation.as_ref()), "");
    other.stop.cancel();
    // The publish key is no part of what viewers see.
    let shown = format!("{master}{playlist}{}", state(&w, "show").await);
    assert!(!shown.contains("secret"), "{shown}");
    // Another key may not go on with it.
    assert!(!publish(&film, format!("{}/live/show/guess", w.rtmp)).await);
    assert_eq!(state(&w, "show").await["segments"], 3);
}

/// What a player of a manifest fetches for its first representation of a kind, one after the other.
async fn dash(w: &World, manifest: &str, kind: &str) -> Vec<u8> {
    let template = manifest
        .split("<SegmentTemplate ")
        .find(|text| text.contains(&format!(".m4{kind}\"")))
        .unwrap();
    let value = |name: &str| {
        template.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let times = template.split("<S t=\"").skip(1).map(|text| text.split('"').next().unwrap());
    let media = value("media");
    let mut names = vec![value("initialization")];
    names.extend(times.map(|time| media.replace("$Time$", time)));
    assert_eq!(names.len(), 4, "{manifest}");
    let mut all = Vec::new();
    for name in names {
        let answer = w.http.get(format!("{}/stream/{name}", w.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        assert!(answer.headers()["cache-control"].to_str().unwrap().contains("immutable"));
        all.extend(answer.bytes().await.unwrap());
    }
    all
}

const ONE_RENDITION: &str = "--transcoding-options=P144p30fps16x9";

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_goes_on_at_another_replica() {
    let w = World::start(1, &[ONE_RENDITION]).await;
    let stores = (w.gateway.store.clone(), w.gateway.segments.clone());
    let other = Replica::on(&w.signer.uri(), &[ONE_RENDITION], Some(stores)).await;
    goes_on(&w, &other, tempfile::tempdir().unwrap().path()).await;
}

/// The same with state and media in Redis, and recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_goes_on_by_redis() {
    let (redis, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let record = format!("--record-store=disk:{}", folder.path().join("store").display());
    let url = format!("--session-store={}", redis.url());
    // The timeout is for a busy machine.
    let patient = "--session-store-timeout-ms=20000";
    let flags = [ONE_RENDITION, &record, &url, "--segment-store=redis", patient];
    let w = World::start(1, &flags).await;
    let other = Replica::start(&w.signer.uri(), &flags).await;
    goes_on(&w, &other, folder.path()).await;
    recorded(&w.gateway).await;
    recorded(&other.gateway).await;
    // The recording went on as the stream did, whoever made it, and plays as one film.
    for url in [&w.url, &other.url] {
        let list = format!("{url}/recordings/show/source.m3u8");
        let list = w.http.get(list).send().await.unwrap().text().await.unwrap();
        let numbers: Vec<_> = uris(&list)
            .iter()
            .map(|uri| uri.rsplit('/').next().unwrap().split('-').next().unwrap())
            .collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6", "7", "8"], "{list}");
        assert_eq!(list.matches("#EXT-X-DISCONTINUITY\n").count(), 2, "{list}");
        let film = w.http.get(format!("{url}/recordings/show/source.mp4")).send().await.unwrap();
        let file = folder.path().join("film.mp4");
        std::fs::write(&file, film.bytes().await.unwrap()).unwrap();
        let video = media::probe(&file);
        assert_eq!((video.frame_pts_90khz.len(), video.has_audio), (3 * 132, true));
    }
}

/// A publisher leaves, comes back elsewhere, and comes back once more after his replica died.
async fn goes_on(w: &World, other: &Replica, folder: &Path) {
    let film = film(folder);
    assert!(publish(&film, format!("{}/live/show/key", w.rtmp)).await);
    finished(w, "show", 3).await;
    assert!(publish(&film, format!("{}/live/show/key", other.rtmp)).await);
    finished(w, "show", 6).await;
    let at = |base: String| {
        let http = w.http.clone();
        async move {
            let url = format!("{base}/stream/show/P144p30fps16x9.m3u8");
            http.get(url).send().await.unwrap().text().await.unwrap()
        }
    };
    let playlist = at(w.url.clone()).await;
    assert_eq!(playlist, at(other.url.clone()).await);
    let numbers: Vec<_> = segments(&playlist)
        .iter()
        .map(|line| line.rsplit('/').next().unwrap().split('.').next().unwrap())
        .collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4", "5"], "{playlist}");
    // One break, where the clock begins anew.
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    let (before, after) = playlist.split_once("#EXT-X-DISCONTINUITY\n").unwrap();
    assert!(before.contains("/2.ts") && after.contains("/3.ts"), "{playlist}");
    // A replica may die without a word: its claim lapses, and what it did not show is numbered again.
    let key = DocKey::new("rtmp", "show");
    let store = &other.gateway.store;
    let now = penstock_gateway::clock::now();
    let claim = store.doc(&key, now).await.unwrap().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&claim.value).unwrap();
    value["until"] = serde_json::to_value(UnixMs(now.0 - 1)).unwrap();
    value["next_seq"] = 8.into();
    let value = value.to_string().into();
    store.put_doc(&key, Some(claim.version), value, 60_000, now).await.unwrap();
    assert!(publish(&film, format!("{}/live/show/key", w.rtmp)).await);
    finished(w, "show", 9).await;
    let playlist = at(w.url.clone()).await;
    assert!(segments(&playlist).last().unwrap().contains("/8.ts"), "{playlist}");
    other.stop.cancel();
}

/// Bytes of a handshake and a command.
fn hello(command: &[u8]) -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.resize(1 + 2 * 1536, 0);
    bytes.extend([3, 0, 0, 0, 0, 0]);
    bytes.push(command.len() as u8);
    bytes.extend([20, 0, 0, 0, 0]);
    bytes.extend(command);
    bytes
}

/// Everything that is logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<String>>);

impl tracing::Subscriber for Logged {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.target().starts_with("penstock_gateway")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut all = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            all.push_str(&format!("{field}={value:?} "));
        });
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Asks to publish that and hears what comes of it, to the end of the connection.
async fn asks_to_publish(w: &World, name: &str) -> Vec<u8> {
    let text = |text: &str| Value::Text(text.to_owned());
    let app = Value::Object(vec![
        ("app".to_owned(), text("live")),
        ("tcUrl".to_owned(), text("rtmp://host/live")),
    ]);
    let mut bytes = vec![3];
    bytes.resize(1 + 2 * 1536, 0);
    for values in [
        vec![text("connect"), Value::Number(1.0), app],
        vec![text("publish"), Value::Number(2.0), Value::Null, text(name), text("live")],
    ] {
        let data = amf::write(&values).into();
        chunk::write(&mut bytes, 3, &Message { kind: 20, stream: 0, timestamp: 0, data });
    }
    let mut socket = TcpStream::connect(w.rtmp.trim_start_matches("rtmp://")).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard).await;
    heard
}

/// Told to the publisher, and not only to the next one.
#[tokio::test]
async fn a_key_that_is_taken_back_ends_its_publication() {
    let flags = ["--caller-auth=signer", ONE_RENDITION];
    let often =
        |settings: &mut Settings| settings.video.rtmp_look_again = Duration::from_millis(20);
    let w = World::arranged(1, &flags, |settings, _| often(settings)).await;
    for (token, now) in [("psk_bob", None), ("psk_eve", Some(r#"["llm/*"]"#))] {
        w.signer.admit(token, "acme:bob", serde_json::json!({}));
        let asked = || *w.signer.verify_requests.lock().unwrap();
        let before = asked();
        let taken_back = async {
            until("it publishes, and its key is looked at", || async { asked() > before + 2 })
                .await;
            match now {
                None => w.signer.revoke(token),
                Some(may) => {
                    let may: serde_json::Value = serde_json::from_str(may).unwrap();
                    let rules = serde_json::json!({ "allowed_capabilities": may });
                    w.signer.admit(token, "acme:bob", rules);
                }
            }
        };
        let name = format!("show?token={token}");
        let (heard, ()) = tokio::join!(asks_to_publish(&w, &name), taken_back);
        let heard = String::from_utf8_lossy(&heard);
        let why = if now.is_none() { "the key was revoked" } else { "may not use transcode/*" };
        assert!(heard.contains("NetStream.Publish.Start") && heard.contains(why), "{heard}");
    }
}

/// Each segment is one of its publisher's requests, whichever way it comes.
#[tokio::test(flavor = "multi_thread")]
async fn segments_count_among_the_publishers_requests() {
    let w = World::start(1, &["--caller-auth=signer", ONE_RENDITION]).await;
    let rules = serde_json::json!({ "requests_per_second": 1, "requests_per_day": 2 });
    w.signer.admit("psk_bob", "acme:bob", rules);
    let folder = tempfile::tempdir().unwrap();
    publish(&film(folder.path()), format!("{}/live/show/key?token=psk_bob", w.rtmp)).await;
    finished(&w, "show", 2).await;
    until("the day is used up, whatever this second allows", || async {
        let put = w.http.put(format!("{}/live/other/0.ts", w.url)).bearer_auth("psk_bob");
        let (status, code, _) = error(put.body(SOURCE).send().await.unwrap()).await;
        assert_eq!(status, 429, "{code}");
        code == "quota_exceeded"
    })
    .await;
    assert_eq!(w.segments(), 2);
}

#[tokio::test]
async fn keys_go_neither_to_the_webhook_nor_into_logs() {
    let logged = Logged::default();
    let _capture = tracing::subscriber::set_default(logged.clone());
    let (hook, flag) = Hook::start(403, "").await;
    let w = World::start(0, &[&flag, "--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", serde_json::json!({}));
    for (status, answer) in [(403, ""), (200, "{}"), (200, "no json"), (200, "")] {
        hook.says(status, answer);
        // The last one is admitted, under a name that cannot be used.
        asks_to_publish(&w, "my secret/key?token=psk_bob&say=hush").await;
        assert_eq!(hook.asked().last().unwrap(), "rtmp://host/live/my secret/key?say=hush");
    }
    assert_eq!(hook.asked().len(), 4);
    asks_to_publish(&w, "show?token=psk_made_up").await;
    let logged = logged.0.lock().unwrap();
    assert!(logged.contains("url=\"rtmp://host/live/…\""), "{logged}");
    for secret in ["psk_", "secret", "key?", "hush"] {
        assert!(!logged.contains(secret), "{secret}: {logged}");
    }
}

#[tokio::test]
async fn a_segment_keeps_its_room_until_it_is_done() {
    let w = World::start(1, &["--transcoding-options=P144p30fps16x9"]).await;
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().segment_gate.lock().unwrap() = Some(Arc::clone(&gate));
    let caller = Caller::of_settings(&w.gateway.settings);
    let mut one = w.gateway.publish("/live/show", "rtmp://h/live".into(), caller).await.unwrap();
    let room = Arc::new(Semaphore::new(1));
    let held = Arc::clone(&room).try_acquire_owned().unwrap();
    let data = Bytes::from_static(SOURCE);
    let cut = Cut { data, duration_ms: 2_000, discontinuity: false };
    let work = w.gateway.publish_segment(&mut one, cut, Arc::new(held)).await.unwrap();
    // The connection is gone before the segment is done.
    drop(work);
    until("it is at work", || async { w.segments() == 1 }).await;
    assert_eq!(room.available_permits(), 0);
    gate.add_permits(1);
    until("its room is given back", || async { room.available_permits() == 1 }).await;
    assert_eq!(state(&w, "show").await["segments"], 1);
}

/// Each connection is a stream, and one that sends nothing has not started.
#[tokio::test]
async fn publications_are_counted_when_they_begin_and_when_they_end() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let w = World::start(1, &[ONE_RENDITION]).await;
    let caller = Caller::of_settings(&w.gateway.settings);
    for segments in [2, 0] {
        let url = "rtmp://h/live".to_owned();
        let mut one = w.gateway.publish("/live/show", url, caller.clone()).await.unwrap();
        for _ in 0..segments {
            let data = Bytes::from_static(SOURCE);
            let cut = Cut { data, duration_ms: 2_000, discontinuity: false };
            w.gateway.publish_segment(&mut one, cut, Arc::new(())).await.unwrap().await;
        }
        w.gateway.end_publication(one).await;
    }
    let counted = recorder.handle().render();
    for line in ["created_total 2", "started_total 1", "ended_total 2"] {
        let line = format!("livepeer_stream_{line}");
        assert!(counted.lines().any(|said| said == line), "{line}: {counted}");
    }
}

#[tokio::test]
async fn what_is_no_publisher_is_shown_the_door() {
    let w = World::start(1, &["--rtmp-max-connections=1"]).await;
    let address = w.rtmp.trim_start_matches("rtmp://").to_owned();
    let play = hello(b"\x02\x00\x04play\x00\x3f\xf0\0\0\0\0\0\0");
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &play, &hello(b"\xff"), &[3; 10_000]] {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        // Closed by the other side, with or without unread bytes.
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.len() <= 1 + 2 * 1536 + 100);
    }
    // One place: who comes second is turned away at once.
    let mut first = TcpStream::connect(&address).await.unwrap();
    first.write_all(&hello(b"\x05")[..1537]).await.unwrap();
    let mut greeting = vec![0; 3073];
    first.read_exact(&mut greeting).await.unwrap();
    let mut second = TcpStream::connect(&address).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
    w.assert_untouched().await;
}

//! Recordings: what is stored, how it is played, and who may.

use crate::{
    stream_auth::Hook,
    world::{CONFIG, OTHER, Replica, SOURCE, World, error},
};
use penstock_domain::StreamId;
use penstock_gateway::{clock, service::Gateway};
use penstock_store::UnixMs;
use penstock_testkit::{
    media, places, s3::S3Server, sim::orchestrator::rendition, until::DEADLINE,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn flag(folder: &Path) -> String {
    format!("--record-store=disk:{}", folder.display())
}

/// Waits until a replica has recorded what was pushed to it: an answer does not wait for a slow disk.
pub async fn recorded(gateway: &Gateway) {
    gateway.jobs.close();
    tokio::time::timeout(DEADLINE, gateway.jobs.wait()).await.unwrap();
    gateway.jobs.reopen();
}

/// What a playlist names.
pub fn uris(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| !line.starts_with('#')).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn what_is_pushed_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let w = World::start(1, &[&flag(folder.path())]).await;
    for (seq, data) in [(0, SOURCE), (2, OTHER), (1, SOURCE)] {
        w.pushed(&format!("/live/show/{seq}.ts"), data).await;
    }
    // Repeating a push records nothing twice.
    w.pushed("/live/show/1.ts", SOURCE).await;
    recorded(&w.gateway).await;
    let (status, master) = w.get("/recordings/show/index.m3u8").await;
    assert_eq!(status, 200);
    assert_eq!(uris(&master), ["source.m3u8", "small.m3u8", "wide.m3u8"]);
    let (_, playlist) = w.get("/recordings/show/small.m3u8").await;
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n") && !playlist.contains("DISCON"), "{playlist}");
    let named = uris(&playlist);
    assert_eq!(named.len(), 3, "{playlist}");
    for (seq, name) in named.iter().enumerate() {
        let url = format!("{}/recordings/show/{name}", w.url);
        let answer = w.http.get(url).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "video/mp2t");
        let data = if seq == 2 { OTHER } else { SOURCE };
        assert_eq!(answer.bytes().await.unwrap(), rendition("small", seq as i64, data));
    }
    // A playlist has a tag, until it grows.
    let list = format!("{}/recordings/show/small.m3u8", w.url);
    let tag = w.http.get(&list).send().await.unwrap().headers()["etag"].clone();
    let ask = || w.http.get(&list).header("if-none-match", &tag).send();
    assert_eq!(ask().await.unwrap().status(), 304);
    w.pushed("/live/show/4.ts", SOURCE).await;
    recorded(&w.gateway).await;
    let grown = ask().await.unwrap().text().await.unwrap();
    assert_eq!(grown.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "number 3 is missing: {grown}");
    // What lies on the disk has the network's form.
    let stored = files(folder.path());
    let part = stored.iter().filter(|path| path.extension().is_some_and(|e| e == "json"));
    let part: Vec<_> = part.collect();
    assert_eq!((part.len(), stored.len()), (1, 1 + 4 * 3), "{stored:?}");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(part[0]).unwrap()).unwrap();
    assert_eq!(index["duration_ms"], 8_000);
    assert_eq!(index["tracks"][1]["resolution"], "16x16");
    assert_eq!(index["segments"]["source"][1]["seq_no"], 2);
    for (path, status) in [
        ("/recordings/show/other.m3u8", 404),
        ("/recordings/show/index.html", 400),
        ("/recordings/show/index", 400),
        ("/recordings/other/index.m3u8", 404),
        ("/recordings/show/x%2f..%2f..%2fshow/x.ts", 404),
        ("/recordings/%2e%2e/index.m3u8", 404),
        // These bytes are no film.
        ("/recordings/show/small.mp4", 404),
    ] {
        assert_eq!(w.get(path).await.0, status, "{path}");
    }
    // The parts of the index are nobody's business.
    let part = part[0].strip_prefix(folder.path()).unwrap().display().to_string();
    assert_eq!(w.get(&format!("/recordings/{part}")).await.0, 400);
}

#[tokio::test]
async fn nothing_is_kept_unless_asked_for() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.get("/recordings/show/index.m3u8").await.0, 404);
    // A pusher may name neither a folder of this machine nor a private address.
    for store in [
        "file:///tmp/x",
        "/tmp/x",
        "disk:/tmp/x",
        "s3+http://K:S@127.0.0.1:9/bucket",
        "s3+https://K:S@[::1]/bucket",
        "s3+https://K:S@169.254.169.254/bucket",
        "s3://bucket",
    ] {
        for field in ["recordObjectStore", "objectStore"] {
            let more = format!(r#"{{"{field}":"{store}","#);
            let sent = w
                .http
                .put(format!("{}/live/other/0.ts", w.url))
                .header("livepeer-transcode-configuration", CONFIG.replacen('{', &more, 1))
                .body(SOURCE)
                .send();
            let (status, code, text) = error(sent.await.unwrap()).await;
            assert_eq!((status, code.as_str()), (400, "bad_record_store"), "{store}: {text}");
        }
    }
    assert_eq!(w.segments(), 1);
}

/// A header leads from any name to a stream of one's own, and not into a recording of that name.
#[tokio::test]
async fn nobody_gets_into_anothers_recording() {
    let folder = tempfile::tempdir().unwrap();
    let w = World::start(1, &[&flag(folder.path())]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let sent = w
        .http
        .put(format!("{}/live/other/1.ts", w.url))
        .header("livepeer-transcode-configuration", r#"{"manifestID":"mine","profiles":[]}"#)
        .body(OTHER);
    assert_eq!(sent.send().await.unwrap().status(), 200);
    recorded(&w.gateway).await;
    for (name, status) in [("show", 200), ("mine", 200), ("other", 404)] {
        let (got, list) = w.get(&format!("/recordings/{name}/source.m3u8")).await;
        assert_eq!(got, status, "{name}");
        assert!(status == 404 || uris(&list).len() == 1, "{list}");
    }
}

/// The stream is what counts: a record store that fails makes holes in the recording only.
#[tokio::test]
async fn a_record_store_that_fails_stops_no_stream() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let w = World::start(1, &[&flag(&store)]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    recorded(&w.gateway).await;
    // Nothing can be written below a file.
    let run = std::fs::read_dir(store.join("show")).unwrap().next().unwrap().unwrap().path();
    let aside = folder.path().join("aside");
    std::fs::rename(&run, &aside).unwrap();
    std::fs::write(&run, "").unwrap();
    w.pushed("/live/show/1.ts", SOURCE).await;
    assert_eq!(w.get("/stream/show/small.m3u8").await.1.matches("#EXTINF").count(), 2);
    // What was begun goes on by itself; it is over before the folder is back.
    recorded(&w.gateway).await;
    std::fs::remove_file(&run).unwrap();
    std::fs::rename(&aside, &run).unwrap();
    w.pushed("/live/show/2.ts", SOURCE).await;
    recorded(&w.gateway).await;
    let (_, playlist) = w.get("/recordings/show/small.m3u8").await;
    let named: Vec<_> = uris(&playlist).iter().map(|u| u.rsplit('/').next().unwrap()).collect();
    assert_eq!(named.len(), 2, "{playlist}");
    assert!(named[0].starts_with("0-") && named[1].starts_with("2-"), "{playlist}");
    assert!(playlist.contains("#EXT-X-DISCONTINUITY\n"), "{playlist}");
}

#[tokio::test]
async fn what_is_old_goes() {
    let folder = tempfile::tempdir().unwrap();
    let w = World::start(1, &[&flag(folder.path()), "--record-retention-hours=2"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    recorded(&w.gateway).await;
    std::fs::write(folder.path().join("show/notes.ts"), "not ours").unwrap();
    let hours = |n: u64| UnixMs(clock::now().0 + n * 3_600_000);
    let sweep = async |at| w.gateway.recordings.sweep(at).await.unwrap();
    assert_eq!(sweep(hours(1)).await, 0);
    assert_eq!(w.get("/recordings/show/small.m3u8").await.0, 200);
    // The index first, and then what no index names.
    assert_eq!(sweep(hours(2)).await, 1);
    assert_eq!(sweep(hours(3)).await, 3);
    assert_eq!(files(folder.path()), [folder.path().join("show/notes.ts")]);
}

async fn push_film(w: &World, urls: &[&str], segments: &[PathBuf], more: &[u8]) {
    for (seq, file) in segments.iter().enumerate() {
        let url = urls[seq % urls.len()];
        let sent = w
            .http
            .put(format!("{url}/live/film/{seq}.ts"))
            .header("livepeer-transcode-configuration", r#"{"profiles":[]}"#)
            .body([&std::fs::read(file).unwrap(), more].concat());
        assert_eq!(sent.send().await.unwrap().status(), 200);
    }
}

/// A real film, pushed to two replicas, in two runs of one stream: one recording, one MP4.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_one_film() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [flag(&folder.path().join("store"))];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let w = World::start(1, &flags).await;
    let stores = (w.gateway.store.clone(), w.gateway.segments.clone());
    let other = Replica::on(&w.signer.uri(), &flags, Some(stores)).await;
    let small = media::shrink(&places::film(), folder.path());
    let cut = folder.path().join("cut");
    std::fs::create_dir(&cut).unwrap();
    let segments = media::cut_into_segments(&small, 1, &cut);
    // Alternating replicas know the same run.
    push_film(&w, &[&w.url, &other.url], &segments, &[]).await;
    // The encoder comes back after a silence and counts anew.
    let id = StreamId::new("film").unwrap();
    let now = clock::now();
    let mut seen = w.gateway.store.stream(&id, now).await.unwrap().unwrap();
    seen.value.last_used_at = UnixMs(now.0 - 60_000);
    w.gateway.store.put_stream(&id, Some(seen.version), &seen.value, 300_000, now).await.unwrap();
    // An empty packet makes other bytes of the same film, which are no repetition.
    let mut nothing = [0xff; 188];
    nothing[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    push_film(&w, &[&other.url], &segments, &nothing).await;
    recorded(&w.gateway).await;
    recorded(&other.gateway).await;
    let url = format!("{}/recordings/film/source", w.url);
    let playlist = w.get("/recordings/film/source.m3u8").await.1;
    assert_eq!(uris(&playlist).len(), 2 * segments.len(), "{playlist}");
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    let answer = w.http.get(format!("{url}.mp4")).send().await.unwrap();
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=film-source.mp4;");
    assert_eq!(answer.headers()["content-type"], "video/mp4");
    let file = folder.path().join("film.mp4");
    std::fs::write(&file, answer.bytes().await.unwrap()).unwrap();
    let video = media::probe(&file);
    assert_eq!((video.width, video.height, video.has_audio), (320, 180, true));
    assert_eq!(video.frame_pts_90khz.len(), 2 * 132);
    let steps = video.frame_pts_90khz.windows(2).map(|two| two[1] - two[0]);
    assert!(steps.clone().all(|step| (3_500..3_700).contains(&step)), "{:?}", steps.max());
    assert_eq!(decoded(file.as_os_str()), "");
    // Another program reads the playlist over HTTP and finds every picture.
    assert_eq!(pictures(&format!("{}/recordings/film/index.m3u8", w.url)), 2 * 132);
    other.stop.cancel();
}

/// How many pictures another program finds at an address.
pub fn pictures(url: &str) -> u64 {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "json"])
        .args(["-show_entries", "stream=nb_read_frames"])
        .arg(url)
        .output()
        .expect("ffprobe runs");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = said["streams"][0]["nb_read_frames"].as_str();
    count.unwrap_or_else(|| panic!("{url}: {output:?}")).parse().unwrap()
}

/// Decodes a film with all its sound; what there is to complain about.
pub fn decoded(file: &std::ffi::OsStr) -> String {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "warning", "-xerror", "-i"])
        .arg(file)
        .args(["-f", "null", "-"])
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A stream's segments lie where header or webhook want them as well, and are played from here.
#[tokio::test]
async fn segments_are_put_into_a_bucket_as_well() {
    let server = S3Server::start().await;
    let address = server.url().replace("http://", "s3+http://id:sec%2Fret@");
    let more = format!(r#"{{"objectStore":"{address}/{}/live","#, S3Server::BUCKET);
    let w = World::start(1, &["--allow-private-peers"]).await;
    for seq in 0..2 {
        let sent = w
            .http
            .put(format!("{}/live/show/{seq}.ts", w.url))
            .header("livepeer-transcode-configuration", CONFIG.replacen('{', &more, 1))
            .body(SOURCE)
            .send();
        assert_eq!(sent.await.unwrap().status(), 200);
    }
    recorded(&w.gateway).await;
    let names = server.names();
    for rendition in ["source", "small", "wide"] {
        for seq in 0..2 {
            let name = format!("<Key>live/show/{rendition}/{seq}.ts</Key>");
            assert!(names.contains(&name), "{name}: {names}");
        }
    }
    assert_eq!(names.matches("<Key>").count(), 6, "{names}");
    assert_eq!(w.get("/stream/show/small.m3u8").await.1.matches("#EXTINF").count(), 2);
    assert_eq!(w.get("/recordings/show/index.m3u8").await.0, 404, "nothing is recorded");
}

/// The webhook names bucket, address and earlier streams, and decides who may watch.
#[tokio::test]
async fn the_webhook_names_a_bucket() {
    let server = S3Server::start().await;
    let address = server.url().replace("http://", "s3+http://id:sec%2Fret@");
    let config = format!(
        r#"{{"manifestID":"inside","recordObjectStore":"{address}/{}/rec","previousSessions":["first"],{}"#,
        S3Server::BUCKET,
        CONFIG.trim_start_matches('{'),
    );
    let (hook, flag) = Hook::start(200, &config).await;
    let w = World::start(1, &[&flag, "--allow-private-peers"]).await;
    for name in ["first", "second"] {
        hook.says(200, &config.replace("inside", &format!("in-{name}")));
        for seq in 0..2 {
            let url = format!("{}/live/{name}/{seq}.ts?secret=1", w.url);
            assert_eq!(w.http.put(url).body(SOURCE).send().await.unwrap().status(), 200);
        }
    }
    recorded(&w.gateway).await;
    let names = server.names();
    assert!(names.contains("<Key>rec/first/") && names.contains("<Key>rec/second/"), "{names}");
    // Recordings go by the name that was pushed to; the stream before comes first.
    let asked = hook.asked().len();
    let (status, playlist) = w.get("/recordings/second/small.m3u8?viewer=1").await;
    assert_eq!(status, 200, "{playlist}");
    let named = uris(&playlist);
    assert_eq!(named.len(), 4, "{playlist}");
    assert!(named[..2].iter().all(|uri| uri.starts_with("../first/")), "{playlist}");
    assert!(named.iter().all(|uri| uri.ends_with(".ts?viewer=1")), "{playlist}");
    for uri in [named[0], named[3]] {
        let url = url::Url::parse(&format!("{}/recordings/second/", w.url)).unwrap();
        let answer = w.http.get(url.join(uri).unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{uri}");
        assert!(!answer.bytes().await.unwrap().is_empty());
    }
    // Once a recording and viewer, with the whole URL.
    let of_viewers = &hook.asked()[asked..];
    assert_eq!(of_viewers.len(), 2, "{of_viewers:?}");
    assert_eq!(of_viewers[0], format!("{}/recordings/second/small.m3u8?viewer=1", w.url));
    hook.says(403, "no");
    assert_eq!(w.get("/recordings/second/small.m3u8?viewer=1").await.0, 200);
    let refused = w.http.get(format!("{}/recordings/second/small.m3u8?viewer=2", w.url));
    let (status, code, _) = error(refused.send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "stream_denied"));
    hook.says(500, "");
    assert_eq!(w.get("/recordings/second/small.m3u8?viewer=3").await.0, 503);
    // Readers may be sent elsewhere.
    let base = config.replace(
        r#""previousSessions""#,
        r#""recordObjectStoreUrl":"https://cdn.example/","previousSessions""#,
    );
    hook.says(200, &base);
    let (_, playlist) = w.get("/recordings/second/small.m3u8?viewer=4").await;
    assert!(uris(&playlist)[3].starts_with("https://cdn.example/second/"), "{playlist}");
}

/// Where watching is for callers, so are recordings.
#[tokio::test]
async fn recordings_are_watched_as_streams_are() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [&flag(folder.path()), "--caller-auth=signer", "--playback-auth=caller"];
    let w = World::start(1, &flags).await;
    for path in ["/stream/show.m3u8", "/recordings/show/index.m3u8"] {
        let answer = w.http.get(format!("{}{path}", w.url)).send().await.unwrap();
        assert_eq!(error(answer).await.0, 401, "{path}");
    }
}

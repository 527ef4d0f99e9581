//! HLS as a player sees it.

use crate::world::{MP4, SOURCE, World};
use penstock_testkit::sim::orchestrator::rendition;

#[tokio::test]
async fn playlists_and_segments() {
    let w = World::with(1).await;
    let sent = w
        .http
        .put(format!("{}/live/show/0.ts", w.url))
        .header("livepeer-transcode-configuration", crate::world::CONFIG)
        .header("content-resolution", "1280x720")
        .header("content-duration", "2002")
        .body(SOURCE)
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 200);
    let answer = w.http.get(format!("{}/stream/show.m3u8", w.url)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/x-mpegURL");
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(answer.headers()["cache-control"].to_str().unwrap().starts_with("max-age="));
    let master = answer.text().await.unwrap();
    assert!(master.contains("RESOLUTION=1280x720\nshow/source.m3u8\n"), "{master}");
    assert!(master.contains("RESOLUTION=16x16\nshow/small.m3u8\n"), "{master}");
    let (_, media) = w.get("/stream/show/wide.m3u8").await;
    assert!(media.contains("#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:2.002,\n/stream/show/wide/0.ts?h="), "{media}");
    let answer = w.http.get(format!("{}/stream/show/wide/0.ts", w.url)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "video/mp2t");
    assert_eq!(answer.headers()["cache-control"], "no-cache", "the next run has a 0 too");
    let named = media.lines().last().unwrap();
    let marked = w.http.get(format!("{}{named}", w.url)).send().await.unwrap();
    assert_eq!(marked.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(marked.bytes().await.unwrap(), rendition("wide", 0, SOURCE));
    assert_eq!(w.get("/stream/show/wide/0.ts?h=00000000").await.0, 404);
    assert_eq!(answer.bytes().await.unwrap(), rendition("wide", 0, SOURCE));
    assert_eq!(w.get("/stream/show/wide/0.mp4").await.0, 404);
    assert_eq!(w.get("/stream/show/other.m3u8").await.0, 404);
}

#[tokio::test]
async fn segments_in_part_or_not_at_all() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let (_, media) = w.get("/stream/show/source.m3u8").await;
    let url = format!("{}{}", w.url, media.lines().last().unwrap());
    let whole = w.http.get(&url).send().await.unwrap();
    let tag = whole.headers()["etag"].clone();
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let head = w.http.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], SOURCE.len().to_string().as_str());
    assert_eq!(head.headers()["etag"], tag);
    assert!(head.bytes().await.unwrap().is_empty());
    let part = w.http.get(&url).header("range", "bytes=100-199").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 100-199/376");
    assert_eq!(part.bytes().await.unwrap(), SOURCE[100..200]);
    assert_eq!(w.http.get(&url).header("range", "bytes=376-").send().await.unwrap().status(), 416);
    let known = w.http.get(&url).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    assert!(known.bytes().await.unwrap().is_empty());
    assert_eq!(w.gateway.shown.files.made(), 1, "six questions, one fetch");
    // A playlist has a tag as well, until it grows.
    let list = format!("{}/stream/show/source.m3u8", w.url);
    let tag = w.http.get(&list).send().await.unwrap().headers()["etag"].clone();
    let ask = || w.http.get(&list).header("if-none-match", &tag).send();
    assert_eq!(ask().await.unwrap().status(), 304);
    w.pushed("/live/show/1.ts", SOURCE).await;
    assert_eq!(ask().await.unwrap().status(), 200);
    // Nothing here that a DASH player could be given.
    assert_eq!(w.get("/stream/show.mpd").await.0, 404);
}

#[tokio::test]
async fn the_window_slides_and_gaps_are_marked() {
    let w = World::start(1, &["--hls-gap-wait-ms=0"]).await;
    for seq in (0..4).chain(6..16) {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    let (_, media) = w.get("/stream/show/small.m3u8").await;
    assert!(
        media.contains("#EXT-X-MEDIA-SEQUENCE:8\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"),
        "{media}"
    );
    assert_eq!(media.matches("#EXTINF").count(), 6);
    // A player that is a little behind still finds its segment; what is long gone is gone.
    assert_eq!(w.get("/stream/show/small/7.ts").await.0, 200);
    assert_eq!(w.get("/stream/show/small/0.ts").await.0, 404);
    // A late one is answered, and not shown.
    w.pushed("/live/show/5.ts", SOURCE).await;
    assert_eq!(w.get("/stream/show/small.m3u8").await.1, media);
}

#[tokio::test]
async fn mp4_segments_keep_their_container() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.mp4", MP4).await;
    let (_, media) = w.get("/stream/show/small.m3u8").await;
    assert!(media.contains("/stream/show/small/0.mp4"), "{media}");
    let answer = w.http.get(format!("{}/stream/show/small/0.mp4", w.url)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "video/mp4");
}

#[tokio::test]
async fn browsers_may_ask_from_any_page() {
    let w = World::with(0).await;
    let answer = w
        .http
        .request(reqwest::Method::OPTIONS, format!("{}/live/show/0.ts", w.url))
        .header("origin", "https://example.com")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "content-duration")
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(answer.headers()["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
}

#[tokio::test]
async fn the_newest_stream_has_a_name_of_its_own_if_the_operator_wants() {
    let w = World::start(1, &["--current-manifest"]).await;
    assert_eq!(w.get("/stream/current.m3u8").await.0, 404);
    for stream in ["first", "second"] {
        w.pushed(&format!("/live/{stream}/0.ts"), SOURCE).await;
        let newest = w.get("/stream/Current.m3u8").await;
        assert_eq!(newest, w.get(&format!("/stream/{stream}.m3u8")).await);
        assert_eq!(newest.0, 200);
    }
    let plain = World::with(1).await;
    plain.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(plain.get("/stream/current.m3u8").await.0, 404, "unless it is asked for");
}

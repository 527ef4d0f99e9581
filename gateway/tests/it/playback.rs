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
    assert_eq!(marked.headers()["cache-control"], "public, max-age=60");
    assert_eq!(marked.bytes().await.unwrap(), rendition("wide", 0, SOURCE));
    assert_eq!(w.get("/stream/show/wide/0.ts?h=00000000").await.0, 404);
    assert_eq!(answer.bytes().await.unwrap(), rendition("wide", 0, SOURCE));
    assert_eq!(w.get("/stream/show/wide/0.mp4").await.0, 404);
    assert_eq!(w.get("/stream/show/other.m3u8").await.0, 404);
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

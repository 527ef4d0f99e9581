//! The pages, and that nothing on them comes from elsewhere.

use crate::world::World;

#[tokio::test]
async fn pages_load_only_what_the_gateway_serves() {
    let w = World::with(0).await;
    for page in ["/", "/docs"] {
        let answer = w.http.get(format!("{}{page}", w.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("http"), "{policy}");
        let html = answer.text().await.unwrap();
        assert!(!html.contains("//cdn") && !html.contains("https://"), "{page}");
        let mut found = 0;
        for piece in html.split('"').filter(|p| p.starts_with("/assets/")) {
            let asset = w.http.get(format!("{}{piece}", w.url)).send().await.unwrap();
            assert_eq!(asset.status(), 200, "{piece}");
            found += 1;
        }
        assert!(found >= 2, "{page}");
    }
}

#[tokio::test]
async fn scripts_are_sent_compressed() {
    let w = World::with(0).await;
    let answer = w.http.get(format!("{}/assets/hls.js", w.url)).send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/javascript"));
    assert!(answer.bytes().await.unwrap().starts_with(&[0x1f, 0x8b]));
}

#[tokio::test]
async fn the_api_document_lists_the_routes() {
    let w = World::with(0).await;
    let (status, text) = w.get("/openapi.json").await;
    assert_eq!(status, 200);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "/live/{stream}/{file}",
        "/audio-to-text",
        "/stream/{file}",
        "/stream/{stream}/{file}",
        "/stream/{stream}/{rendition}/{file}",
        "/api/streams",
        "/api/streams/{stream}",
        "/healthz",
        "/readyz",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert!(document["paths"]["/live/{stream}/{file}"]["put"].is_object());
    assert!(document["paths"]["/live/{stream}/{file}"]["post"].is_object());
}

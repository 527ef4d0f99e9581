//! Who may push: the stream webhook, ids, and streams that fall silent.

use crate::world::{CONFIG, OTHER, SOURCE, World, error};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use penstock_domain::AuthId;
use penstock_gateway::{front::caller::Caller, service::publish::Publication};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// A webhook: what it answers, and what it was asked.
#[derive(Clone, Default)]
pub struct Hook {
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hook {
    pub async fn start(status: u16, answer: &str) -> (Self, String) {
        let hook = Self::default();
        hook.says(status, answer);
        let router = Router::new().route("/auth", post(Self::serve)).with_state(hook.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let flag = format!("--auth-webhook-url=http://{}/auth", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (hook, flag)
    }

    pub fn says(&self, status: u16, answer: &str) {
        *self.answer.lock().unwrap() = (status, answer.to_owned());
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn serve(
        State(hook): State<Self>,
        body: Bytes,
    ) -> (StatusCode, [(&'static str, &'static str); 1], String) {
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        hook.asked.lock().unwrap().push(body["url"].as_str().unwrap().to_owned());
        let (status, text) = hook.answer.lock().unwrap().clone();
        (StatusCode::from_u16(status).unwrap(), [("location", "/auth")], text)
    }
}

async fn plain(w: &World, path: &str, data: &'static [u8]) -> reqwest::Response {
    w.http.put(format!("{}{path}", w.url)).body(data).send().await.unwrap()
}

#[tokio::test]
async fn the_webhook_names_the_stream_and_its_renditions() {
    let answer = r#"{"manifestID":"inside","profiles":[{"name":"tiny","width":16,"height":16,"bitrate":1000}]}"#;
    let (hook, flag) = Hook::start(200, answer).await;
    let w = World::start(1, &[&flag]).await;
    for seq in 0..3 {
        let pushed = plain(&w, &format!("/live/outside/{seq}.ts?secret=1"), SOURCE).await;
        assert_eq!(pushed.status(), 200);
    }
    // Once a stream, with the URL and without its query.
    assert_eq!(hook.asked(), [format!("{}/live/outside/0.ts", w.url)]);
    let (_, master) = w.get("/stream/inside.m3u8").await;
    assert!(master.contains("inside/tiny.m3u8"), "{master}");
    assert_eq!(w.get("/stream/outside.m3u8").await.0, 404);
    // Another name that means the same stream goes on with it: it is asked for by itself.
    assert_eq!(plain(&w, "/live/second/3.ts", SOURCE).await.status(), 200);
    assert_eq!(hook.asked().len(), 2);
    // Knowing the inner name does not spare the question.
    hook.says(403, "no");
    let refused = plain(&w, "/live/inside/4.ts", SOURCE).await;
    let (status, code, text) = error(refused).await;
    assert_eq!((status, code.as_str()), (403, "stream_denied"));
    assert_eq!(text, "Could not create stream ID: url=/live/inside/4.ts");
}

#[tokio::test]
async fn refusals_cost_nothing() {
    let (hook, flag) = Hook::start(403, "no").await;
    let w = World::start(1, &[&flag]).await;
    for (status, answer, expected, code) in [
        (403, "", 403, "stream_denied"),
        (302, "", 403, "stream_denied"),
        (200, "{}", 403, "stream_denied"),
        (200, "not json", 403, "stream_denied"),
        (500, "", 503, "stream_webhook_unavailable"),
        (200, r#"{"manifestID":"a b"}"#, 400, "bad_manifest_id"),
    ] {
        hook.says(status, answer);
        let refused = plain(&w, "/live/show/0.ts", SOURCE).await;
        let (got, got_code, _) = error(refused).await;
        assert_eq!((got, got_code.as_str()), (expected, code), "{status} {answer}");
    }
    hook.says(200, &"x".repeat(100_000));
    assert_eq!(plain(&w, "/live/show/0.ts", SOURCE).await.status(), 503);
    w.assert_untouched().await;
    // An empty answer means: yes, as usual.
    hook.says(200, "");
    assert_eq!(plain(&w, "/live/show/0.ts", SOURCE).await.status(), 200);
}

#[tokio::test]
async fn a_webhook_that_is_away_is_no_refusal() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flag = format!("--auth-webhook-url=http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let w = World::start(1, &[&flag]).await;
    let answer = plain(&w, "/live/show/0.ts", SOURCE).await;
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(error(answer).await.1, "stream_webhook_unavailable");
    w.assert_untouched().await;
}

#[tokio::test]
async fn header_and_webhook_have_to_agree() {
    let small = r#"{"name":"small","width":16,"height":16,"bitrate":1000,"fps":30}"#;
    let wide = r#"{"name":"wide","width":32,"height":16,"bitrate":2000,"fps":30}"#;
    let same = format!(r#"{{"manifestID":"show","profiles":[{small},{wide}]}}"#);
    let (hook, flag) = Hook::start(200, &same).await;
    let w = World::start(1, &[&flag]).await;
    assert_eq!(w.pushed("/live/show/0.ts", SOURCE).await.len(), 2);
    hook.says(200, &format!(r#"{{"manifestID":"other","profiles":[{small}]}}"#));
    let answer = w.push("/live/other/0.ts", SOURCE).await;
    assert_eq!(error(answer).await.1, "profiles_mismatch");
}

#[tokio::test]
async fn the_header_may_name_the_stream() {
    let w = World::with(1).await;
    let config = CONFIG.replacen('{', r#"{"manifestID":"named","#, 1);
    let push = |seq: u64, config: Option<&str>| {
        let mut request = w.http.put(format!("{}/live/show/{seq}.ts", w.url)).body(SOURCE);
        if let Some(config) = config {
            request = request.header("livepeer-transcode-configuration", config);
        }
        request.send()
    };
    assert_eq!(push(0, Some(&config)).await.unwrap().status(), 200);
    // The first segment decides.
    assert_eq!(push(1, None).await.unwrap().status(), 200);
    let (_, media) = w.get("/stream/named/small.m3u8").await;
    assert_eq!(media.matches("#EXTINF").count(), 2, "{media}");
    assert_eq!(w.get("/stream/show.m3u8").await.0, 404);
}

/// Pushes a segment with a token and a wish where it goes.
async fn wish(w: &World, path: &str, token: Option<&str>, stream: &str) -> reqwest::Response {
    let config = CONFIG.replacen('{', &format!(r#"{{"manifestID":"{stream}","#), 1);
    let put = w.http.put(format!("{}{path}", w.url)).body(SOURCE);
    let put = put.header("livepeer-transcode-configuration", config);
    match token {
        Some(token) => put.bearer_auth(token).send().await.unwrap(),
        None => put.send().await.unwrap(),
    }
}

async fn publishes(w: &World, path: &str, whose: &str) -> Result<Publication, String> {
    let mut caller = Caller::of_settings(&w.gateway.settings);
    caller.auth_id = AuthId::new(whose).unwrap();
    let url = format!("rtmp://localhost{path}");
    w.gateway.publish(path, url, caller).await.map_err(|error| error.to_string())
}

/// The record is aged, instead of waiting.
async fn falls_silent(w: &World, stream: &str) {
    let id = penstock_domain::StreamId::new(stream).unwrap();
    let now = penstock_gateway::clock::now();
    let mut seen = w.gateway.store.stream(&id, now).await.unwrap().unwrap();
    let idle = w.gateway.settings.video.stream_idle_ms;
    seen.value.last_used_at = penstock_store::UnixMs(now.0 - idle);
    w.gateway.store.put_stream(&id, Some(seen.version), &seen.value, 300_000, now).await.unwrap();
}

#[tokio::test]
async fn no_name_leads_into_anothers_stream() {
    let w = World::start(1, &["--caller-auth=signer", "--publish-auth=open"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    w.signer.admit("psk_eve", "evil:eve", json!({}));
    assert_eq!(wish(&w, "/live/a/0.ts", Some("psk_bob"), "show").await.status(), 200);
    for (path, token) in [
        ("/live/x/9.ts", Some("psk_eve")),
        ("/live/show/9.ts", Some("psk_eve")),
        ("/live/x/9.ts", None),
        ("/live/show/9.ts", None),
    ] {
        let refused = error(wish(&w, path, token, "show").await).await;
        assert_eq!((refused.0, refused.1.as_str()), (403, "stream_denied"), "{path} {token:?}");
    }
    let denied = publishes(&w, "/live/show", "evil:eve").await.unwrap_err();
    assert_eq!(denied, "authentication denied");
    // The name that eve tried has not become hers.
    assert_eq!(wish(&w, "/live/x/1.ts", Some("psk_bob"), "show").await.status(), 200);
    assert_eq!(w.get("/stream/show/small.m3u8").await.1.matches("#EXTINF").count(), 2);
    // Who is first when it is over begins it anew, and has it then.
    falls_silent(&w, "show").await;
    assert_eq!(wish(&w, "/live/y/2.ts", Some("psk_eve"), "show").await.status(), 200);
    assert_eq!(wish(&w, "/live/a/3.ts", Some("psk_bob"), "show").await.status(), 403);
}

#[tokio::test]
async fn a_publish_key_keeps_other_ways_in_shut() {
    let w = World::with(1).await;
    let us = w.gateway.settings.auth_id.to_string();
    let publication = publishes(&w, "/live/show/key", &us).await.unwrap();
    // Even before the first segment, by whichever name.
    for path in ["/live/show/0.ts", "/live/other/0.ts"] {
        assert_eq!(wish(&w, path, None, "show").await.status(), 403, "{path}");
    }
    assert_eq!(plain(&w, "/live/show/0.ts", SOURCE).await.status(), 403);
    w.gateway.end_publication(publication).await;
    falls_silent(&w, "show").await;
    for path in ["/live/show", "/live/show/guess"] {
        assert_eq!(publishes(&w, path, &us).await.unwrap_err(), "authentication denied", "{path}");
    }
    assert_eq!(plain(&w, "/live/show/0.ts", SOURCE).await.status(), 403);
    assert_eq!(w.segments(), 0);
    publishes(&w, "/live/show/key", &us).await.unwrap();
    // What was pushed by HTTP has no key, and a publisher with one does not take it over.
    assert_eq!(plain(&w, "/live/pushed/0.ts", SOURCE).await.status(), 200);
    assert!(publishes(&w, "/live/pushed/key", &us).await.is_err());
    assert!(publishes(&w, "/live/pushed", &us).await.is_ok());
}

/// What a pusher means by silence is made short; the stream's record says when it was used last.
#[tokio::test]
async fn a_silent_stream_is_over() {
    let answer = r#"{"manifestID":"show","presets":["P144p30fps16x9"]}"#;
    let (hook, flag) = Hook::start(200, answer).await;
    let w = World::start(1, &[&flag, "--stream-idle-ms=1000"]).await;
    assert_eq!(plain(&w, "/live/show/0.ts", SOURCE).await.status(), 200);
    assert!(!w.get("/stream/show/source.m3u8").await.1.contains("ENDLIST"));
    falls_silent(&w, "show").await;
    let (_, state) = w.get("/api/streams").await;
    assert!(state.contains(r#""live":false"#), "{state}");
    // The next push asks again, and gets what is said now.
    hook.says(200, r#"{"manifestID":"show","presets":[]}"#);
    assert_eq!(plain(&w, "/live/show/1.ts", OTHER).await.status(), 200);
    assert_eq!(hook.asked().len(), 2);
    let (_, state) = w.get("/api/streams/show").await;
    assert!(state.contains(r#""live":true"#) && state.contains(r#""segments":1"#), "{state}");
    assert_eq!(w.segments(), 1, "no renditions any more");
}

//! Requests through to a live runner and back: paths, headers, streams, other protocols, proxies,
//! channels, and what clients never learn.

use crate::{
    runner_app::App,
    runners::{ON, beat, listed, read, said},
    world::{SECRET, World, client},
};
use axum::http::Method;
use futures::StreamExt as _;
use penstock_testkit::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Stage {
    world: World,
    app: App,
    /// Of its session.
    at: String,
    session: Value,
}

impl Stage {
    async fn start(settings: &[&str], facts: Value) -> Self {
        let settings = [&ON[..], settings].concat();
        let (world, app) = (World::offchain(&settings).await, App::start().await);
        let mut said = said("r", &app.url());
        for (key, value) in facts.as_object().unwrap() {
            said[key] = value.clone();
        }
        assert_eq!(beat(&world, SECRET, &said).await.0, 200);
        let (status, session) =
            read(world.http.post(format!("{}/apps/r/session", world.service))).await;
        assert_eq!(status, 200, "{session}");
        let at = session["app_url"].as_str().unwrap().to_owned();
        Self { world, app, at, session }
    }

    fn get(&self, rest: &str) -> reqwest::RequestBuilder {
        self.world.http.get(format!("{}{rest}", self.at))
    }

    /// A redirect, not followed.
    async fn redirected(&self) -> reqwest::Response {
        let http = client().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        http.get(format!("{}/redirect", self.at)).send().await.unwrap()
    }

    /// What the runner is told about the session, by which it acts for it.
    async fn told(&self) -> (String, String) {
        let (_, said) = read(self.get("/x")).await;
        let header = |name: &str| said["headers"][name].as_str().unwrap().to_owned();
        assert_eq!(header("livepeer-session-id"), self.session["session_id"].as_str().unwrap());
        assert_eq!(header("livepeer-runner-route"), "r");
        (header("livepeer-session-control"), header("livepeer-session-token"))
    }
}

#[tokio::test]
async fn requests_go_through_and_tell_nothing() {
    let stage = Stage::start(&["--live-runner-body-bytes=1000"], json!({})).await;
    let (world, address) = (&stage.world, stage.app.address().to_owned());
    let url = format!("{}/a/b%20c?x=1&y=%2F", stage.at);
    let request = world.http.request(Method::PATCH, url).body("a body");
    let request = request.header("X-Forwarded-For", "1.2.3.4").header("Forwarded", "for=1.2.3.4");
    let request = request.header("Connection", "x-own").header("X-Own", "1").header("X-Kept", "2");
    let (status, said) = read(request).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!((&said["method"], &said["body"]), (&json!("PATCH"), &json!("a body")));
    assert_eq!((&said["path"], &said["query"]), (&json!("/base/a/b%20c"), &json!("x=1&y=%2F")));
    let headers = said["headers"].as_object().unwrap();
    assert_eq!(
        (headers["x-kept"].as_str(), headers["host"].as_str()),
        (Some("2"), Some(address.as_str()))
    );
    for gone in ["forwarded", "x-forwarded-for", "x-own"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(read(stage.get("")).await.1["path"], "/base");
    assert_eq!(read(stage.get("/")).await.1["path"], "/base");

    // A redirect is passed on, to where the client finds it, and no header says where the runner is.
    let answer = stage.redirected().await;
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["location"], format!("{}/next?x=1", stage.at));
    assert_eq!(answer.headers()["x-harmless"], "yes");
    assert!(!format!("{:?}", answer.headers()).contains(&address), "{:?}", answer.headers());

    let traced = read(world.http.request(Method::TRACE, format!("{}/x", stage.at))).await;
    assert_eq!(traced, (405, json!("CONNECT and TRACE are not passed on")));

    // Above the runner's own path is nothing.
    for path in ["/a%2F..%2F..%2Fx", "/a%5c..%5cx", "/%00", "/%"] {
        assert_eq!(read(stage.get(path)).await, (400, json!("invalid path")), "{path}");
    }
    let large = world.http.post(format!("{}/x", stage.at)).body("x".repeat(1001));
    let text = json!("the body is larger than 1000 bytes (--live-runner-body-bytes)");
    assert_eq!(read(large).await, (413, text.clone()));
    let pieces = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(100))));
    let large = world.http.post(format!("{}/x", stage.at));
    assert_eq!(read(large.body(reqwest::Body::wrap_stream(pieces))).await, (413, text));

    let Stage { world, app, at, session } = stage;
    let unknown = at.replace(session["session_id"].as_str().unwrap(), "other");
    assert_eq!(read(world.http.get(unknown)).await, (404, json!("runner session not found")));
    app.server.die().await;
    let gone = (502, json!("the runner cannot be reached"));
    assert_eq!(read(world.http.get(format!("{at}/x"))).await, gone);
    assert_eq!(listed(&world).await, Value::Null, "others are told to go elsewhere");
}

#[tokio::test]
async fn a_client_that_breaks_off_is_no_failure_of_the_runner() {
    let stage = Stage::start(&["--service-addr=http://127.0.0.1:0"], json!({})).await;
    let url = url::Url::parse(&stage.at).unwrap();
    let at = (url.host_str().unwrap(), url.port().unwrap());
    let mut client = tokio::net::TcpStream::connect(at).await.unwrap();
    // No piece has such a length.
    let request = format!(
        "POST {}/x HTTP/1.1\r\nHost: {}:{}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        url.path(),
        at.0,
        at.1
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = client.read_to_string(&mut answer);
    tokio::time::timeout(penstock_testkit::until::DEADLINE, read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("the body ended early"), "{answer}");
    assert_eq!(listed(&stage.world).await[0]["capacity_used"], 1, "it is there for others");
}

#[tokio::test]
async fn events_come_one_by_one_and_end_with_the_session() {
    let stage = Stage::start(&[], json!({ "capacity": 2 })).await;
    let answer = stage.get("/events").send();
    stage.app.gate.add_permits(1);
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut events = answer.bytes_stream();
    // The next one is not made before this one was read.
    for n in 0..3 {
        assert_eq!(events.next().await.unwrap().unwrap(), format!("data: {n}\n\n"));
        stage.app.gate.add_permits(1);
    }
    // The end may come as a frame without a byte.
    while let Some(rest) = events.next().await {
        assert_eq!(rest.unwrap(), "");
    }
    let answer = stage.get("/events").send();
    stage.app.gate.add_permits(1);
    let mut events = answer.await.unwrap().bytes_stream();
    assert!(events.next().await.unwrap().is_ok());
    let stop = format!("{}/stop", stage.session["control_url"].as_str().unwrap());
    assert_eq!(read(stage.world.http.post(stop)).await.0, 204);
    assert!(events.next().await.unwrap().is_err(), "it is cut off");
}

#[tokio::test]
async fn who_is_silent_is_not_waited_for() {
    let stage = Stage::start(&["--live-runner-idle-ms=3000"], json!({})).await;
    let silent = json!("the runner was silent for 3000 ms (--live-runner-idle-ms)");
    assert_eq!(read(stage.get("/wait")).await, (502, silent));
    // A client that sends no more of its request is to blame itself.
    let pieces = futures::stream::once(async { Ok::<_, std::io::Error>("x") });
    let body = reqwest::Body::wrap_stream(pieces.chain(futures::stream::pending()));
    let stalled = read(stage.world.http.post(format!("{}/x", stage.at)).body(body)).await;
    let why = json!("the request was silent for 3000 ms (--live-runner-idle-ms)");
    assert_eq!(stalled, (408, why));
    // Nor for who does not read: an answer that is too much for all that lies between keeps no room.
    let unread = stage.get("/flood").send().await.unwrap();
    until("it is given up", || async {
        stage.world.operator("/v1/runner-sessions").await[0]["open_requests"] == 0
    })
    .await;
    drop(unread);
    let mut socket = shout(&stage.at).await;
    socket.write_all(b"hello").await.unwrap();
    let mut heard = Vec::new();
    // Until it is closed.
    socket.read_to_end(&mut heard).await.unwrap_or_default();
    assert!(b"HELLO".starts_with(&heard), "{heard:?}");
}

/// A connection that speaks `shout` with the app, over TLS.
async fn shout(at: &str) -> reqwest::Upgraded {
    let http = client().http1_only().build().unwrap();
    let request = http.get(format!("{at}/socket"));
    let request = request.header("Connection", "Upgrade").header("Upgrade", "shout");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["upgrade"], "shout");
    answer.upgrade().await.unwrap()
}

#[tokio::test]
async fn other_protocols_pass_both_ways_for_as_long_as_the_session() {
    let stage = Stage::start(&[], json!({})).await;
    let mut socket = shout(&stage.at).await;
    let mut heard = [0; 5];
    for _ in 0..2 {
        socket.write_all(b"hello").await.unwrap();
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"HELLO");
    }
    let sessions = stage.world.operator("/v1/runner-sessions").await;
    assert_eq!(sessions[0]["open_requests"], 1);
    let stop = format!("{}/stop", stage.session["control_url"].as_str().unwrap());
    assert_eq!(read(stage.world.http.post(stop)).await.0, 204);
    assert!(matches!(socket.read(&mut heard).await, Ok(0) | Err(_)), "it ends with the session");
}

#[tokio::test]
async fn proxies_in_the_path_stay_at_the_runners_host() {
    let stage = Stage::start(&["--max-runner-proxies=3"], json!({ "proxy": true })).await;
    let world = &stage.world;
    // The session's own address is one, too.
    let id = stage.at.strip_prefix(&format!("{}/run/", world.service)).unwrap();
    assert_eq!(id.len(), 26);
    assert_eq!(read(stage.get("/x?y=1")).await.1["path"], "/base/x");
    let answer = stage.redirected().await;
    assert_eq!(answer.headers()["location"], format!("{}/next?x=1", stage.at));

    let (control, token) = stage.told().await;
    let proxy = async |token: &str, body: &str| {
        let request = world.http.post(format!("{control}/proxy")).body(body.to_owned());
        read(request.header("Livepeer-Session-Token", token)).await
    };
    assert_eq!(proxy("x", "").await, (401, json!("invalid authorization")));
    for (target, why) in [
        ("http://10.0.0.9/", "target_url hostname must match registered runner_url hostname"),
        ("ftp://127.0.0.1/", "target_url scheme must be http or https"),
        ("http://127.0.0.1/#x", "target_url must not include a fragment"),
        ("/x", "target_url must be an absolute URL"),
    ] {
        let said = json!({ "target_url": target }).to_string();
        assert_eq!(proxy(&token, &said).await, (400, json!(why)));
    }
    let deep = json!({ "target_url": format!("{}/base/deep", stage.app.server.uri) });
    let (status, made) = proxy(&token, &deep.to_string()).await;
    assert_eq!(status, 200, "{made}");
    let url = made["url"].as_str().unwrap();
    assert_eq!(url, format!("{}/run/{}", world.service, made["proxy_id"].as_str().unwrap()));
    assert_eq!(read(world.http.get(format!("{url}/x"))).await.1["path"], "/base/deep/x");
    assert_eq!(proxy(&token, "").await.0, 200);
    let (status, full) = proxy(&token, "{}").await;
    let bound = "no capacity available: 3 of 3 proxies of this session (--max-runner-proxies)";
    assert_eq!((status, full), (503, json!(bound)));

    // The runner ends the session; its proxies are gone with it.
    let stop = world.http.post(format!("{control}/stop")).header("Livepeer-Session-Token", &token);
    assert_eq!(read(stop).await.0, 204);
    let none = (404, json!("live runner proxy not found"));
    assert_eq!(read(world.http.get(url)).await, none);
    assert_eq!(read(stage.get("")).await, none);
    assert_eq!(proxy(&token, "").await, (404, json!("runner session not found")));
}

#[tokio::test]
async fn proxies_may_have_hosts_of_their_own() {
    let template = "--live-runner-proxy-url=https://p-{proxy}.apps.example:8443/in";
    let stage = Stage::start(&[template], json!({ "proxy": true })).await;
    let url = url::Url::parse(&stage.at).unwrap();
    let host = url.host_str().unwrap().to_owned();
    assert!(host.starts_with("p-") && host.ends_with(".apps.example"), "{host}");
    // Such a name leads to this process; here that is the client's word alone.
    let port = url::Url::parse(&stage.world.service).unwrap().port().unwrap();
    let http = client().resolve(&host, ([127, 0, 0, 1], port).into()).build().unwrap();
    let here = format!("https://{host}:{port}");
    let said = read(http.get(format!("{here}/in/a?b"))).await.1;
    assert_eq!((&said["path"], &said["query"]), (&json!("/base/a"), &json!("b")));
    // Beside its path, and at another name, are the usual routes.
    assert_eq!(read(http.get(format!("{here}/discovery"))).await.0, 200);
    let nobody = "p-other.apps.example";
    let http = client().resolve(nobody, ([127, 0, 0, 1], port).into()).build().unwrap();
    let answer = read(http.get(format!("https://{nobody}:{port}/in"))).await;
    assert_eq!(answer, (404, json!("live runner proxy not found")));
}

#[tokio::test]
async fn a_runner_makes_channels_and_is_told_of_sessions() {
    let world = World::offchain(&ON).await;
    let app = App::start().await;
    let (_, first) = beat(&world, SECRET, &said("r", &app.url())).await;
    let (status, session) =
        read(world.http.post(format!("{}/apps/r/session", world.service))).await;
    assert_eq!(status, 200, "{session}");
    let id = session["session_id"].as_str().unwrap();
    let messages = first["o2r"]["url"].as_str().unwrap();
    let mut next = 0;
    let mut message = async || {
        loop {
            let told = read(world.http.get(format!("{messages}/{next}"))).await.1;
            next += 1;
            if told["keep"] != "alive" {
                return told;
            }
        }
    };
    let told = message().await;
    assert_eq!((&told["event"], told["session"].as_str()), (&json!("reserved"), Some(id)));
    let secret = first["heartbeat_secret"].as_str().unwrap();
    let (_, beaten) = beat(&world, secret, &said("r", &app.url())).await;
    assert_eq!(beaten["session_ids"], json!([id]));

    let at = session["app_url"].as_str().unwrap();
    let (_, seen) = read(world.http.get(at)).await;
    let header = |name: &str| seen["headers"][name].as_str().unwrap().to_owned();
    let (control, token) = (header("livepeer-session-control"), header("livepeer-session-token"));
    assert_eq!(control, format!("{}/runner/r/session/{id}", world.service));
    let channels = async |method: Method, body: Value| {
        let request = world.http.request(method, format!("{control}/channels"));
        let request = request.header("Livepeer-Session-Token", &token);
        read(request.body(body.to_string())).await
    };
    let wanted = json!({ "channels": [{ "name": "out", "mime_type": "text/plain" }] });
    let (status, made) = channels(Method::POST, wanted).await;
    assert_eq!(status, 200, "{made}");
    let url = made["channels"][0]["url"].as_str().unwrap();
    assert_eq!(url, format!("{}/ai/trickle/{id}-out", world.service));
    assert_eq!(made["channels"][0]["internal_url"], url);
    let sent = world.http.post(format!("{url}/0")).body("hello").send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let got = world.http.get(format!("{url}/0")).send().await.unwrap();
    assert_eq!(got.headers()["content-type"], "text/plain");
    assert_eq!(got.text().await.unwrap(), "hello");
    let bad = json!({ "channels": [{ "name": "a b" }] });
    assert_eq!(channels(Method::POST, bad).await.0, 400);
    let unknown = json!({ "channels": ["in"] });
    assert_eq!(channels(Method::DELETE, unknown).await, (404, json!("trickle channel not found")));
    let deleted = json!({ "channels": ["out"] });
    assert_eq!(channels(Method::DELETE, deleted).await, (200, json!({ "deleted": ["out"] })));

    // The end is told with its reason, and closes what the session had.
    channels(Method::POST, json!({ "channels": [{ "name": "in" }] })).await;
    let stop = format!("{}/stop", session["control_url"].as_str().unwrap());
    assert_eq!(read(world.http.post(stop)).await.0, 204);
    let told = message().await;
    assert_eq!((&told["event"], &told["reason"]), (&json!("released"), &json!("client_stopped")));
    let closed = world.http.get(format!("{}/ai/trickle/{id}-in/0", world.service)).send().await;
    assert_eq!(closed.unwrap().status(), 404);
    assert_eq!(listed(&world).await[0]["capacity_used"], 0);
}

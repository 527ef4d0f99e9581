//! `/scope` with a runner that somebody hosts behind a WebSocket: the provider's end is written out here, byte by
//! byte, as RFC 6455 has it.

use crate::{payer::answer, world::World};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock_testkit::until;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whoever hosts runners: one at a time.
struct Provider {
    listener: TcpListener,
    models: tempfile::NamedTempFile,
    url: String,
}

/// A runner's end of a socket, and the head of the request for it.
struct Hosted {
    stream: TcpStream,
    head: String,
}

impl Provider {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let models = tempfile::NamedTempFile::new().unwrap();
        let url = format!("ws://{}/run", listener.local_addr().unwrap());
        let entry = json!({ "pipeline": "live-video-to-video", "model_id": "scope", "url": url,
            "token": "provider-key", "capacity": 1, "price_per_unit": 0 });
        std::fs::write(models.path(), json!([entry]).to_string()).unwrap();
        Self { listener, models, url }
    }

    async fn world(&self, extra: &[&str]) -> World {
        let models = format!("--models-file={}", self.models.path().display());
        let settings = [models.as_str(), "--live-health-interval-ms=20"];
        World::offchain(&[&settings[..], extra].concat()).await
    }

    /// Gives the next one who asks a socket.
    async fn next(&self) -> Hosted {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let mut hosted = Hosted { stream, head: String::from_utf8(head).unwrap() };
        let key = hosted.field("sec-websocket-key");
        let accept = STANDARD.encode(Sha1::digest(format!("{key}{GUID}")));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        hosted.stream.write_all(answer.as_bytes()).await.unwrap();
        hosted
    }
}

impl Hosted {
    fn field(&self, name: &str) -> String {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.next().unwrap_or_else(|| panic!("no {name}: {}", self.head)).1.to_owned()
    }

    /// A message, in two fragments.
    async fn say(&mut self, said: &Value) {
        let text = said.to_string();
        let (one, two) = text.split_at(text.len() / 2);
        for (kind, part) in [(0x01, one), (0x80, two)] {
            let mut frame = vec![kind, 126];
            frame.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            frame.extend(part.as_bytes());
            self.stream.write_all(&frame).await.unwrap();
        }
    }

    /// The next message; `None` when the other end says goodbye.
    async fn hear(&mut self) -> Option<Value> {
        let first = self.stream.read_u8().await.ok()?;
        let second = self.stream.read_u8().await.unwrap();
        assert!(second & 0x80 != 0, "a client masks");
        let length = match second & 0x7f {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        self.stream.read_exact(&mut mask).await.unwrap();
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match first {
            0x88 => None,
            0x81 => Some(serde_json::from_slice(&payload).unwrap()),
            other => panic!("{other:#x}: {payload:?}"),
        }
    }

    /// The request, from a runner that is ready and then says this.
    async fn handed(&mut self, said: &Value) -> Value {
        self.say(&json!({ "type": "ready" })).await;
        let request = self.hear().await.unwrap();
        self.say(said).await;
        request
    }
}

fn ask(world: &World, body: &Value) -> JoinHandle<(u16, Value)> {
    let asked = answer(world.http.post(format!("{}/scope", world.service)).json(body));
    tokio::spawn(async move {
        let (status, text) = asked.await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    })
}

/// A session that has begun, and the request for it.
async fn begun(world: &World, provider: &Provider, body: &Value) -> (Hosted, Value, Value) {
    let asked = ask(world, body);
    let mut hosted = provider.next().await;
    let request = hosted.handed(&json!({ "type": "started" })).await;
    let (status, answer) = asked.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    (hosted, request, answer)
}

async fn is_free(world: &World) {
    until("the session has ended and its room is free", || async {
        let sessions = world.operator("/v1/live-sessions").await;
        let runners = world.operator("/v1/live-runners").await;
        sessions == json!([]) && runners[0]["in_use"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_session_of_a_hosted_runner() {
    let provider = Provider::open().await;
    let world = provider.world(&[]).await;
    let http = &world.http;
    let body =
        json!({ "params": { "a": 1, "daydream_user_id": "me", "ws_url": "ws://evil.example/" } });
    let (mut hosted, request, answer) = begun(&world, &provider, &body).await;
    assert!(hosted.head.starts_with("GET /run HTTP/1.1"), "{}", hosted.head);
    assert_eq!(hosted.field("authorization"), "Key provider-key");
    assert_eq!(hosted.field("manifest-id"), answer["manifest_id"].as_str().unwrap());
    assert_eq!(hosted.field("daydream-user-id"), "me");
    assert_eq!((&request["model_id"], &request["params"]["a"]), (&json!("scope"), &json!(1)));
    for key in ["control_url", "events_url", "manifest_id"] {
        assert_eq!(request[key], answer[key], "{key}");
    }
    let (status, _) = ask(&world, &body).await.unwrap();
    assert_eq!(status, 503, "there is room for one");
    let shown = world.operator("/v1/live-runners").await;
    assert_eq!((&shown[0]["url"], &shown[0]["in_use"]), (&json!(provider.url), &json!(1)));

    // Channels as it wants them: media go through.
    let wish =
        json!({ "type": "create_channels", "request_id": "r1", "direction": "bidirectional" });
    hosted.say(&wish).await;
    let made = hosted.hear().await.unwrap();
    assert_eq!((&made["type"], &made["request_id"]), (&json!("response"), &json!("r1")));
    let control = answer["control_url"].as_str().unwrap();
    let name = control.strip_suffix("-control").unwrap();
    for (at, direction) in [(0, "in"), (1, "out")] {
        let url = format!("{name}-1-{direction}");
        let row = json!({ "url": url, "direction": direction, "mime_type": "video/MP2T" });
        assert_eq!(made["channels"][at], row);
        assert_eq!(http.post(format!("{url}/0")).body("media").send().await.unwrap().status(), 200);
        let heard = http.get(format!("{url}/0")).send().await.unwrap();
        assert_eq!(heard.headers()["content-type"], "video/MP2T");
        assert_eq!(heard.text().await.unwrap(), "media");
    }
    let input = made["channels"][0]["url"].as_str().unwrap();
    hosted.say(&json!({ "type": "close_channels", "channels": [input, "no such"] })).await;
    until("the channel is closed", || async {
        http.get(format!("{input}/next")).send().await.unwrap().status() == 404
    })
    .await;

    // It begins anew, and gets the same request; what it streamed is over.
    hosted.say(&json!({ "type": "restarting", "request_id": "r2" })).await;
    let alone = json!({ "type": "response", "request_id": "r2", "channels": null });
    assert_eq!(hosted.hear().await.unwrap(), alone);
    assert_eq!(hosted.handed(&json!({ "type": "started" })).await, request);
    let output = made["channels"][1]["url"].as_str().unwrap();
    assert_eq!(http.get(format!("{output}/next")).send().await.unwrap().status(), 404);
    hosted.say(&json!({ "type": "create_channels", "request_id": "r3", "direction": "out" })).await;
    let made = hosted.hear().await.unwrap();
    assert_eq!(made["channels"][0]["url"], format!("{name}-1-out"), "counted from one again");

    // The client's end is its end.
    assert_eq!(http.delete(control).send().await.unwrap().status(), 200);
    assert_eq!(hosted.hear().await, None);
    is_free(&world).await;
    assert_eq!(http.get(format!("{name}-1-out/next")).send().await.unwrap().status(), 404);

    // And the runner's is the client's: by what it says, or by silence for good.
    let (mut hosted, _, answer) = begun(&world, &provider, &json!({})).await;
    assert_eq!(hosted.field("daydream-user-id"), "daydreamer");
    hosted.say(&json!({ "type": "dance" })).await;
    assert_eq!(hosted.hear().await, None);
    is_free(&world).await;
    let control = answer["control_url"].as_str().unwrap();
    assert_eq!(http.get(format!("{control}/next")).send().await.unwrap().status(), 404);
    let (hosted, ..) = begun(&world, &provider, &json!({})).await;
    drop(hosted);
    is_free(&world).await;
}

#[tokio::test]
async fn a_hosted_runner_that_does_not_begin_and_one_whose_time_is_over() {
    let provider = Provider::open().await;
    let prefix = format!("--serverless-url-prefix={}", provider.url.replace("run", ""));
    let settings = ["--serverless-timeout-ms=500", "--serverless-grace-ms=1", &prefix];
    let world = provider.world(&settings).await;
    for (code, wanted) in [("ACCESS_DENIED", 401), ("BROKEN", 500)] {
        let asked = ask(&world, &json!({}));
        let mut hosted = provider.next().await;
        let no = json!({ "type": "error", "code": code, "error": "no" });
        hosted.handed(&no).await;
        let (status, words) = asked.await.unwrap();
        let said = format!("serverless handshake failed ({code}): no");
        assert!(status == wanted && words.as_str().unwrap().ends_with(&said), "{status} {words}");
    }
    is_free(&world).await;
    // Where a request may lead is what its operator says.
    for (bad, why) in [(json!(7), "must be a string"), (json!("ws://127.0.0.1/x"), "unacceptable")]
    {
        let (status, words) = ask(&world, &json!({ "params": { "ws_url": bad } })).await.unwrap();
        assert!(status == 400 && words.as_str().unwrap().contains(why), "{status} {words}");
    }
    let elsewhere = provider.url.replace("run", "other");
    let body = json!({ "params": { "ws_url": elsewhere, "b": 2 } });
    let (mut hosted, request, _) = begun(&world, &provider, &body).await;
    assert!(hosted.head.starts_with("GET /other HTTP/1.1"), "{}", hosted.head);
    assert_eq!(request["params"], json!({ "b": 2 }), "that is not the runner's business");

    // It is told before its time is over.
    let closing = hosted.hear().await.unwrap();
    assert_eq!(closing["type"], "closing", "{closing}");
    assert_eq!(hosted.hear().await, None);
    is_free(&world).await;
}

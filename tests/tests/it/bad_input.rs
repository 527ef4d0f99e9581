//! Bad input at every public endpoint of every role: a 4xx with the error envelope, and not one row
//! more in any ledger.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use penstock::dev::Role;
use penstock_wire::header::to_base64;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    books::Books,
    jobs::transcribe,
    network::{Needs, Network},
};

/// The answer has to be a refusal that says whose fault it is, in the error envelope.
async fn refused(what: &str, request: RequestBuilder) {
    let text = refusal(what, request).await;
    envelope(what, &text);
}

/// The same in one line of text: what the network's gateways and workers read from an orchestrator
/// (orchestrator-wire.md section 1).
async fn refused_in_text(what: &str, request: RequestBuilder) {
    let text = refusal(what, request).await;
    assert!(!text.trim().is_empty() && text.lines().count() == 1, "{what}: {text:?}");
    assert!(!text.contains("panicked") && !text.contains("/src/"), "{what}: {text}");
}

async fn refusal(what: &str, request: RequestBuilder) -> String {
    let answer = request.send().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    assert!((400..500).contains(&status), "{what}: {status} {text:.300}");
    text
}

fn envelope(what: &str, text: &str) {
    let body: Value = serde_json::from_str(text)
        .unwrap_or_else(|_| panic!("{what}: not the envelope: {text:.300}"));
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{what}: no message in {body}");
    assert!(!message.contains("panicked") && !message.contains("/src/"), "{what}: {message}");
}

/// A request that announces more than any limit and sends nothing of it.
async fn refused_for_size(what: &str, address: &str, head: &str) {
    let (address, head) = (address.to_owned(), head.to_owned());
    let text = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!(
            "{head}\r\nHost: x\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        // The server may reset the connection after its answer: what came before counts.
        let mut buffer = [0; 4096];
        while let Ok(n) = socket.read(&mut buffer) {
            if n == 0 {
                break;
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
            if text.contains("}}") {
                break;
            }
        }
        text
    })
    .await
    .unwrap();
    assert!(text.starts_with("HTTP/1.1 413"), "{what}: {text:.300}");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let body = body.find('{').map_or("", |start| &body[start..]);
    envelope(what, body.get(..=body.rfind('}').unwrap_or(0)).unwrap_or_default());
}

/// Bytes that are no JSON, no protobuf and no media.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// JSON bodies that no endpoint can take.
fn bad_json() -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        ("empty", Vec::new()),
        ("noise", noise(4096)),
        ("cut off", br#"{"orchestrator": "AAAA"#.to_vec()),
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("deeply nested", deep.into_bytes()),
        ("not UTF-8", vec![b'"', 0xff, 0xfe, b'"']),
    ]
}

async fn post_all(
    network: &Network,
    what: &str,
    url: &str,
    bodies: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
) {
    for (kind, body) in bodies {
        let request = network.http.post(url).header("Content-Type", "application/json").body(body);
        refused(&format!("{what}: {kind}"), request).await;
    }
}

#[tokio::test]
async fn the_signer_refuses_bad_input() {
    let network = Network::start(Needs::PAYMENTS).await;
    let signer = network.url(Role::Signer);
    let before = Books::read(&network).await;

    let payment = format!("{signer}/generate-live-payment");
    post_all(&network, "payment", &payment, bad_json()).await;
    let fields = [
        json!({}),
        json!({ "orchestrator": 7 }),
        json!({ "orchestrator": "not base64!" }),
        json!({ "orchestrator": to_base64([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]) }),
        json!({ "orchestrator": to_base64(noise(2000)) }),
        json!({ "orchestrator": "", "inPixels": -1 }),
        json!({ "orchestrator": "", "inPixels": "many" }),
        json!({ "orchestrator": "", "inPixels": 1e300 }),
        json!({ "orchestrator": "", "type": "gold" }),
        json!({ "orchestrator": "", "ManifestID": "x".repeat(100_000) }),
        json!({ "orchestrator": "", "state": { "State": "AAAA", "Sig": "AAAA" } }),
        json!({ "orchestrator": "", "state": "none" }),
        json!({ "orchestrator": "", "maxPrice": { "price": -1, "currency": "wei", "unit": "x" } }),
    ];
    for body in fields {
        let what = format!("payment: {:.80}", body.to_string());
        refused(&what, network.http.post(&payment).json(&body)).await;
    }

    let credentials = format!("{signer}/sign-segment-credentials");
    post_all(&network, "credentials", &credentials, bad_json()).await;
    for body in [
        json!({}),
        json!({ "state": { "State": "AAAA", "Sig": "AAAA" }, "segment": "AAAA" }),
        json!({ "state": { "State": "!", "Sig": "!" }, "segment": "!" }),
        json!({ "state": null, "segment": to_base64(noise(300)) }),
    ] {
        let what = format!("credentials: {body}");
        refused(&what, network.http.post(&credentials).json(&body)).await;
    }
    let info = format!("{signer}/sign-orchestrator-info");
    refused("info: GET", network.http.get(&info)).await;
    refused("payment: GET", network.http.get(&payment)).await;
    refused("discovery: POST", network.http.post(format!("{signer}/discover-orchestrators"))).await;
    refused("no such path", network.http.get(format!("{signer}/no/such/path"))).await;
    let address = signer.trim_start_matches("http://");
    // `/sign-orchestrator-info` looks at no body, so that none is too large for it.
    for path in ["/generate-live-payment", "/sign-segment-credentials"] {
        refused_for_size(path, address, &format!("POST {path} HTTP/1.1")).await;
    }

    let admin = network.admin(Role::Signer);
    for path in ["payments", "sessions"] {
        for limit in ["-1", "x", "99999999999999999999"] {
            let url = format!("{admin}/v1/{path}?limit={limit}");
            refused(&url, network.http.get(&url)).await;
        }
    }
    assert_eq!(Books::read(&network).await, before, "a refused request changed the books");
}

#[tokio::test]
async fn the_orchestrator_refuses_bad_input() {
    let network = Network::start(Needs::PAYMENTS).await;
    let orchestrator = network.url(Role::Orchestrator);
    let before = Books::read(&network).await;

    let truncated = to_base64([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let absurd = to_base64(noise(3000));
    let headers = ["", "!", truncated.as_str(), absurd.as_str(), "AAAA"];
    for path in ["payment", "segment", "audio-to-text"] {
        let url = format!("{orchestrator}/{path}");
        refused_in_text(&format!("{path}: GET"), network.http.get(&url)).await;
        refused_in_text(&format!("{path}: no headers"), network.http.post(&url).body(noise(100)))
            .await;
        for payment in headers {
            for segment in headers {
                let request = network
                    .http
                    .post(&url)
                    .header("Livepeer-Payment", payment)
                    .header("Livepeer-Segment", segment)
                    .header("Content-Type", "video/MP2T")
                    .body(noise(1000));
                refused_in_text(
                    &format!("{path}: payment {payment:.20} segment {segment:.20}"),
                    request,
                )
                .await;
            }
        }
    }
    for path in ["transcodeResults", "aiResults"] {
        let url = format!("{orchestrator}/{path}");
        refused_in_text(&format!("{path}: GET"), network.http.get(&url)).await;
        refused_in_text(&format!("{path}: no secret"), network.http.post(&url).body(noise(100)))
            .await;
        for secret in ["", "guess", "protobuf"] {
            let request = network
                .http
                .post(&url)
                .header("Authorization", "Livepeer-Transcoder-Secret")
                .header("Credentials", secret)
                .header("TaskId", "-1")
                .header("Content-Type", "multipart/mixed; boundary=x")
                .body(noise(1000));
            refused_in_text(&format!("{path}: secret {secret:?}"), request).await;
        }
    }
    refused_in_text("no such path", network.http.get(format!("{orchestrator}/no/such/path"))).await;

    grpc_refuses(&network, "GetOrchestrator", &[]).await;
    grpc_refuses(&network, "GetOrchestrator", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]).await;
    // An address of 20 bytes without a signature.
    let unsigned = [&[0x0a, 20][..], &[7; 20]].concat();
    grpc_refuses(&network, "GetOrchestrator", &unsigned).await;
    // Ping signs values of 32 bytes only: others could be shaped into something of worth.
    for length in [0_u8, 1, 31, 33, 64, 100] {
        let value = vec![7; usize::from(length)];
        grpc_refuses(&network, "Ping", &[&[0x0a, length][..], &value].concat()).await;
    }
    grpc_refuses(&network, "EndTranscodingSession", &noise(200)).await;

    let admin = network.admin(Role::Orchestrator);
    refused("admin: no such path", network.http.get(format!("{admin}/v1/no-such-thing"))).await;
    refused("admin: POST", network.http.post(format!("{admin}/v1/accounts"))).await;
    assert_eq!(Books::read(&network).await, before, "a refused request changed the books");
}

/// A unary call with these bytes for a message ends with a status that is not OK.
async fn grpc_refuses(network: &Network, method: &str, message: &[u8]) {
    let url = format!("{}/net.Orchestrator/{method}", network.url(Role::Orchestrator));
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0][..], &length, message].concat();
    let answer = network
        .http
        .post(&url)
        .header("Content-Type", "application/grpc")
        .header("TE", "trailers")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2, "{method}");
    // An error comes without a message, so its status is among the headers. UNKNOWN (2) with a
    // text is what the network's own nodes answer; INTERNAL (13) is gRPC's word for a message that
    // cannot be parsed, and would be our fault otherwise.
    let header = |name| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let (status, said) = (header("grpc-status"), header("grpc-message"));
    assert!(
        said.as_deref().is_some_and(|text| match status.as_deref() {
            None | Some("0") => false,
            Some("13") => text.contains("decode"),
            Some(_) => !text.is_empty(),
        }),
        "{method} with {} bytes: status {status:?} {said:?}",
        message.len(),
    );
}

#[tokio::test]
async fn the_gateway_refuses_bad_input() {
    let network = Network::start(Needs::SPEECH).await;
    let gateway = network.url(Role::Gateway);
    // A paid job first: the books have something to lose, and the gateway has credit to misuse.
    let clip = penstock_testkit::media::speech().remove(1);
    transcribe(&network, &clip.wav).await.unwrap();
    let before = Books::read(&network).await;

    let speech = format!("{gateway}/audio-to-text");
    let http = &network.http;
    refused("speech: GET", http.get(&speech)).await;
    refused("speech: empty", http.post(&speech)).await;
    refused("speech: JSON", http.post(&speech).json(&json!({ "audio": "x" }))).await;
    let form = reqwest::multipart::Form::new;
    refused("speech: no audio", http.post(&speech).multipart(form().text("model_id", "x"))).await;
    let broken = http.post(&speech).header("Content-Type", "multipart/form-data; boundary=x").body(
        "--x\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\r\ncut",
    );
    refused("speech: form cut off", broken).await;
    for (kind, bytes) in [("empty file", Vec::new()), ("noise", noise(10_000))] {
        let part = reqwest::multipart::Part::bytes(bytes).file_name("a.wav");
        refused(
            &format!("speech: {kind}"),
            http.post(&speech).multipart(form().part("audio", part)),
        )
        .await;
    }
    let wav = std::fs::read(&clip.wav).unwrap();
    let part = reqwest::multipart::Part::bytes(wav.clone()).file_name("a.wav");
    let wrong = form().part("audio", part).text("return_timestamps", "sideways");
    refused("speech: wrong type", http.post(&speech).multipart(wrong)).await;
    // The header of a recording and nothing after it.
    let part = reqwest::multipart::Part::bytes(wav[..44].to_vec()).file_name("a.wav");
    refused("speech: header only", http.post(&speech).multipart(form().part("audio", part))).await;

    for path in ["live/s/0.exe", "live/s/x.ts", "live/s/-1.ts", "live/s/99999999999999999999999.ts"]
    {
        refused(path, http.put(format!("{gateway}/{path}")).body(noise(1000))).await;
    }
    for name in ["a%2Fb", "%2e%2e", "a%00b", &"x".repeat(5000)] {
        let url = format!("{gateway}/live/{name}/0.ts");
        refused(&format!("stream {name:.20}"), http.put(url).body(noise(1000))).await;
    }
    let live = format!("{gateway}/live/bad/0.ts");
    refused("segment: empty", http.put(&live)).await;
    refused("segment: noise", http.put(&live).body(noise(200_000))).await;
    refused("segment: DELETE", http.delete(&live)).await;
    for configuration in ["{", "[]", "7", r#"{"profiles":[{"width":-1}]}"#, r#"{"profiles":"all"}"#]
    {
        let request = http
            .put(&live)
            .header("Livepeer-Transcode-Configuration", configuration)
            .body(noise(1000));
        refused(&format!("segment: configuration {configuration}"), request).await;
    }
    for (name, value) in [("Content-Resolution", "0x0x0"), ("Content-Duration", "-5")] {
        let request = http.put(&live).header(name, value).body(noise(1000));
        refused(&format!("segment: {name}: {value}"), request).await;
    }
    for path in ["stream/none.m3u8", "stream/none/x/0.ts", "stream/..%2f..%2fetc/passwd", "no/such"]
    {
        refused(path, http.get(format!("{gateway}/{path}"))).await;
    }
    refused("playlist: POST", http.request(Method::POST, format!("{gateway}/stream/none.m3u8")))
        .await;
    let address = gateway.trim_start_matches("http://");
    refused_for_size("segment: huge", address, "PUT /live/bad/0.ts HTTP/1.1").await;
    let head = "POST /audio-to-text HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x";
    refused_for_size("speech: huge", address, head).await;

    assert_eq!(Books::read(&network).await, before, "a refused request changed the books");
}

#[tokio::test]
async fn the_devnet_refuses_bad_input() {
    let network = Network::start(Needs::PAYMENTS).await;
    let devnet = network.url(Role::Devnet);
    let status = format!("{devnet}/v1/status");
    let before = network.get(&status).await;
    for path in ["v1/fund", "v1/transactions", "v1/tickets/redeem", "mine"] {
        let url = format!("{devnet}/{path}");
        post_all(&network, path, &url, bad_json()).await;
        for body in [
            json!({ "account": "0x12", "deposit_wei": "1" }),
            json!({ "account": network.sender, "deposit_wei": "-1" }),
            json!({ "account": network.sender, "deposit_wei": "9".repeat(100) }),
            json!({ "blocks": 0 }),
            json!({ "blocks": u64::MAX }),
            json!({ "blocks": 1, "rounds": 1 }),
            json!({ "payload": "{}", "sig": "0x00" }),
            json!({ "ticket": {}, "sig": "0x", "recipient_rand": "1" }),
        ] {
            refused(&format!("{path}: {body:.80}"), network.http.post(&url).json(&body)).await;
        }
        refused(&format!("{path}: GET"), network.http.get(&url)).await;
    }
    for path in ["v1/senders/me", "v1/accounts/0x", "v1/tickets/1", "v1/redemptions?limit=-1", "x"]
    {
        refused(path, network.http.get(format!("{devnet}/{path}"))).await;
    }
    assert_eq!(network.get(&status).await, before, "a refused request changed the chain");
}

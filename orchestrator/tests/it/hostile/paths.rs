//! Who leads elsewhere: paths out of a runner's own, requests inside requests, sources and registrations
//! that name places of ours.

use super::begun;
use crate::{
    payer::{Payer, answer, post, segment},
    runner_app::App,
    runners::{ON, beat, read, said},
    world::{SECRET, World},
};
use penstock_testkit::{hostile::Trap, until, until::DEADLINE};
use penstock_wire::header;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

const CLEAR: &str = "--service-addr=http://127.0.0.1:0";

/// An answer to what a well-meaning client's library would never send.
async fn raw(world: &World, request: &str) -> String {
    let mut stream = begun(&world.service, request.as_bytes()).await;
    let mut heard = Vec::new();
    let end = timeout(DEADLINE, stream.read_to_end(&mut heard)).await;
    let _ = end.expect("an end");
    let _ = stream.shutdown().await;
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn no_path_leads_out_of_a_runners_own() {
    let settings = [&ON[..], &[CLEAR, "--peer-idle-ms=2000"]].concat();
    let (world, app) = (World::offchain(&settings).await, App::start().await);
    assert_eq!(beat(&world, SECRET, &said("r", &app.url())).await.0, 200);
    let (_, session) = read(world.http.post(format!("{}/apps/r/session", world.service))).await;
    let at = session["app_url"].as_str().unwrap();
    let at = &at[world.service.len()..];
    for rest in [
        "/../x",
        "/../../x",
        "/a/../../x",
        "/..",
        "/%2e%2e/x",
        "/%2E./x",
        "/.%2e/x",
        "/..%2fx",
        "/%2e%2e%2fx",
        "/a%2f..%2f..%2fx",
        "/..%5cx",
        "/..\\x",
        "/%5c..%5cx",
        "/%00",
        "/a%0d%0aX: y",
        "/%252e%252e/x",
        "//evil.example/x",
        "/http://evil.example/x",
        "/@evil.example/x",
        "/;/../x",
        "/..;/x",
        "/%c0%ae%c0%ae/x",
        "/%u002e%u002e/x",
        "?x=/../../x",
        "/./././x",
        "/%",
        "/%zz",
    ] {
        let request = format!("GET {at}{rest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = raw(&world, &request).await;
        assert!(!answer.contains("outside"), "{rest}: {answer}");
        let inside = answer.contains(r#""path":"/base"#) && answer.starts_with("HTTP/1.1 200");
        let refused = answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 404");
        assert!(inside || refused, "{rest}: {answer}");
    }
    // Another host in the request line or beside it is no other place.
    for (line, host) in [
        (format!("GET http://evil.example{at}/x HTTP/1.1"), "x"),
        (format!("GET {at}/x HTTP/1.1"), "evil.example"),
        (format!("GET {at}/x HTTP/1.1"), "169.254.169.254"),
    ] {
        let answer =
            raw(&world, &format!("{line}\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.contains(r#""path":"/base/x""#), "{line} {host}: {answer}");
        assert!(!answer.contains("evil.example"), "the runner is told its own host: {answer}");
    }
    // A request that hides another one arrives as one, or not at all.
    let hidden = "GET /outside HTTP/1.1\r\nHost: x\r\n\r\n";
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 0x5",
    ] {
        let request = format!(
            "POST {at}/x HTTP/1.1\r\nHost: x\r\n{lengths}\r\nConnection: close\r\n\r\n0\r\n\r\n{hidden}"
        );
        let answer = raw(&world, &request).await;
        assert!(!answer.contains("outside"), "{lengths}: {answer}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{lengths}: {answer}");
    }
    let split = format!("GET {at}/x HTTP/1.1\r\nHost: x\r\nX-A: b\x00c\r\n\r\n");
    assert!(raw(&world, &split).await.starts_with("HTTP/1.1 400"));
    assert_eq!(read(world.http.get(format!("{}{at}/x", world.service))).await.0, 200);
}

/// Ways to write this machine, at all of whose addresses a trap listens.
const OURS: [&str; 8] = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",
    "localhost",
    "127.255.255.254",
];

/// A gateway names each of these URLs as its segment's source.
async fn named(world: &World, urls: impl Iterator<Item = String>) -> Vec<(String, (u16, String))> {
    let payer = Payer::new(world);
    let info = payer.info(world, None).await.unwrap();
    let mut asked = Vec::new();
    for url in urls {
        let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, b"x")).await;
        let request = post(world, "/segment", &headers);
        let request = request.header("Content-Type", header::CONTENT_URI).body(url.clone());
        asked.push(async move { (url, answer(request).await) });
    }
    futures::future::join_all(asked).await
}

#[tokio::test]
async fn sources_are_in_public_places_however_they_are_written() {
    let (world, trap) = (World::offchain(&[]).await, Trap::everywhere());
    let port = trap.address.port();
    let six = ["[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"];
    let odd = ["LOCALHOST.", "x@127.0.0.1", "127.0.0.1%2f", "127。0。0。1"];
    let hosts = OURS.iter().chain(&six).chain(&odd);
    let urls = hosts
        .flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}:{port}/x")));
    let other = [
        "file:///etc/passwd",
        "ftp://example.com/x",
        "gopher://example.com/",
        "data:,x",
        "concat:/etc/passwd",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "/etc/passwd",
        "http://",
        "http:///x",
        "javascript:0",
    ];
    let other = other.map(str::to_owned).into_iter().chain([format!("//127.0.0.1:{port}/x")]);
    for (url, answered) in named(&world, urls.chain(other)).await {
        assert_eq!(answered, (400, "BadRequest".into()), "{url}");
    }
    assert_eq!(trap.reached(), 0, "nobody came");
    // Where it is allowed, each of them leads into the trap.
    let world = World::offchain(&["--allow-private-urls"]).await;
    // Not every machine has addresses of IPv6.
    let six = six.iter().filter(|_| trap.address.is_ipv6());
    for host in OURS.iter().chain(six) {
        let before = trap.reached();
        let url = format!("http://{host}:{port}/x");
        named(&world, std::iter::once(url)).await;
        until("somebody is in the trap", || async { trap.reached() > before }).await;
    }
}

#[tokio::test]
async fn registrations_that_lead_nowhere_good() {
    let settings = [&ON[..], &["--max-live-runners=20"]].concat();
    let (world, app) = (World::paid_with(1000, &settings).await, App::start().await);
    let (status, first) = beat(&world, SECRET, &said("mine", &app.url())).await;
    assert_eq!(status, 200);
    for url in [
        "file:///etc/passwd",
        "ftp://h/",
        "http://",
        "",
        "x",
        "//h/",
        "javascript:0",
        "http://u:p@h/",
        "unix:/run/x",
        &format!("http://h/{}", "x".repeat(70_000)),
    ] {
        let (status, said) = beat(&world, SECRET, &said("other", url)).await;
        assert!((400..=413).contains(&status), "{url:.40}: {status} {said}");
    }
    let facts = said("other", &app.url());
    for (name, value) in [
        ("capacity", json!(-1)),
        ("capacity", json!(1e300)),
        ("capacity", json!("many")),
        ("price_info", json!({ "price": -1, "currency": "usd", "unit": "hour" })),
        ("price_info", json!({ "price": "NaN", "currency": "usd", "unit": "hour" })),
        ("price_info", json!({ "price": 1, "currency": "usd", "unit": "eternity" })),
        ("runner_id", json!("../mine")),
        ("runner_id", json!("a\r\nb")),
        ("runner_id", json!("x".repeat(129))),
        ("runner_id", json!(["mine"])),
        ("app", json!(7)),
        ("mode", json!("free")),
    ] {
        let mut said = facts.clone();
        said[name] = value;
        let (status, answer) = beat(&world, SECRET, &said).await;
        assert_eq!(status, 400, "{said}: {answer}");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let url = format!("{}/runners/heartbeat", world.service);
    let request = world.http.post(&url).header("Authorization", SECRET).body(deep);
    assert_eq!(read(request).await.0, 400);
    // Nobody takes another's name, moves its URL or takes it away: neither with the secret that all
    // registrations have, nor with his own.
    let (_, other) = beat(&world, SECRET, &said("other", &app.url())).await;
    let own = other["heartbeat_secret"].as_str().unwrap();
    for secret in [SECRET, own, ""] {
        let stolen = said("mine", "http://10.1.1.1:1/");
        assert_eq!(beat(&world, secret, &stolen).await.0, 401);
        let url = format!("{}/runners/mine/unregister", world.service);
        assert_eq!(read(world.http.post(url).header("Authorization", secret)).await.0, 401);
    }
    let secret = first["heartbeat_secret"].as_str().unwrap();
    assert_eq!(beat(&world, secret, &said("mine", &app.url())).await.0, 200, "it is its own still");
    // Registrations have a bound that says so.
    let mut full = None;
    for n in 0..30 {
        let (status, text) = beat(&world, SECRET, &said(&format!("r{n}"), &app.url())).await;
        if status != 200 {
            full = Some((status, text));
            break;
        }
    }
    let (status, text) = full.unwrap();
    assert_eq!(status, 503, "{text}");
    assert!(text.as_str().unwrap().contains("20 of 20"), "{text}");
    assert_eq!(world.operator("/v1/runners").await.as_array().unwrap().len(), 20);
}

/// An operator's address, and those that clouds tell their machines secrets on, are no runners' and no workers':
/// whoever knows the workers' secret would lead clients there.
#[tokio::test]
async fn nobody_registers_our_own_addresses_or_a_clouds() {
    let settings = [&ON[..], &["--auto-adjust-price=false"]].concat();
    let (world, app) = (World::offchain(&settings).await, App::start().await);
    let port = |url: &str| url.rsplit_once(':').unwrap().1.to_owned();
    let (admin, service) = (port(&world.admin), port(&world.service));
    let mut places = vec![world.admin.clone(), format!("http://127.0.0.1:{service}")];
    for host in ["127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
        places.push(format!("http://{host}:{admin}/v1"));
    }
    for host in ["169.254.169.254", "2852039166", "[::ffff:169.254.169.254]", "[fe80::1]"] {
        places.push(format!("http://{host}/latest/meta-data"));
    }
    for place in &places {
        let (status, answer) = beat(&world, SECRET, &said("bad", place)).await;
        let answer = answer.to_string();
        assert!(status == 400 && answer.contains("--runner-networks"), "{place}: {answer}");
        let brought = json!({ "name": "bad", "url": place, "capacity": 1, "price_per_unit": 0,
            "price_scaling": 1 });
        let request = world.http.post(format!("{}/capability/register", world.service));
        let request = request.header("Authorization", SECRET).body(brought.to_string());
        let (status, answer) = crate::payer::answer(request).await;
        assert!(status == 400 && answer.contains("--runner-networks"), "{place}: {answer}");
        let list = json!({ "runners": [{ "label": "bad", "app": "a", "runner_url": app.url(),
            "health_url": place, "price_info": { "price": 0, "unit": "hour" } }] });
        let request = world.http.post(format!("{}/registerLiveRunners", world.admin));
        let (status, answer) = crate::payer::answer(request.body(list.to_string())).await;
        assert!(status == 400 && answer.contains("--runner-networks"), "{place}: {answer}");
    }
    // A name says nothing of where it leads until somebody goes there: nobody does, and no session begins.
    let named = format!("http://localhost:{admin}");
    let mut single = said("single", &named);
    single["mode"] = json!("single-shot");
    assert_eq!(beat(&world, SECRET, &single).await.0, 200);
    let (status, answer) =
        read(world.http.get(format!("{}/apps/single/app/v1/summary", world.service))).await;
    assert_eq!(status, 502, "{answer}");
    assert_eq!(beat(&world, SECRET, &said("lasting", &named)).await.0, 200);
    let (status, answer) =
        read(world.http.post(format!("{}/apps/lasting/session", world.service))).await;
    assert_eq!(status, 503, "{answer}");
    // The same host at another port is where most applications are.
    assert_eq!(beat(&world, SECRET, &said("good", &app.url())).await.0, 200);
    let (status, _) = read(world.http.post(format!("{}/apps/good/session", world.service))).await;
    assert_eq!(status, 200);
}

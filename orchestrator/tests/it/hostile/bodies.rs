//! Every route that a body can be sent to, and what becomes of heads that stop, bodies that stop and bodies without
//! an end. The table is compared with the router's own list: a new route has to say here what it does.

use super::{begun, heard};
use crate::{
    byoc::{Client, register},
    payer::{Payer, empty, segment},
    runner_app::App,
    runners::{ON, beat, read, said},
    scripted_worker::Transcoder,
    world::{SECRET, World, client},
};
use Reads::{Never, PassedOn, Upload, Whole};
use futures::future::join_all;
use penstock_testkit::sim::Server;
use penstock_wire::{
    ai::Pipeline,
    header,
    worker_upload::{AI_WORKER_AUTHORIZATION, CREDENTIALS, TASK_ID, TRANSCODER_AUTHORIZATION},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, convert::Infallible};

const SETTINGS: [&str; 8] = [
    "--service-addr=http://127.0.0.1:0",
    "--peer-greeting-ms=1500",
    "--peer-idle-ms=1500",
    "--peer-pause-ms=1500",
    "--live-runner-idle-ms=8000",
    "--live-runner-body-bytes=100000",
    "--max-ai-body-bytes=100000",
    // A segment may be larger than all the memory that there is.
    "--result-memory-bytes=16777216",
];

/// What a route does with a request's body.
#[derive(Debug, Clone, Copy)]
enum Reads {
    /// It has to be there as a whole: 408 when it stops; 413 when it has no end, or 503 when there is
    /// no memory for more of it.
    Whole,
    /// It is passed on to a runner piece by piece: 408 when it stops, 413 without an end.
    PassedOn,
    /// A worker's words: what there is of them counts.
    Upload,
    /// Nobody looks at it.
    Never,
}

impl Reads {
    fn when_it_stops(self, status: u16) -> bool {
        match self {
            Whole | PassedOn => status == 408,
            Upload => status == 200,
            Never => (200..500).contains(&status),
        }
    }

    fn without_an_end(self, status: u16) -> bool {
        match self {
            Whole => [413, 503].contains(&status),
            PassedOn => status == 413,
            Upload | Never => self.when_it_stops(status),
        }
    }
}

type Fields = Vec<(&'static str, String)>;

/// A request whose head is good, so that its body is looked at if ever.
struct Row {
    /// As the router has it, with its method.
    route: String,
    path: String,
    fields: Fields,
    reads: Reads,
}

impl Row {
    fn method(&self) -> &str {
        self.route.split_once(' ').unwrap().0
    }
}

/// What there has to be for heads to be good. Nothing of it is looked at again.
struct Stage {
    world: World,
    rows: Vec<Row>,
    _app: App,
    _byoc: Server,
    _transcoder: Transcoder,
}

impl Stage {
    async fn start() -> Self {
        let world = World::offchain(&[&ON[..], &SETTINGS].concat()).await;
        let transcoder = Transcoder::register(&world, 10).await;
        let app = App::start().await;
        for (id, mode) in [("r", "persistent"), ("once", "single-shot")] {
            let mut said = said(id, &app.url());
            (said["mode"], said["capacity"]) = (json!(mode), json!(10));
            assert_eq!(beat(&world, SECRET, &said).await.0, 200);
        }
        let byoc = Server::clear(axum::Router::new().fallback(async || "{}")).await;
        let brought = json!({ "name": "live", "url": byoc.uri, "capacity": 100,
            "price_per_unit": 1, "token": "" });
        assert_eq!(register(&world, SECRET, &brought).await.0, 200);
        let rows = rows(&world).await;
        Self { world, rows, _app: app, _byoc: byoc, _transcoder: transcoder }
    }
}

async fn rows(world: &World) -> Vec<Row> {
    let payer = Payer::new(world);
    let info = payer.info(world, None).await.unwrap();
    let payment = header::encode_payment(&payer.nothing(&info).to_message());
    let paid = |credential: String| -> Fields {
        vec![(header::PAYMENT, payment.clone()), (header::SEGMENT, credential)]
    };
    let video = header::encode_segment(&payer.sign(&segment(&info, 1, b"x")).await);
    let job = header::encode_segment(&payer.sign(&empty(&info, "manifest")).await);
    let secret: Fields = vec![("Authorization", SECRET.into())];
    let worker = |protocol: &str, kind: &str| -> Fields {
        vec![
            ("Authorization", protocol.into()),
            (CREDENTIALS, SECRET.into()),
            (TASK_ID, "1".into()),
            ("Content-Type", kind.into()),
        ]
    };
    // A session of a live runner, and what its runner is told about it.
    let (_, session) = read(world.http.post(format!("{}/apps/r/session", world.service))).await;
    let name = session["session_id"].as_str().unwrap();
    let at = session["app_url"].as_str().unwrap();
    let told = read(world.http.get(format!("{at}/x"))).await.1;
    let token = told["headers"]["livepeer-session-token"].as_str().unwrap();
    let acting: Fields = vec![("Livepeer-Session-Token", token.into())];
    // Jobs for a brought capability, and a stream of it.
    let sender = Client { world, payer: Payer::new(world) };
    let brought = async |id: &str, request: &Value| -> Fields {
        let texts = (&*request.to_string(), "{}");
        vec![("Livepeer", sender.signed(id, "live", texts, 60).await)]
    };
    let begun = brought("stream", &json!({})).await;
    let start = world.http.post(format!("{}/ai/stream/start", world.service));
    let start = start.header("Livepeer", &begun[0].1).body("{}");
    assert_eq!(read(start).await.0, 200);
    let about = brought("x", &json!({ "stream_id": "stream" })).await;
    let another = brought("another", &json!({})).await;

    let session_at = format!("/apps/r/session/{name}");
    let runner_at = format!("/runner/r/session/{name}");
    let app = "/apps/{route}/session/{session}";
    let runner = "/runner/{route}/session/{session}";
    let none = Fields::new;
    let row = |route: &str, path: &str, fields: &Fields, reads: Reads| Row {
        route: route.to_owned(),
        path: path.to_owned(),
        fields: fields.clone(),
        reads,
    };
    let same = |path: &str, fields: &Fields, reads: Reads| {
        row(&format!("POST {path}"), path, fields, reads)
    };
    let below = |of: &str, rest: &str, at: &str, fields: &Fields, reads: Reads| {
        row(&format!("POST {of}{rest}"), &format!("{at}{rest}"), fields, reads)
    };
    let mut rows = vec![
        same("/segment", &paid(video), Whole),
        same("/payment", &paid(job.clone()), Never),
        same("/refresh-payment", &none(), Whole),
        same(
            "/transcodeResults",
            &worker(TRANSCODER_AUTHORIZATION, "livepeer/transcoding-error"),
            Upload,
        ),
        same("/aiResults", &worker(AI_WORKER_AUTHORIZATION, "livepeer/ai-worker-error"), Upload),
        same("/live-video-to-video", &none(), Whole),
        same("/scope", &none(), Whole),
        same("/runners/heartbeat", &secret, Whole),
        row("POST /runners/{id}/unregister", "/runners/nobody/unregister", &secret, Never),
        row("POST /apps/{route}/session", "/apps/r/session", &none(), Never),
        row(&format!("POST {app}/stop"), "/apps/r/session/nobody/stop", &none(), Never),
        below(app, "/payment", &session_at, &none(), Never),
        below(app, "/app", &session_at, &none(), PassedOn),
        below(app, "/app/", &session_at, &none(), PassedOn),
        row(
            &format!("POST {app}/app/{{*rest}}"),
            &format!("{session_at}/app/x"),
            &none(),
            PassedOn,
        ),
        row("POST /apps/{route}/app", "/apps/once/app", &none(), PassedOn),
        row("POST /apps/{route}/app/", "/apps/once/app/", &none(), PassedOn),
        row("POST /apps/{route}/app/{*rest}", "/apps/once/app/x", &none(), PassedOn),
        below(runner, "/channels", &runner_at, &acting, Whole),
        row(&format!("DELETE {runner}/channels"), &format!("{runner_at}/channels"), &acting, Whole),
        below(runner, "/proxy", &runner_at, &acting, Whole),
        row(&format!("POST {runner}/stop"), "/runner/r/session/nobody/stop", &acting, Never),
        same("/process/request", &another, Whole),
        same("/process/request/", &another, Whole),
        row("POST /process/request/{*rest}", "/process/request/x", &another, Whole),
        row("POST /process/train/{*capability}", "/process/train/live", &another, Whole),
        row(
            "POST /process/job/{id}/refresh-payment",
            "/process/job/x/refresh-payment",
            &none(),
            Never,
        ),
        same("/ai/stream/start", &another, Whole),
        same("/ai/stream/update", &about, Whole),
        same("/ai/stream/stop", &about, Whole),
        same("/ai/stream/payment", &about, Never),
        same("/capability/register", &secret, Whole),
        same("/capability/unregister", &secret, Whole),
    ];
    let pipelines = Pipeline::ALL.iter();
    rows.extend(pipelines.map(|of| same(&format!("/{}", of.name()), &paid(job.clone()), Whole)));
    rows
}

/// What the router's own text says: each route that takes another method than GET.
fn routes() -> BTreeSet<String> {
    let text = include_str!("../../../src/routes/mod.rs");
    let mut routes = BTreeSet::new();
    for part in text.split(".route(").skip(1) {
        let path = part.split('"').nth(1).unwrap();
        let paths: Vec<String> = match path {
            "/{}" => Pipeline::ALL.iter().map(|of| format!("/{}", of.name())).collect(),
            path => vec![path.to_owned()],
        };
        for (call, method) in [
            ("post(", "POST"),
            ("any(", "POST"),
            ("delete(", "DELETE"),
            ("put(", "PUT"),
            ("patch(", "PATCH"),
        ] {
            if part.contains(call) {
                routes.extend(paths.iter().map(|path| format!("{method} {path}")));
            }
        }
    }
    routes
}

#[tokio::test]
async fn no_route_waits_for_who_stops_and_none_reads_without_an_end() {
    let stage = Stage::start().await;
    let (world, rows) = (&stage.world, &stage.rows);
    let told: BTreeSet<String> = rows.iter().map(|row| row.route.clone()).collect();
    assert_eq!(told, routes(), "every route that takes a body has a row here");

    let (mut heads, mut bodies) = (Vec::new(), Vec::new());
    for row in rows {
        let fields: String =
            row.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{} {} HTTP/1.1\r\nHost: x\r\n{fields}", row.method(), row.path);
        heads.push(heard(begun(&world.service, format!("{head}X-Slow: ").as_bytes()).await));
        let body = format!("{head}Content-Length: 50\r\n\r\nbegun");
        let stream = begun(&world.service, body.as_bytes()).await;
        bodies.push(async move { (row, heard(stream).await) });
    }
    let (_, bodies) = tokio::join!(join_all(heads), join_all(bodies));
    for (row, answer) in bodies {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let expected = status.is_some_and(|status| row.reads.when_it_stops(status));
        assert!(expected, "{}, {:?}: {answer}", row.route, row.reads);
    }

    let http = client().http2_prior_knowledge().build().unwrap();
    for row in rows {
        let pieces = std::iter::repeat_with(|| Ok::<_, Infallible>(vec![0xff; 16 * 1024]));
        let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        let url = format!("{}{}", world.service, row.path);
        let mut request = http.request(row.method().parse().unwrap(), url).body(body);
        for (name, value) in &row.fields {
            request = request.header(*name, value);
        }
        let (status, answer) = read(request).await;
        assert!(
            row.reads.without_an_end(status),
            "{}, {:?}: {status} {answer}",
            row.route,
            row.reads
        );
    }
    // What clients did to their requests is no runner's failure, and nobody's room is gone.
    let (status, said) = read(world.http.post(format!("{}/apps/once/app/x", world.service))).await;
    assert_eq!((status, &said["path"]), (200, &json!("/base/x")), "{said}");
    let rows = world.operator("/v1/capabilities").await;
    assert_eq!(rows[0]["in_use"], 1, "the one stream's: {rows}");
}

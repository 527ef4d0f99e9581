//! Results in buckets: the gateway's, the operator's; and buckets that do not take them. The buckets are those of
//! a real S3 server.

use crate::{
    payer::{Payer, answer, post, segment, token},
    scripted_worker::{AiWorker, Transcoder, ai_upload_with, renditions, upload},
    world::World,
};
use axum::{
    Router, body::Bytes, extract::Path, http::HeaderMap, response::IntoResponse as _,
    routing::post as at,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock_domain::Capability;
use penstock_testkit::s3::S3Server;
use penstock_wire::{Bucket, BucketKind, header, net};
use prost::Message;
use std::sync::{Arc, Mutex};

/// The S3 server may take long.
const PATIENT: &str = "--object-store-timeout-ms=60000";
const DATA: &[u8] = b"a segment of video, more or less";
const SMALL: &[u8] = b"rendition one, of enough bytes";
const LARGE: &[u8] = b"rendition two, of some more bytes still";

/// As a gateway gives it.
fn bucket(host: &str, key: &str) -> Bucket {
    let text = str::to_owned;
    Bucket {
        kind: BucketKind::S3,
        host: host.to_owned(),
        key: key.to_owned(),
        policy: STANDARD.encode(r#"{"expiration":"2999-01-01T00:00:00Z","conditions":[]}"#),
        signature: text("5e1f"),
        credential: text("ID/20260101/us-east-1/s3/aws4_request"),
        amz_date: text("20260101T000000Z"),
    }
}

/// Has a segment transcoded, and gives the URLs of its renditions.
async fn transcode(world: &World, storage: Option<Bucket>) -> (String, Vec<String>) {
    let payer = Payer::new(world);
    let info = payer.info(world, None).await.unwrap();
    let mut worker = Transcoder::register(world, 4).await;
    let spec = penstock_wire::SegmentSpec { storage, ..segment(&info, 7, DATA) };
    let headers = payer.headers(&payer.nothing(&info), &spec).await;
    let request = post(world, "/segment", &headers)
        .header("Content-Type", header::CONTENT_SEGMENT)
        .body(DATA)
        .send();
    let (response, ()) = tokio::join!(request, async {
        let job = worker.next().await;
        let told = job.seg_data.unwrap();
        assert!(told.storage.is_empty(), "workers do not write there");
        let parts = renditions(&[(SMALL, 100), (LARGE, 231)]);
        assert_eq!(answer(upload(world, job.task_id, parts)).await.0, 200);
    });
    let result = net::TranscodeResult::decode(response.unwrap().bytes().await.unwrap()).unwrap();
    let net::transcode_result::Result::Data(data) = result.result.unwrap() else {
        panic!("no result");
    };
    assert_eq!(data.segments.iter().map(|s| s.pixels).collect::<Vec<_>>(), [100, 231]);
    (token(&info).session_id, data.segments.into_iter().map(|s| s.url).collect())
}

async fn fetched(world: &World, urls: &[String]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for url in urls {
        let response = world.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        all.push((kind, response.bytes().await.unwrap().to_vec()));
    }
    all
}

fn both() -> Vec<(String, Vec<u8>)> {
    [SMALL, LARGE].map(|data| ("video/mp2t".to_owned(), data.to_vec())).into()
}

#[tokio::test]
async fn renditions_go_into_the_gateways_bucket() {
    let s3 = S3Server::start().await;
    let world = World::offchain(&["--allow-private-urls", PATIENT]).await;
    let host = format!("{}/{}", s3.url(), S3Server::BUCKET);
    let (_, urls) = transcode(&world, Some(bucket(&host, "film/ab12"))).await;
    assert_eq!(urls[0], format!("{host}/film/ab12/P240p30fps4x3/7.ts"));
    let names = s3.names();
    for url in &urls {
        let name = url.strip_prefix(&format!("{host}/")).unwrap();
        assert!(names.contains(&format!("<Key>{name}</Key>")), "{name}: {names}");
    }
    let data: Vec<_> = fetched(&world, &urls).await.into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, [SMALL, LARGE]);
}

#[tokio::test]
async fn what_a_bucket_does_not_take_stays_here() {
    // Buckets that refuse, say yes in words, and send us elsewhere; who is there is not asked.
    let elsewhere = Arc::new(Mutex::new(0));
    let count = Arc::clone(&elsewhere);
    let moved = (axum::http::StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]);
    let buckets = Router::new()
        .route("/refuses", at(|| async { (axum::http::StatusCode::FORBIDDEN, "<Error/>") }))
        .route("/talks", at(|| async { "<PostResponse/>" }))
        .route("/moved", at(move || async move { moved.into_response() }))
        .route("/elsewhere", at(move || async move { *count.lock().unwrap() += 1 }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, buckets).await });
    let world = World::offchain(&["--allow-private-urls", PATIENT]).await;
    for path in ["/refuses", "/talks", "/moved", "/elsewhere?a=b"] {
        let (session, urls) = transcode(&world, Some(bucket(&format!("{at}{path}"), "k"))).await;
        let own = format!("{}/stream/{session}/P240p30fps4x3/7.ts", world.service);
        assert_eq!(urls[0], own, "{path}");
        assert_eq!(fetched(&world, &urls).await, both(), "{path}");
    }
    assert_eq!(*elsewhere.lock().unwrap(), 0);

    // Nobody may have us write into our own network.
    let careful = World::offchain(&[]).await;
    let (_, urls) = transcode(&careful, Some(bucket(&format!("{at}/elsewhere"), "k"))).await;
    assert_eq!(fetched(&careful, &urls).await, both());
    assert_eq!(*elsewhere.lock().unwrap(), 0);
    server.abort();
}

#[tokio::test]
async fn a_bucket_that_says_nothing_is_not_waited_for() {
    // It takes connections, and that is all.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}/b", silent.local_addr().unwrap());
    let world = World::offchain(&["--allow-private-urls", "--object-store-timeout-ms=50"]).await;
    let (_, urls) = transcode(&world, Some(bucket(&host, "k"))).await;
    assert_eq!(fetched(&world, &urls).await, both());
}

/// Two gateways at once, each with a right of its own; the worker is done with the later one first.
#[tokio::test]
async fn a_gateways_right_is_used_for_its_own_results_only() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let buckets = Router::new().route(
        "/{bucket}",
        at(async move |Path(bucket): Path<String>, body: Bytes| {
            note.lock().unwrap().push((bucket, String::from_utf8(body.to_vec()).unwrap()));
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, buckets).await });
    let world = World::offchain(&["--allow-private-urls", PATIENT]).await;
    let mut worker = Transcoder::register(&world, 4).await;
    let names = ["anna", "berta"];
    let mut running = Vec::new();
    let mut tasks = Vec::new();
    for name in names {
        let payer = Payer::new(&world);
        let info = payer.info(&world, None).await.unwrap();
        let right = Bucket {
            policy: STANDARD.encode(format!("policy of {name}")),
            signature: format!("signature of {name}"),
            credential: format!("credential of {name}"),
            ..bucket(&format!("{place}/{name}"), &format!("films/{name}"))
        };
        let data = [DATA, name.as_bytes()].concat();
        let spec = penstock_wire::SegmentSpec { storage: Some(right), ..segment(&info, 7, &data) };
        let headers = payer.headers(&payer.nothing(&info), &spec).await;
        let request = post(&world, "/segment", &headers)
            .header("Content-Type", header::CONTENT_SEGMENT)
            .body(data);
        running.push(tokio::spawn(request.send()));
        tasks.push(worker.next().await.task_id);
    }
    for (name, task) in names.into_iter().zip(tasks).rev() {
        let made = format!("what the worker has made for {name}");
        let parts = renditions(&[(made.as_bytes(), 100), (made.as_bytes(), 231)]);
        assert_eq!(answer(upload(&world, task, parts)).await.0, 200);
    }
    for answered in running {
        assert!(!answered.await.unwrap().unwrap().bytes().await.unwrap().is_empty());
    }
    server.abort();
    let forms = seen.lock().unwrap();
    assert_eq!(forms.len(), 4);
    for (bucket, form) in forms.iter() {
        let other = names.into_iter().find(|name| name != bucket).unwrap();
        for own in ["signature of", "credential of", "what the worker has made for"] {
            assert!(form.contains(&format!("{own} {bucket}")), "{bucket}: {form}");
        }
        let policy = |name: &str| STANDARD.encode(format!("policy of {name}"));
        assert!(form.contains(&policy(bucket)) && !form.contains(&policy(other)), "{form}");
        assert!(form.contains(&format!("films/{bucket}/")) && !form.contains(other), "{form}");
    }
}

#[tokio::test]
async fn googles_form_has_its_own_fields() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let buckets = Router::new().route(
        "/b",
        at(move |headers: HeaderMap, body: Bytes| async move {
            let length = headers["content-length"].to_str().unwrap().parse::<usize>().unwrap();
            assert_eq!(length, body.len());
            note.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}/b", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, buckets).await });
    let world = World::offchain(&["--allow-private-urls", PATIENT]).await;
    let given = Bucket {
        kind: BucketKind::Google,
        credential: "uploads@project.example".to_owned(),
        amz_date: String::new(),
        ..bucket(&host, "film/ab12/")
    };
    let (_, urls) = transcode(&world, Some(given)).await;
    assert_eq!(urls[1], format!("{host}/film/ab12/P360p30fps16x9/7.ts"));
    server.abort();
    let forms = seen.lock().unwrap();
    assert_eq!(forms.len(), 2);
    let form = forms.iter().find(|form| form.contains("rendition one")).unwrap();
    let names: Vec<_> = form
        .split("form-data; name=\"")
        .skip(1)
        .filter_map(|part| part.split('"').next())
        .collect();
    let fields = ["acl", "Content-Type", "key", "policy", "GoogleAccessId", "signature", "file"];
    assert_eq!(names, fields);
    for field in ["uploads@project.example", "film/ab12/P240p30fps4x3/7.ts", "public-read"] {
        assert!(form.contains(&format!("\r\n\r\n{field}\r\n")), "{field}: {form}");
    }
}

#[tokio::test]
async fn the_operators_bucket_takes_results_and_gateways_sources() {
    let s3 = S3Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bucket");
    let address = s3.url().replacen("http://", "s3+http://ID:secret@", 1);
    std::fs::write(&file, format!("{address}/{}/results\n", S3Server::BUCKET)).unwrap();
    let setting = format!("--object-store-file={}", file.display());
    let world = World::offchain(&[&setting, PATIENT]).await;
    let host = format!("{}/{}", s3.url(), S3Server::BUCKET);
    let (session, urls) = transcode(&world, None).await;
    assert_eq!(urls[0], format!("{host}/results/{session}/P240p30fps4x3/7.ts"));
    let data: Vec<_> = fetched(&world, &urls).await.into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, [SMALL, LARGE]);

    // Gateways are told how to put sources there: for their session only, and for some time.
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let right = info.storage[0].s3info.as_ref().unwrap();
    assert_eq!((info.storage.len(), right.host.as_str()), (1, host.as_str()));
    assert_eq!(right.key, format!("results/{}", token(&info).session_id));
    let policy = String::from_utf8(STANDARD.decode(&right.policy).unwrap()).unwrap();
    assert!(policy.contains(&format!(r#"["starts-with","$key","{}/"]"#, right.key)), "{policy}");

    // One that is put there as they are told to is fetched, though the bucket is on a private address.
    let source = format!("{}/source.ts", right.key);
    let form = reqwest::multipart::Form::new()
        .text("acl", "public-read")
        .text("Content-Type", "video/mp2t")
        .text("key", source.clone())
        .text("policy", right.policy.clone())
        .text("x-amz-algorithm", "AWS4-HMAC-SHA256")
        .text("x-amz-credential", right.credential.clone())
        .text("x-amz-date", right.x_amz_date.clone())
        .text("x-amz-signature", right.signature.clone())
        .part("file", reqwest::multipart::Part::bytes(DATA));
    assert_eq!(world.http.post(&host).multipart(form).send().await.unwrap().status(), 204);
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 8, DATA)).await;
    // What another session has put there is not theirs to name.
    let other = format!("results/{session}/P240p30fps4x3/7.ts");
    for (url, status) in [
        (format!("{host}/{source}"), 200),
        (format!("{}/elsewhere/{source}", s3.url()), 400),
        (format!("{host}/{other}"), 400),
    ] {
        let by_url = post(&world, "/segment", &headers)
            .header("Content-Type", header::CONTENT_URI)
            .body(url.clone());
        assert_eq!(by_url.send().await.unwrap().status(), status, "{url}");
    }

    // Files of AI answers go there, too.
    let mut worker = AiWorker::register_for(&world, &[(Capability::TextToImage, "m")], 1).await;
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 0, b"")).await;
    let request = post(&world, "/text-to-image", &headers)
        .header("Authorization", "Livepeer-AI-Worker-1.0")
        .json(&serde_json::json!({ "model_id": "m", "prompt": "a kite" }))
        .send();
    let (response, ()) = tokio::join!(request, async {
        let job = worker.next().await;
        let json = r#"{"images":[{"url":"a.png","seed":1,"nsfw":false}]}"#;
        let files: &[(&str, &str, &[u8])] = &[("a.png", "image/png", b"a picture")];
        let sent = ai_upload_with(&world, job.task_id, json, files);
        assert_eq!(answer(sent).await.0, 200);
    });
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    let made: serde_json::Value = response.json().await.unwrap();
    let url = made["images"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("{host}/results/")), "{url}");
    assert_eq!(fetched(&world, &[url]).await[0].1, b"a picture");
}

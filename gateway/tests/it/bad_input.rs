//! Bad input at every endpoint: a documented 4xx in the envelope, and nothing changed.

use crate::{
    audio::wav,
    world::{World, error},
};
use reqwest::{
    Method,
    multipart::{Form, Part},
};

/// Method, path, headers, body, status, and a part of the text.
type Case = (&'static str, String, Vec<(&'static str, &'static str)>, Vec<u8>, u16, &'static str);

#[tokio::test]
async fn pushes() {
    let w = World::start(1, &["--max-body-bytes=1000"]).await;
    let long = "x".repeat(65);
    let cases: Vec<Case> = vec![
        (
            "PUT",
            "/live/show/index.m3u8".into(),
            vec![],
            vec![1],
            400,
            "ignoring file extension: .m3u8",
        ),
        ("PUT", "/live/show/5".into(), vec![], vec![1], 400, "ignoring file extension: "),
        ("PUT", "/live/5.ts".into(), vec![], vec![1], 400, "Bad URL url=/live/5.ts"),
        ("PUT", "/live/a/b/5.ts".into(), vec![], vec![1], 400, "Bad URL url=/live/a/b/5.ts"),
        ("PUT", format!("/live/{long}/5.ts"), vec![], vec![1], 400, "Bad URL"),
        ("PUT", "/live/%00/5.ts".into(), vec![], vec![1], 400, "Bad URL"),
        (
            "PUT",
            "/live/show/5.ts".into(),
            vec![("content-duration", "300001")],
            vec![1],
            400,
            "invalid duration",
        ),
        (
            "PUT",
            "/live/show/5.ts".into(),
            vec![("content-duration", "-5")],
            vec![1],
            400,
            "invalid duration",
        ),
        (
            "PUT",
            "/live/show/5.ts".into(),
            vec![("content-slice-from", "9"), ("content-slice-to", "3")],
            vec![1],
            400,
            "Invalid slice config from=9ms to=3ms",
        ),
        (
            "PUT",
            "/live/show/5.ts".into(),
            vec![("livepeer-transcode-configuration", "{")],
            vec![1],
            400,
            "failed to parse transcode config header",
        ),
        (
            "PUT",
            "/live/show/5.ts".into(),
            vec![("livepeer-transcode-configuration", r#"{"profiles":[{"width":1e99}]}"#)],
            vec![1],
            400,
            "failed to parse transcode config header",
        ),
        (
            "PUT",
            "/live/show/5.ts".into(),
            vec![("livepeer-transcode-configuration", r#"{"profiles":"x"}"#)],
            vec![1],
            400,
            "failed to parse transcode config header",
        ),
        (
            "PUT",
            "/live/show/5.ts".into(),
            vec![],
            vec![0; 1001],
            413,
            "input bigger than max buffer size",
        ),
        ("DELETE", "/live/show/5.ts".into(), vec![], vec![], 405, "method not allowed"),
        ("GET", "/live/show/5.ts".into(), vec![], vec![], 405, "method not allowed"),
    ];
    for (method, path, headers, body, status, says) in cases {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = w.http.request(method, format!("{}{path}", w.url)).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let (got, code, text) = error(request.send().await.unwrap()).await;
        assert_eq!(got, status, "{path}: {text}");
        assert!(text.contains(says), "{path}: {text}");
        assert!(!code.is_empty(), "{path}");
        w.assert_untouched().await;
    }
    // A body without a length is bounded as well.
    let endless = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(vec![0u8; 100])));
    let request =
        w.http.put(format!("{}/live/show/5.ts", w.url)).body(reqwest::Body::wrap_stream(endless));
    assert_eq!(error(request.send().await.unwrap()).await.0, 413);
    w.assert_untouched().await;
}

#[tokio::test]
async fn noise_costs_nothing() {
    let w = World::with(1).await;
    let noise: Vec<u8> =
        (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (path, body) in [
        ("/live/show/0.ts", Vec::new()),
        ("/live/show/0.ts", noise.clone()),
        ("/live/show/0.mp4", noise),
        ("/live/show/0.mp4", crate::world::SOURCE.to_vec()),
    ] {
        let answer = w.http.put(format!("{}{path}", w.url)).body(body).send().await.unwrap();
        let (status, code, text) = error(answer).await;
        assert_eq!((status, code.as_str()), (422, "no_media"));
        assert_eq!(text, format!("Error getting codec info url={path}"));
        w.assert_untouched().await;
    }
}

#[tokio::test]
async fn codecs_that_nobody_transcodes() {
    let w = World::with(1).await;
    // A transport stream whose only video is MPEG-2.
    let packet = |pid: u16, payload: &[u8]| {
        let mut p = vec![0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10];
        p.extend(payload);
        p.resize(188, 0xff);
        p
    };
    let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0x00, 1, 2, 3, 4];
    let pmt =
        [0, 2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 0x02, 0xe1, 0, 0xf0, 0, 1, 2, 3, 4];
    let body = [packet(0, &pat), packet(0x1000, &pmt)].concat();
    let answer = w.http.put(format!("{}/live/show/0.ts", w.url)).body(body).send().await.unwrap();
    let (status, code, text) = error(answer).await;
    assert_eq!((status, code.as_str()), (422, "unknown_codec"));
    assert_eq!(text, "Unknown input stream codec url=/live/show/0.ts");
    w.assert_untouched().await;
}

#[tokio::test]
async fn audio() {
    let w = World::start(1, &["--max-audio-bytes=100000"]).await;
    let part = |data: Vec<u8>| Part::bytes(data).file_name("a.wav");
    let cases = vec![
        (Form::new(), 400, "incomplete"),
        (Form::new().text("model_id", "m"), 400, "audio is required"),
        (Form::new().text("audio", ""), 400, "audio is empty"),
        (
            Form::new().part("audio", part(b"not audio".to_vec())),
            400,
            "audio duration calculation failed",
        ),
        (Form::new().part("audio", part(wav(9))), 400, "audio duration calculation failed"),
        (Form::new().part("audio", part(vec![0; 100_001])), 413, "bigger"),
        (Form::new().part("audio", part(vec![0; 1_000_000])), 413, "bigger"),
        (
            Form::new().part("audio", part(wav(20))).text("return_timestamps", "maybe"),
            400,
            "return_timestamps",
        ),
        (
            Form::new().part("audio", part(wav(20))).text("model_id", "x".repeat(62)),
            400,
            "model_id",
        ),
        (Form::new().part("audio", part(wav(20))).text("model_id", "a\nb"), 400, "model_id"),
        (
            Form::new().part("audio", part(wav(20))).text("model_id", "x".repeat(5_000)),
            400,
            "size limit",
        ),
        // An Ogg file that is none.
        (Form::new().part("audio", part(b"OggS and nothing else".to_vec())), 400, "duration"),
    ];
    for (form, status, says) in cases {
        let answer =
            w.http.post(format!("{}/audio-to-text", w.url)).multipart(form).send().await.unwrap();
        let (got, code, text) = error(answer).await;
        assert_eq!(got, status, "{says}: {text}");
        assert!(text.to_lowercase().contains(says), "{says}: {text}");
        assert!(!code.is_empty());
        w.assert_untouched().await;
    }
    let url = format!("{}/audio-to-text", w.url);
    for (kind, body) in [
        ("application/json", r#"{"audio":1}"#),
        ("multipart/form-data", "x"),
        ("multipart/form-data; boundary=b", ""),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"audio\"\r\n\r\ncut",
        ),
        ("multipart/form-data; boundary=b", "--b\r\n\r\n"),
    ] {
        let answer =
            w.http.post(&url).header("content-type", kind).body(body).send().await.unwrap();
        assert_eq!(error(answer).await.0, 400, "{kind} {body}");
        w.assert_untouched().await;
    }
    assert_eq!(error(w.http.get(&url).send().await.unwrap()).await.0, 405);
}

#[tokio::test]
async fn everything_else() {
    let w = World::with(1).await;
    for path in [
        "/nowhere",
        "/stream/none.m3u8",
        "/stream/none",
        "/stream/..%2f..%2fetc%2fpasswd.m3u8",
        "/stream/none/source.m3u8",
        "/stream/none/source",
        "/stream/none/source/0.ts",
        "/stream/none/source/x.ts",
        "/stream/none/source/99999999999999999999.ts",
        "/stream/none/source/0",
        "/api/streams/none",
        "/api/streams/%00",
        "/assets/nothing.js",
    ] {
        let answer = w.http.get(format!("{}{path}", w.url)).send().await.unwrap();
        assert_eq!(error(answer).await.0, 404, "{path}");
    }
    for path in ["/stream/none.m3u8", "/api/streams", "/docs", "/", "/healthz", "/openapi.json"] {
        let answer =
            w.http.post(format!("{}{path}", w.url)).body(vec![7; 100]).send().await.unwrap();
        assert_eq!(error(answer).await.0, 405, "{path}");
    }
    // Not text at all in a path.
    let answer = w.http.get(format!("{}/stream/%ff.m3u8", w.url)).send().await.unwrap();
    assert!(answer.status().is_client_error());
    w.assert_untouched().await;
}

//! What an application does: pushes video, posts speech.

use std::path::Path;

use penstock::dev::Role;
use reqwest::{StatusCode, header::ACCEPT};
use serde_json::Value;

use crate::network::Network;

/// One rendition out of a multipart answer.
#[derive(Debug)]
pub struct Rendition {
    /// `Rendition-Name`.
    pub name: String,
    /// The segment.
    pub bytes: Vec<u8>,
}

/// Pushes one segment and returns its renditions; any other answer is the error.
pub async fn push(
    http: &reqwest::Client,
    gateway: &str,
    stream: &str,
    number: usize,
    segment: Vec<u8>,
    configuration: Option<&str>,
) -> Result<Vec<Rendition>, String> {
    let mut request = http
        .put(format!("{gateway}/live/{stream}/{number}.ts"))
        .header(ACCEPT, "multipart/mixed")
        .header("Content-Duration", "2000")
        .body(segment);
    if let Some(configuration) = configuration {
        request = request.header("Livepeer-Transcode-Configuration", configuration);
    }
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = answer.bytes().await.map_err(|error| format!("{error:?}"))?;
    if status != StatusCode::OK {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    parts(&kind, &body)
}

/// Takes a multipart/mixed body apart by its own lengths and boundary, trusting neither.
fn parts(kind: &str, body: &[u8]) -> Result<Vec<Rendition>, String> {
    let boundary = kind
        .strip_prefix("multipart/mixed; boundary=")
        .ok_or_else(|| format!("not multipart/mixed: {kind}"))?;
    let dashes = format!("--{}", boundary.trim_matches('"'));
    let mut rest = body.strip_prefix(dashes.as_bytes()).ok_or("no first boundary")?;
    let mut renditions = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(renditions);
        }
        rest = rest.strip_prefix(b"\r\n").ok_or("no line end after a boundary")?;
        let head_end = find(rest, b"\r\n\r\n").ok_or("a part without end of headers")?;
        let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length: usize = header("Content-Length")
            .and_then(|text| text.parse().ok())
            .ok_or("a part without length")?;
        let bytes = rest[head_end + 4..].get(..length).ok_or("a part is cut off")?.to_vec();
        assert!(
            header("Content-Type").is_some_and(|kind| kind.starts_with("video/mp2t")),
            "{head}"
        );
        renditions.push(Rendition { name: header("Rendition-Name").ok_or("no name")?, bytes });
        rest = &rest[head_end + 4 + length..];
        rest = rest.strip_prefix(b"\r\n").ok_or("no line end before a boundary")?;
        rest = rest.strip_prefix(dashes.as_bytes()).ok_or("no boundary after a part")?;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Posts a recording and returns the pipeline's answer; any other answer is the error.
pub async fn transcribe(network: &Network, wav: &Path) -> Result<Value, String> {
    let bytes = std::fs::read(wav).unwrap();
    let part = reqwest::multipart::Part::bytes(bytes).file_name("speech.wav");
    let part = part.mime_str("audio/wav").unwrap();
    let form = reqwest::multipart::Form::new().part("audio", part);
    let url = format!("{}/audio-to-text", network.url(Role::Gateway));
    let answer = network.http.post(url).multipart(form).send().await;
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
    if status != StatusCode::OK {
        return Err(format!("{status}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

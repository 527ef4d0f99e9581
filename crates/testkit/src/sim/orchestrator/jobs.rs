//! Paid HTTP requests: payments, segments, audio, and the files of their results.

use super::{AudioJob, Node, Order, PaymentOrder, SimOrchestrator, pass};
use crate::sim::{account, form};
use axum::{
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use penstock_domain::{ManifestId, VideoProfile, keccak256};
use penstock_wire::{
    AuthToken, SegmentCredential,
    net::{self, TranscodeData, TranscodeResult, TranscodedSegmentData, transcode_result},
};
use prost::Message;
use std::sync::atomic::Ordering;

pub(super) async fn payment(State(Node(sim)): State<Node>, headers: HeaderMap) -> Response {
    sim.seen.lock().unwrap().payments += 1;
    let order = sim.payment_orders.next();
    if let Some(PaymentOrder::Status(status, text)) = order {
        return (StatusCode::from_u16(status).unwrap(), text).into_response();
    }
    let (payment, credential) = match sim.admit(&headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(text) = sim.credit(&payment, &credential.manifest_id) {
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if let Some(PaymentOrder::LoseAnswer) = order {
        return broken();
    }
    let sender = payment.sender.unwrap_or_default();
    let price = sim.price_of(credential.manifest_id.as_str());
    let info = (&sim.offer_at(sender, credential.auth_token.unwrap(), price)).into();
    net::PaymentResult { info: Some(info) }.encode_to_vec().into_response()
}

/// A 200 whose body ends early.
fn broken() -> Response {
    let chunks = [Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("cut"))];
    Body::from_stream(futures::stream::iter(chunks)).into_response()
}

pub(super) async fn segment(
    State(Node(sim)): State<Node>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (payment, credential) = match sim.admit(&headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    if sim.full.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "OrchestratorCapped").into_response();
    }
    let token = credential.auth_token.clone().unwrap();
    {
        let mut seen = sim.seen.lock().unwrap();
        seen.segments.push((token.session_id.clone(), credential.seq));
        seen.reinit.push(credential.force_session_reinit);
    }
    pass(&sim.segment_gate).await;
    let order = sim.segment_orders.next();
    match &order {
        Some(Order::Status(status, text)) => {
            return (StatusCode::from_u16(*status).unwrap(), *text).into_response();
        }
        Some(Order::Hang) => std::future::pending().await,
        Some(Order::Garbage) => return "garbage".into_response(),
        _ => {}
    }
    let session = ManifestId::new(token.session_id.clone()).unwrap();
    if let Err(text) = sim.credit(&payment, &session) {
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if !sim.has_balance(&token.session_id) {
        return (StatusCode::BAD_REQUEST, "Insufficient balance").into_response();
    }
    if keccak256(&body) != credential.hash {
        return (StatusCode::FORBIDDEN, "Forbidden").into_response();
    }
    sim.sessions.lock().unwrap().insert(token.session_id.clone());
    let sender = payment.sender.unwrap_or_default();
    let info = Some((&sim.offer(sender, token.clone())).into());
    let result = match &order {
        Some(Order::JobError(text)) => transcode_result::Result::Error((*text).to_owned()),
        order => transcode_result::Result::Data(
            transcode(&sim, &credential, &body, &token, order.as_ref()).await,
        ),
    };
    TranscodeResult { seq: credential.seq, result: Some(result), info }
        .encode_to_vec()
        .into_response()
}

/// What a rendition of a segment looks like.
pub fn rendition(name: &str, seq: i64, source: &[u8]) -> Bytes {
    Bytes::from(format!("rendition {name} of segment {seq} with hash {}", keccak256(source)))
}

fn pixels(profile: &VideoProfile, duration_ms: u32) -> u64 {
    u64::from(profile.width) * u64::from(profile.height) * 30 * u64::from(duration_ms) / 1_000
}

async fn transcode(
    sim: &SimOrchestrator,
    credential: &SegmentCredential,
    source: &[u8],
    token: &AuthToken,
    order: Option<&Order>,
) -> TranscodeData {
    let mut renditions: Vec<_> = credential
        .profiles
        .iter()
        .map(|p| (p.clone(), rendition(&p.name, credential.seq, source)))
        .collect();
    let hashes: Vec<_> = renditions.iter().map(|(_, data)| keccak256(data)).collect();
    let key = if let Some(Order::WrongSignature) = order { account() } else { sim.key.clone() };
    let sig = key.sign_transcode_result(&hashes).await.unwrap();
    match order {
        Some(Order::FewerRenditions) => drop(renditions.pop()),
        Some(Order::EmptyRendition) => renditions.last_mut().unwrap().1 = Bytes::new(),
        _ => {}
    }
    let base = match order {
        Some(Order::Elsewhere(base)) => base.clone(),
        _ => sim.uri(),
    };
    let mut total = 0;
    let mut segments = Vec::new();
    for (profile, data) in renditions {
        let pixels = pixels(&profile, credential.duration_ms);
        total += pixels;
        let path = format!("{}/{}/{}.ts", token.session_id, profile.name, credential.seq);
        let url = format!("{base}/stream/{path}");
        sim.files.lock().unwrap().insert(path, data);
        let lie = matches!(order, Some(Order::Pixels));
        let pixels = if lie { i64::MAX } else { pixels as i64 };
        segments.push(TranscodedSegmentData { url, pixels, ..Default::default() });
    }
    sim.debit(&token.session_id, total);
    TranscodeData { segments, sig: sig.as_bytes().to_vec() }
}

pub(super) async fn file(State(Node(sim)): State<Node>, Path(path): Path<String>) -> Response {
    match sim.files.lock().unwrap().get(&path) {
        Some(data) => data.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Units that an audio job costs.
fn charged(job: &AudioJob) -> u64 {
    let metadata = &job.fields.iter().find(|(name, _)| name == "metadata").unwrap().1;
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
    metadata["duration"].as_str().unwrap().parse::<u64>().unwrap() * 1_000
}

/// The form of an audio job, as far as it came.
async fn read_audio(headers: &HeaderMap, body: Body) -> Result<AudioJob, axum::BoxError> {
    let kind = headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind)?;
    let mut parts = form::parts_of(body, boundary).await?;
    let mut job = AudioJob { bytes: 0, file_name: String::new(), fields: Vec::new() };
    let mut first = true;
    while let Some(part) = parts.next_field().await? {
        let name = part.name().unwrap_or_default().to_owned();
        if name == "audio" {
            assert!(first, "the file comes first");
            job.file_name = part.file_name().unwrap_or_default().to_owned();
            job.bytes = part.bytes().await?.len();
        } else {
            job.fields.push((name, part.text().await?));
        }
        first = false;
    }
    Ok(job)
}

pub(super) async fn audio(State(Node(sim)): State<Node>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (payment, credential) = match sim.admit(&head.headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    assert_eq!(head.headers["authorization"], "Livepeer-AI-Worker-1.0");
    let job = match read_audio(&head.headers, body).await {
        Ok(job) => job,
        // A client that went away leaves a form without an end.
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    sim.seen.lock().unwrap().audio.push(job.clone());
    pass(&sim.ai_gate).await;
    let session = format!("31_{}", sim.terms.lock().unwrap().model);
    match sim.audio_orders.next() {
        Some(Order::Status(status, text)) => {
            return (StatusCode::from_u16(status).unwrap(), text).into_response();
        }
        Some(Order::Garbage) => {
            sim.debit(&session, charged(&job));
            return "garbage".into_response();
        }
        Some(Order::Hang) => std::future::pending().await,
        Some(other) => panic!("{other:?} is no order for audio"),
        None => {}
    }
    assert_eq!(credential.manifest_id.as_str(), session);
    if let Err(text) = sim.credit(&payment, &credential.manifest_id) {
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if !sim.has_balance(&session) {
        return (StatusCode::BAD_REQUEST, "Insufficient balance").into_response();
    }
    let seconds = charged(&job) / 1_000;
    sim.ai.work().await;
    sim.ai.listen(seconds).await;
    sim.debit(&session, seconds * 1_000);
    sim.seen.lock().unwrap().audio_done += 1;
    let text = format!("{seconds} seconds of speech");
    let answer =
        serde_json::json!({ "text": text, "chunks": [{ "timestamp": [0.0, 1.0], "text": text }] });
    axum::Json(answer).into_response()
}

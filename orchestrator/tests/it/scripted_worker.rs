//! A worker that speaks the real protocol and does what a test says.

use crate::world::{MODEL, SECRET, World};
use penstock_domain::{Capabilities, Capability, SegmentFormat};
use penstock_wire::{
    capabilities,
    hardware::GPU_NAMES,
    net,
    net::{ai_worker_client::AiWorkerClient, transcoder_client::TranscoderClient},
    worker_upload::{
        AI_WORKER_AUTHORIZATION, CREDENTIALS, PART_END, PIPELINE, PIXELS, TASK_ID,
        TRANSCODER_AUTHORIZATION, multipart_end, rendition_part_head,
    },
};
use std::collections::BTreeMap;
use tonic::Streaming;

const BOUNDARY: &str = "0123456789abcdef0123";

pub struct Transcoder {
    pub jobs: Streaming<net::NotifySegment>,
}

impl Transcoder {
    pub async fn register(world: &World, capacity: i64) -> Self {
        Self::register_on(world, capacity, "").await
    }

    /// The same on cards of these names.
    pub async fn register_on(world: &World, capacity: i64, gpus: &str) -> Self {
        let mut client = TranscoderClient::new(world.grpc().await);
        let request = net::RegisterRequest { secret: SECRET.into(), capacity, capabilities: None };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert(GPU_NAMES, gpus.parse().unwrap());
        Self { jobs: client.register_transcoder(request).await.unwrap().into_inner() }
    }

    pub async fn next(&mut self) -> net::NotifySegment {
        self.jobs.message().await.unwrap().expect("the stream goes on")
    }
}

/// Fetches a job's source.
pub async fn source(world: &World, url: &str) -> Vec<u8> {
    let response = world.http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    response.bytes().await.unwrap().to_vec()
}

/// A multipart body of renditions.
pub fn renditions(parts: &[(&[u8], u64)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (data, pixels) in parts {
        let length = data.len() as u64;
        let head = rendition_part_head(BOUNDARY, SegmentFormat::MpegTs, length, *pixels);
        body.extend(head.as_bytes());
        body.extend(*data);
        body.extend(PART_END.as_bytes());
    }
    body.extend(multipart_end(BOUNDARY).as_bytes());
    body
}

pub fn upload(world: &World, task_id: i64, body: Vec<u8>) -> reqwest::RequestBuilder {
    world
        .http
        .post(format!("{}/transcodeResults", world.service))
        .header("Authorization", TRANSCODER_AUTHORIZATION)
        .header(CREDENTIALS, SECRET)
        .header(TASK_ID, task_id.to_string())
        .header(PIXELS, "1000")
        .header("Content-Type", format!("multipart/mixed; boundary={BOUNDARY}"))
        .body(body)
}

pub struct AiWorker {
    pub jobs: Streaming<net::NotifyAiJob>,
}

impl AiWorker {
    /// With so many slots for the model that has a price.
    pub async fn register(world: &World, capacity: u32) -> Self {
        Self::register_for(world, &[(Capability::AudioToText, MODEL)], capacity).await
    }

    /// The same on a card of this name.
    pub async fn register_on(world: &World, capacity: u32, gpu: &str) -> Self {
        let models = [(Capability::AudioToText, MODEL)];
        let info = net::GpuComputeInfo { name: gpu.to_owned(), ..Default::default() };
        Self::register_with(world, &models, capacity, [("0".to_owned(), info)].into()).await
    }

    /// With so many slots for each of these models.
    pub async fn register_for(world: &World, models: &[(Capability, &str)], capacity: u32) -> Self {
        Self::register_with(world, models, capacity, Default::default()).await
    }

    async fn register_with(
        world: &World,
        models: &[(Capability, &str)],
        capacity: u32,
        gpu_info: BTreeMap<String, net::GpuComputeInfo>,
    ) -> Self {
        let mut offer = Capabilities::default();
        for (capability, model) in models {
            let mut one = Capabilities::ai_job(*capability, model, true);
            let entry = one.models.get_mut(&capability.number()).unwrap();
            entry.get_mut(*model).unwrap().capacity = capacity;
            offer.add(&one);
        }
        let mut client = AiWorkerClient::new(world.grpc().await);
        let request = net::RegisterAiWorkerRequest {
            secret: SECRET.into(),
            capabilities: Some(capabilities::write(&offer)),
            hardware: vec![net::HardwareInformation {
                pipeline: "audio-to-text".into(),
                model_id: MODEL.into(),
                gpu_info,
            }],
        };
        Self { jobs: client.register_ai_worker(request).await.unwrap().into_inner() }
    }

    pub async fn next(&mut self) -> net::NotifyAiJob {
        self.jobs.message().await.unwrap().expect("the stream goes on")
    }
}

pub fn ai_upload(world: &World, task_id: i64, json: &str) -> reqwest::RequestBuilder {
    ai_upload_with(world, task_id, json, &[])
}

/// A result with files beside it.
pub fn ai_upload_with(
    world: &World,
    task_id: i64,
    json: &str,
    files: &[(&str, &str, &[u8])],
) -> reqwest::RequestBuilder {
    let mut body = Vec::new();
    for (name, kind, data) in files {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nContent-Disposition: attachment; filename={name}\r\n\r\n",
            data.len()
        );
        body.extend(head.as_bytes());
        body.extend(*data);
        body.extend(PART_END.as_bytes());
    }
    let part = format!(
        "--{BOUNDARY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}\r\n{}",
        json.len(),
        multipart_end(BOUNDARY)
    );
    body.extend(part.as_bytes());
    ai_post(world, task_id)
        .header("Content-Type", format!("multipart/mixed; boundary={BOUNDARY}"))
        .body(body)
}

/// Why there is no result.
pub fn ai_failed(world: &World, task_id: i64, why: &str) -> reqwest::RequestBuilder {
    ai_post(world, task_id).header("Content-Type", "livepeer/ai-worker-error").body(why.to_owned())
}

/// A result in pieces: what is sent to the channel goes out at once; an error breaks it off.
pub fn ai_stream(
    world: &World,
    task_id: i64,
) -> (tokio::sync::mpsc::Sender<Result<String, std::io::Error>>, reqwest::RequestBuilder) {
    let (pieces, body) = tokio::sync::mpsc::channel(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(body));
    (pieces, ai_post(world, task_id).header("Content-Type", "text/event-stream").body(body))
}

fn ai_post(world: &World, task_id: i64) -> reqwest::RequestBuilder {
    world
        .http
        .post(format!("{}/aiResults", world.service))
        .header("Authorization", AI_WORKER_AUTHORIZATION)
        .header(CREDENTIALS, SECRET)
        .header(TASK_ID, task_id.to_string())
        .header(PIPELINE, "audio-to-text")
}

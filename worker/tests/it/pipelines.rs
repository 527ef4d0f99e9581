//! All nine pipelines through the whole worker: the runner is a stand-in for the network's own that
//! checks every request against its interface; ffmpeg, which makes films of its frames, is real.

use crate::{
    orchestrator::{Orchestrator, Posted, Registered},
    worker::Worker,
};
use penstock_testkit::{
    sim::{Running, SimRunner, runner::Order, runner_api},
    until,
};
use penstock_wire::net;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

const PIPELINES: [&str; 9] = [
    "text-to-image",
    "image-to-image",
    "image-to-video",
    "upscale",
    "audio-to-text",
    "segment-anything-2",
    "llm",
    "image-to-text",
    "text-to-speech",
];

struct World {
    orchestrator: Orchestrator,
    ai: Registered<net::RegisterAiWorkerRequest, net::NotifyAiJob>,
    runner: Running<SimRunner>,
    worker: Worker,
    next: i64,
    _folder: TempDir,
}

impl World {
    /// A worker whose models file names one external runner for every pipeline, two jobs at once.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runner = SimRunner::start("m/1", Some("t0ken")).await;
        let entry = |pipeline: &&str| {
            json!({"pipeline": pipeline, "model_id": "m/1", "url": runner.uri(), "token": "t0ken",
                "warm": true, "capacity": 1})
        };
        let models = folder.path().join("aiModels.json");
        let list: Vec<Value> = PIPELINES.iter().map(entry).collect();
        std::fs::write(&models, Value::from(list).to_string()).unwrap();
        let mut orchestrator = Orchestrator::start().await;
        let flags = [format!("--models-file={}", models.display())];
        let flags: Vec<&str> =
            flags.iter().map(String::as_str).chain(["--max-sessions=0"]).collect();
        let worker = Worker::start(&orchestrator, &flags).await;
        // It registers with the first runner that is well, and again until it has named all of them.
        let mut instances = BTreeSet::new();
        let ai = loop {
            let ai = orchestrator.ai_worker().await;
            instances.extend(ai.instance.clone());
            let offered = ai.request.capabilities.as_ref().unwrap();
            let offered = penstock_wire::capabilities::read(offered).unwrap();
            if offered.models.len() == PIPELINES.len() {
                break ai;
            }
        };
        // By the one name of its process, so that nobody counts its places twice.
        assert_eq!(instances.iter().map(String::len).collect::<Vec<_>>(), [32]);
        Self { orchestrator, ai, runner, worker, next: 0, _folder: folder }
    }

    fn send(&mut self, pipeline: &str, request: Value) -> i64 {
        self.next += 1;
        let needs_file = !matches!(pipeline, "text-to-image" | "llm" | "text-to-speech");
        let file = runner_api::small_picture();
        let url = match needs_file {
            true => self.orchestrator.offer(&format!("{}.tempfile", self.next), file),
            false => String::new(),
        };
        let data = json!({"input_url": url, "request": request}).to_string().into_bytes();
        let data = net::AiJobData { pipeline: pipeline.to_owned(), request_data: data };
        let notice =
            net::NotifyAiJob { ai_job_data: Some(data), task_id: self.next, ..Default::default() };
        self.ai.jobs.send(Ok(notice)).unwrap();
        self.next
    }

    async fn result(&mut self, pipeline: &str, request: Value) -> Posted {
        let task = self.send(pipeline, request);
        let posted = self.orchestrator.result().await;
        assert_eq!(posted.header("taskid"), task.to_string());
        assert_eq!(posted.header("pipeline"), pipeline);
        posted
    }

    async fn refused(&mut self, pipeline: &str, request: Value) -> String {
        let posted = self.result(pipeline, request).await;
        assert_eq!(posted.header("content-type"), "livepeer/ai-worker-error", "{}", posted.text());
        posted.text().to_owned()
    }
}

/// The parts' files, by name and type, and the JSON.
async fn opened(posted: &Posted) -> (Vec<(String, String, Vec<u8>)>, Value) {
    assert!(!posted.header("content-type").starts_with("livepeer/"), "{}", posted.text());
    let mut parts = posted.parts().await;
    let (headers, json) = parts.pop().unwrap();
    assert_eq!(headers["content-type"], "application/json");
    let files = parts.into_iter().map(|(headers, body)| {
        assert_eq!(headers["content-length"], body.len().to_string());
        let disposition = headers["content-disposition"].to_str().unwrap();
        let name = disposition.strip_prefix("attachment; filename=").unwrap().to_owned();
        (name, headers["content-type"].to_str().unwrap().to_owned(), body.to_vec())
    });
    (files.collect(), serde_json::from_slice(&json).unwrap())
}

fn chat(stream: bool) -> Value {
    json!({"model": "m/1", "messages": [{"role": "user", "content": "count"}], "stream": stream,
        "max_tokens": 16, "temperature": 0.5, "top_p": 1.0, "top_k": -1})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pipeline_goes_to_its_runner_and_comes_back() {
    let mut world = World::start().await;
    let wanted = json!({"model_id": "m/1", "prompt": "a kite", "width": 64, "height": 32, "loras": "",
        "guidance_scale": 7.5, "negative_prompt": "", "safety_check": true, "seed": 5,
        "num_inference_steps": 2, "num_images_per_prompt": 2});
    let (files, answer) = opened(&world.result("text-to-image", wanted).await).await;
    assert_eq!(files.len(), 2);
    for (image, (name, kind, data)) in answer["images"].as_array().unwrap().iter().zip(&files) {
        assert_eq!((&image["url"], kind.as_str()), (&json!(name), "image/png"));
        assert!(name.ends_with(".png"));
        assert_eq!(*data, runner_api::small_picture());
    }
    assert_ne!(files[0].0, files[1].0);

    let wanted = json!({"image": null, "model_id": "m/1", "prompt": "", "strength": 0.8,
        "image_guidance_scale": 1.5, "safety_check": false, "num_images_per_prompt": 1});
    let (files, _) = opened(&world.result("image-to-image", wanted).await).await;
    assert_eq!(files.len(), 1);
    let wanted = json!({"image": null, "model_id": "m/1", "prompt": "sharp"});
    let (files, _) = opened(&world.result("upscale", wanted).await).await;
    assert_eq!(files.len(), 1);

    let wanted = json!({"image": null, "model_id": "m/1", "width": 64, "height": 48, "fps": 4,
        "motion_bucket_id": 127, "noise_aug_strength": 0.02});
    let (files, answer) = opened(&world.result("image-to-video", wanted).await).await;
    let [(name, kind, film)] = &files[..] else { panic!("{answer}") };
    assert_eq!((&answer["images"][0]["url"], kind.as_str()), (&json!(name), "video/mp4"));
    assert_eq!(answer["images"][0]["seed"], 7, "the first frame's");
    looks_like(film, "64,48,4/1,8");

    let sizes = format!("{} bytes", runner_api::small_picture().len());
    let wanted = json!({"audio": null, "model_id": "m/1", "return_timestamps": "word",
        "metadata": "{\"duration\":\"7\"}"});
    let (files, answer) = opened(&world.result("audio-to-text", wanted).await).await;
    assert_eq!((files.len(), &answer["text"]), (0, &json!(format!("{sizes} of speech"))));
    let wanted = json!({"image": null, "model_id": "m/1", "point_coords": "[[1,1]]",
        "point_labels": "[1]", "multimask_output": true});
    let (_, answer) = opened(&world.result("segment-anything-2", wanted).await).await;
    assert_eq!(answer, json!({"masks": "[[1]]", "scores": "[0.5]", "logits": "[[0.1]]"}));
    let (_, answer) = opened(&world.result("llm", chat(false)).await).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "one two three");
    assert_eq!(answer["usage"]["total_tokens"], 8);
    let wanted = json!({"image": null, "model_id": "m/1", "prompt": "what?"});
    let (_, answer) = opened(&world.result("image-to-text", wanted).await).await;
    assert_eq!(answer["text"], format!("a picture of {sizes}"));
    let wanted = json!({"model_id": "m/1", "text": "hello", "description": "a voice"});
    let (files, answer) = opened(&world.result("text-to-speech", wanted).await).await;
    assert_eq!((&answer["audio"]["url"], files[0].1.as_str()), (&json!(files[0].0), "audio/wav"));
    assert_eq!(files[0].2, b"RIFF sound");
    assert_eq!(world.runner.jobs.lock().unwrap().len(), 9, "each was as the interface has it");
    world.worker.stop().await;
}

/// ffprobe's word on a film: width, height, frame rate, frames.
fn looks_like(film: &[u8], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    std::fs::write(&path, film).unwrap();
    let entries = "stream=width,height,r_frame_rate,nb_frames";
    let probe = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", entries, "-of", "csv=p=0"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&probe.stdout).trim(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_runner_says_is_passed_on_in_the_networks_words() {
    let mut world = World::start().await;
    let caption = || json!({"image": null, "model_id": "m/1"});
    world.runner.orders.then([
        Order::Status(400, "no such thing"),
        Order::Status(413, "x"),
        Order::Garbage,
        Order::Answer(json!({"images": []})),
    ]);
    let bad = world.refused("image-to-text", caption()).await;
    assert_eq!(bad, "image-to-text container returned 400: no such thing");
    let large = world.refused("image-to-text", caption()).await;
    assert_eq!(
        large,
        "image-to-text container returned 413: file too large; max file size is 50MB"
    );
    let malformed = "image-to-text container gave a malformed answer";
    assert_eq!(world.refused("image-to-text", caption()).await, malformed);
    assert_eq!(world.refused("image-to-text", caption()).await, malformed);
    world.runner.orders.then([Order::Status(500, "no memory"), Order::Status(500, "no memory")]);
    let masks = world.refused("segment-anything-2", caption()).await;
    assert_eq!(masks, "segment anything 2 container returned 500: no memory");
    assert_eq!(world.refused("llm", chat(true)).await, "unexpected status code: 500");
    // What the interface does not have, the runner refuses: nothing is silently mended.
    let empty = json!({"model": "m/1", "messages": []});
    let unfit = world.refused("llm", empty).await;
    assert!(unfit.starts_with("LLM container returned 422: {\"detail\":[{"), "{unfit}");
    let film = json!({"frames": []});
    world.runner.orders.then([Order::Answer(film)]);
    let none = world.refused("image-to-video", caption()).await;
    assert_eq!(none, "unexpected number of image-to-video outputs expected=1 actual=0");
    let wide = json!({"image": null, "model_id": "m/1", "width": 100_000});
    assert!(world.refused("image-to-video", wide).await.contains("100000x576"));

    // Unknown models and senseless requests do not get to a runner.
    let calls = world.runner.jobs.lock().unwrap().len();
    let other = json!({"model_id": "m/2", "prompt": "x"});
    assert_eq!(world.refused("text-to-image", other).await, "no workers can process job requested");
    let unfit = world.refused("text-to-image", json!({"model_id": "m/1", "width": "wide"})).await;
    assert!(unfit.starts_with("AI request validation failed for text-to-image pipeline err="));
    let live = world.refused("live-video-to-video", json!({"model_id": "m/1"})).await;
    assert!(live.ends_with("err=AI request pipeline type not supported"), "{live}");
    assert_eq!(world.runner.jobs.lock().unwrap().len(), calls);
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_are_sent_on_as_they_come() {
    let mut world = World::start().await;
    let pace = Arc::new(Semaphore::new(1));
    *world.runner.pace.lock().unwrap() = Some(Arc::clone(&pace));
    let task = world.send("llm", chat(true));
    let mut upload = world.orchestrator.stream().await;
    assert_eq!(upload.header("taskid"), task.to_string());
    assert_eq!(upload.header("content-type"), "text/event-stream");
    let word = |piece: &Value| piece["choices"][0]["delta"]["content"].as_str().unwrap().to_owned();
    // The runner has said one word and waits: it is here all the same.
    assert_eq!(word(&upload.piece().await.unwrap()), "one ");
    // One job at a time is what the worker said it takes.
    let second = world.refused("llm", chat(false)).await;
    assert_eq!(second, "no workers can process job requested");
    pace.add_permits(2);
    assert_eq!(word(&upload.piece().await.unwrap()), "two ");
    let last = upload.piece().await.unwrap();
    assert_eq!((word(&last), &last["usage"]["total_tokens"]), ("three".into(), &json!(8)));
    assert!(upload.piece().await.is_none(), "no [DONE] line");
    *world.runner.pace.lock().unwrap() = None;
    until("the runner is free again", || async {
        world.runner.streams.load(Ordering::SeqCst) == 0
    })
    .await;

    // A runner that breaks off breaks the upload off.
    world.runner.orders.then([Order::BreakOff]);
    let pace = Arc::new(Semaphore::new(1));
    *world.runner.pace.lock().unwrap() = Some(Arc::clone(&pace));
    world.send("llm", chat(true));
    let mut upload = world.orchestrator.stream().await;
    assert_eq!(word(&upload.piece().await.unwrap()), "one ");
    // Only now: a break right after the first piece may swallow that.
    pace.add_permits(1);
    assert!(upload.broke_off().await);

    // An orchestrator that wants no more frees the runner, whether or not it has said anything.
    for said in [1, 0] {
        *world.runner.pace.lock().unwrap() = Some(Arc::new(Semaphore::new(said)));
        world.send("llm", chat(true));
        let mut upload = world.orchestrator.stream().await;
        if said > 0 {
            upload.piece().await.unwrap();
        }
        assert_eq!(world.runner.streams.load(Ordering::SeqCst), 1);
        drop(upload);
        until("the runner is cut off", || async {
            world.runner.streams.load(Ordering::SeqCst) == 0
        })
        .await;
    }
    world.worker.stop().await;
}

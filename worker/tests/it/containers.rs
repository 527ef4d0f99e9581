//! Runner containers: the manager over the real Docker client, a stand-in for the engine behind it,
//! and stand-ins for ai-runner in the containers.

use crate::{
    docker::{Docker, Fate},
    orchestrator::{Orchestrator, expect},
    worker::Worker,
};
use penstock_containers::{Engine, Images, gpus};
use penstock_domain::Capability;
use penstock_testkit::until;
use penstock_wire::net;
use penstock_worker::ai::{
    client::RunnerClient,
    containers::{Containers, Model, Settings, Timings},
    models::{self, ModelEntry, Unaddressed},
    pool::{Lease, NoCapacity, Pool, State},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const LATEST: &str = "livepeer/ai-runner:latest";
const OWNER: &str = "this-worker";
const T2I: Capability = Capability::TextToImage;

/// Often, and long enough for any machine.
const TIMINGS: Timings = Timings {
    start_poll: Duration::from_millis(5),
    ready: Duration::from_secs(60),
    ready_with_flags: Duration::from_secs(60),
    loading: Duration::from_secs(60),
    watch: Duration::from_millis(10),
};

fn entries(list: serde_json::Value) -> Vec<ModelEntry> {
    models::parse_for(&list.to_string(), Unaddressed::Containers).unwrap()
}

/// A manager at work.
struct World {
    docker: Docker,
    pool: Arc<Pool>,
    containers: Arc<Containers>,
    stop: CancellationToken,
    keeping: tokio::task::JoinHandle<()>,
}

impl World {
    async fn start(docker: Docker, cards: &[u32], per_card: u32, list: serde_json::Value) -> Self {
        Self::with(docker, cards, per_card, list, TIMINGS).await
    }

    async fn with(
        docker: Docker,
        cards: &[u32],
        per_card: u32,
        list: serde_json::Value,
        timings: Timings,
    ) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let (mut members, mut models) = (Vec::new(), Vec::new());
        for entry in entries(list) {
            let models::Backend::Container { flags } = &entry.backend else { panic!() };
            let first = members.len();
            for _ in 0..entry.capacity {
                members.push(penstock_worker::ai::pool::Member::new(&entry, 1));
            }
            models.push(Model {
                capability: entry.capability,
                model_id: entry.model_id.clone(),
                flags: flags.clone(),
                warm: entry.warm,
                members: (first..members.len()).collect(),
            });
        }
        let settings = Settings {
            images: Images::default(),
            places: gpus(cards, per_card),
            models_dir: "/srv/models".into(),
            verbose: false,
        };
        let engine = Engine::connect(&docker.host(), OWNER.to_owned()).await.unwrap();
        let http = RunnerClient::pool(64 << 20).unwrap();
        let containers = Containers::new(engine, settings, timings, http).await.unwrap();
        let (pool, stop) = (Arc::new(Pool::new(members)), CancellationToken::new());
        let keeping =
            tokio::spawn(Arc::clone(&containers).keep(models, pool.clone(), stop.clone()));
        Self { docker, pool, containers, stop, keeping }
    }

    /// Until every model can be had.
    async fn offered(&self) {
        let mut states = self.pool.watch();
        let all = states.wait_for(|all| all.iter().all(|s| matches!(s, State::OnDemand(_))));
        expect("offer", all).await.unwrap();
    }

    async fn down(&self, member: usize) -> String {
        let mut states = self.pool.watch();
        let is_down = |all: &Vec<State>| match &all[member] {
            State::Down(why) => why != "starting",
            _ => false,
        };
        let all = expect("failure", states.wait_for(is_down)).await.unwrap();
        let State::Down(why) = &all[member] else { panic!() };
        why.clone()
    }

    async fn lease(&self, model_id: &str) -> Result<Lease, NoCapacity> {
        expect("answer", self.pool.lease(T2I, model_id, Duration::ZERO)).await
    }

    fn names(&self) -> Vec<String> {
        self.docker.boxes().into_iter().map(|b| b.name).collect()
    }

    /// Ends it; nothing of its own is left.
    async fn stop(self) {
        self.stop.cancel();
        expect("end", self.keeping).await.unwrap();
        let ours = |b: &crate::docker::Box| b.body["Labels"]["creator_id"] == OWNER;
        assert!(!self.docker.boxes().iter().any(ours));
        assert_eq!(self.containers.capacity().0, 0);
    }
}

fn t2i(model_id: &str, warm: bool) -> serde_json::Value {
    json!({"pipeline": "text-to-image", "model_id": model_id, "warm": warm})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_model_has_its_container_as_the_network_makes_it() {
    let docker = Docker::start(&[LATEST]).await;
    docker.left_behind("mine", &[("creator", "ai-worker"), ("creator_id", OWNER)]);
    docker.left_behind("legacy", &[("creator", "ai-worker")]);
    docker.left_behind("other", &[("creator", "ai-worker"), ("creator_id", "another-worker")]);
    docker.left_behind("foreign", &[("creator", "somebody")]);
    let mut model = t2i("ByteDance/SDXL_Lightning", true);
    model["optimization_flags"] = json!({"SFAST": true, "STEPS": 4});
    let world = World::start(docker, &[3], 1, json!([model])).await;
    world.offered().await;
    assert_eq!(world.docker.removed(), ["mine", "legacy"]);

    let name = "text-to-image_ByteDance-SDXL-Lightning_8003";
    assert_eq!(world.names(), ["other", "foreign", name]);
    let made = world.docker.named(name).unwrap();
    assert_eq!(
        made.env(),
        ["PIPELINE=text-to-image", "MODEL_ID=ByteDance/SDXL_Lightning", "SFAST=true", "STEPS=4"]
    );
    let (body, host) = (&made.body, &made.body["HostConfig"]);
    assert_eq!(body["Image"], LATEST);
    assert_eq!(body["Labels"], json!({"creator": "ai-worker", "creator_id": OWNER}));
    assert_eq!(body["ExposedPorts"], json!({"8000/tcp": {}}));
    let binding = json!({"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8003"}]});
    assert_eq!(host["PortBindings"], binding);
    assert_eq!(host["Mounts"][0]["Source"], "/srv/models");
    assert_eq!(host["Mounts"][0]["Target"], "/models");
    assert_eq!(host["Mounts"][0]["Type"], "bind");
    assert_eq!(host["DeviceRequests"][0]["DeviceIDs"], json!(["3"]));
    assert_eq!(host["DeviceRequests"][0]["Capabilities"], json!([["gpu"]]));
    assert_eq!(host["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));

    // One job at a time; given back, it is lent again.
    let lease = world.lease("ByteDance/SDXL_Lightning").await.unwrap();
    assert_eq!(world.containers.capacity(), (1, 0, 0));
    assert_eq!(world.lease("ByteDance/SDXL_Lightning").await.unwrap_err(), NoCapacity);
    drop(lease);
    assert!(world.lease("ByteDance/SDXL_Lightning").await.is_ok());
    assert_eq!(world.containers.capacity(), (0, 1, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_models_have_their_containers_from_the_start_and_keep_them() {
    const NOOP: &str = "livepeer/ai-runner:live-app-noop";
    let live = json!({"pipeline": "live-video-to-video", "model_id": "noop", "capacity": 2});
    let list = json!([live, t2i("a", false)]);
    let world = World::start(Docker::start(&[NOOP, LATEST]).await, &[0, 1], 1, list).await;
    let mut states = world.pool.watch();
    let ready = |all: &Vec<State>| {
        let live = all[..2].iter().all(|s| matches!(s, State::Live(_)));
        live && matches!(all[2], State::OnDemand(_))
    };
    expect("live runners", states.wait_for(ready)).await.unwrap();
    let names = ["live-video-to-video_noop_8900", "live-video-to-video_noop_8901"];
    let (mut made, first) = (world.names(), world.docker.named(names[0]).unwrap());
    made.sort_unstable();
    assert_eq!(made, names);
    assert_eq!(first.body["Image"], NOOP);
    // They hold their cards, whether they have a session or not.
    assert_eq!(world.lease("a").await.unwrap_err(), NoCapacity);
    // One that breaks comes back as another one.
    let live = |all: &[State]| -> Vec<_> {
        let lives = all.iter().filter_map(|state| match state {
            State::Live(live) => Some(Arc::clone(live)),
            _ => None,
        });
        lives.collect()
    };
    let before = live(&states.borrow());
    *first.runner().health.lock().unwrap() = "ERROR";
    let is_back = |all: &Vec<State>| {
        let old = |new: &&Arc<_>| before.iter().any(|before| Arc::ptr_eq(before, new));
        ready(all) && live(all).iter().filter(old).count() == 1
    };
    expect("it is back", states.wait_for(is_back)).await.unwrap();
    assert_eq!(world.docker.removed(), [names[0]]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_models_start_for_a_job_and_make_room_for_each_other() {
    let list = json!([t2i("a", false), t2i("b", false), t2i("w", true)]);
    let world = World::start(Docker::start(&[LATEST]).await, &[0, 1], 1, list).await;
    world.offered().await;
    // The warm one has a card already; the cold ones have none.
    assert_eq!(world.names(), ["text-to-image_w_8000"]);
    let a = world.lease("a").await.unwrap();
    assert_eq!(world.names(), ["text-to-image_w_8000", "text-to-image_a_8001"]);
    // Neither a borrowed container nor a warm one makes room.
    assert_eq!(world.lease("b").await.unwrap_err(), NoCapacity);
    drop(a);
    let b = world.lease("b").await.unwrap();
    assert_eq!(world.names(), ["text-to-image_w_8000", "text-to-image_b_8001"]);
    drop(b);
    // It stays for the next job.
    drop(world.lease("b").await.unwrap());
    assert_eq!(world.docker.removed(), ["text-to-image_a_8001"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_of_a_card_and_machines_without_one() {
    let mut two = t2i("m", true);
    two["capacity"] = json!(2);
    let world = World::start(Docker::start(&[LATEST]).await, &[1], 2, json!([two.clone()])).await;
    world.offered().await;
    let mut names = world.names();
    names.sort();
    assert_eq!(names, ["text-to-image_m_8001", "text-to-image_m_8011"]);
    for b in world.docker.boxes() {
        assert_eq!(b.body["HostConfig"]["DeviceRequests"][0]["DeviceIDs"], json!(["1"]));
    }
    let both = (world.lease("m").await.unwrap(), world.lease("m").await.unwrap());
    assert!(!Arc::ptr_eq(&both.0.live, &both.1.live));
    drop(both);
    world.stop().await;

    let docker = Docker::start(&[LATEST]).await;
    let world = World::start(docker, &[], 1, json!([t2i("m", true)])).await;
    world.offered().await;
    let made = world.docker.named("text-to-image_m_8000").unwrap();
    assert!(made.body["HostConfig"]["DeviceRequests"].is_null());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_that_fail_are_seen_at_once_and_tried_again() {
    let docker = Docker::start(&[LATEST]).await;
    docker.fates([Fate::Exits(1), Fate::Refused, Fate::Says("ERROR"), Fate::Says("OK")]);
    let world = World::start(docker, &[0], 1, json!([t2i("m", true)])).await;
    let why = world.down(0).await;
    assert!(why.contains("exit code 1"), "{why}");
    world.offered().await;
    // Each failed one was removed, and its place used again.
    assert_eq!(world.docker.removed(), ["text-to-image_m_8000"; 3]);
    assert_eq!(world.names(), ["text-to-image_m_8000"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loading_runner_is_waited_for_and_gets_no_jobs() {
    let docker = Docker::start(&[LATEST]).await;
    docker.fates([Fate::Says("LOADING")]);
    let world = World::start(docker, &[0], 1, json!([t2i("m", true)])).await;
    until("the container runs", || async {
        world.docker.named("text-to-image_m_8000").is_some_and(|b| b.runner.is_some())
    })
    .await;
    assert_eq!(world.lease("m").await.unwrap_err(), NoCapacity);
    let runner = world.docker.named("text-to-image_m_8000").unwrap().runner();
    *runner.health.lock().unwrap() = "OK";
    world.offered().await;
    // Loading again later, it is left out until it is done.
    *runner.health.lock().unwrap() = "LOADING";
    assert_eq!(world.lease("m").await.unwrap_err(), NoCapacity);
    *runner.health.lock().unwrap() = "IDLE";
    until("it is lent again", || async { world.lease("m").await.is_ok() }).await;
    assert!(world.docker.removed().is_empty());
    drop(runner);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sick_container_is_replaced() {
    let docker = Docker::start(&[LATEST]).await;
    let list = json!([t2i("w", true), t2i("c", false)]);
    let world = World::start(docker, &[0, 1], 1, list).await;
    world.offered().await;
    drop(world.lease("c").await.unwrap());
    let (warm, cold) = ("text-to-image_w_8000", "text-to-image_c_8001");
    let first = world.docker.named(warm).unwrap();
    *first.runner().health.lock().unwrap() = "ERROR";
    *world.docker.named(cold).unwrap().runner().health.lock().unwrap() = "ERROR";
    until("the warm one is new and the cold one gone", || async {
        let new = world.docker.named(warm).is_some_and(|b| b.id != first.id);
        new && world.docker.named(cold).is_none()
    })
    .await;
    world.offered().await;
    assert!(world.lease("w").await.is_ok());
    // A job that finds its container dead gets another.
    drop(world.lease("c").await.unwrap());
    *world.docker.named(cold).unwrap().runner().health.lock().unwrap() = "ERROR";
    assert!(world.lease("c").await.is_ok());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loading_that_never_ends_is_given_up() {
    let docker = Docker::start(&[LATEST]).await;
    docker.fates([Fate::Says("LOADING")]);
    let timings = Timings { loading: Duration::from_millis(50), ..TIMINGS };
    let world = World::with(docker, &[0], 1, json!([t2i("m", true)]), timings).await;
    let why = world.down(0).await;
    assert!(why.contains("did not load its model"), "{why}");
    world.offered().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_images_are_pulled_before_anything_is_offered() {
    let docker = Docker::start(&[]).await;
    docker.registry_has(LATEST);
    let llm = json!({"pipeline": "llm", "model_id": "l"});
    let world = World::start(docker, &[0], 1, json!([t2i("m", false), llm])).await;
    let why = world.down(1).await;
    // Its name, and why it is not to be had: pulling, or what the registry said.
    assert!(why.contains("livepeer/ai-runner:llm"), "{why}");
    let mut states = world.pool.watch();
    let first = states.wait_for(|all| matches!(all[0], State::OnDemand(_)));
    expect("offer", first).await.unwrap();
    until("the registry's word", || async { world.down(1).await.contains("manifest unknown") })
        .await;
    assert!(world.docker.pulled().contains(&LATEST.to_owned()));
    assert!(world.lease("m").await.is_ok());
    world.stop().await;
}

/// The whole worker: a job starts the container that does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_for_a_cold_model_through_the_whole_worker() {
    let docker = Docker::start(&[LATEST]).await;
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("aiModels.json");
    std::fs::write(&models, json!([t2i("m/1", false)]).to_string()).unwrap();
    let mut orchestrator = Orchestrator::start().await;
    let flags = [
        format!("--models-file={}", models.display()),
        format!("--docker-host={}", docker.host()),
        "--max-sessions=0".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let worker = Worker::start(&orchestrator, &flags).await;
    let ai = orchestrator.ai_worker().await;
    let offered = ai.request.capabilities.as_ref().unwrap();
    let offered = penstock_wire::capabilities::read(offered).unwrap();
    let model = offered.model(T2I, "m/1").unwrap();
    assert_eq!((model.warm, model.capacity), (false, 1));
    worker.becomes_ready().await;
    assert!(docker.boxes().is_empty());

    let request = json!({"input_url": "", "request": {"model_id": "m/1", "prompt": "a cat"}});
    let data = net::AiJobData {
        pipeline: "text-to-image".into(),
        request_data: request.to_string().into_bytes(),
    };
    ai.jobs
        .send(Ok(net::NotifyAiJob { ai_job_data: Some(data), task_id: 7, ..Default::default() }))
        .unwrap();
    let posted = orchestrator.result().await;
    assert_eq!(posted.header("taskid"), "7");
    let parts = posted.parts().await;
    assert_eq!(parts[0].0["content-type"], "image/png");
    let made = docker.named("text-to-image_m-1_8000").unwrap();
    let owner = made.body["Labels"]["creator_id"].as_str().unwrap();
    assert!(owner.ends_with(&format!("@{}", orchestrator.addr)), "{owner}");
    assert_eq!(made.runner().jobs.lock().unwrap().len(), 1);
    worker.stop().await;
    assert!(docker.boxes().is_empty(), "they go with the worker");
}

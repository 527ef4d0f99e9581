//! A network on this machine, for whoever names no target: gateways behind the load balancer, a signer, up to a
//! thousand simulated orchestrators in this process, and what live runners and channels need. It starts what
//! a scenario needs, and ends with its value.

use super::{
    scenario::{Ai, NetworkPlan, Pipeline, Scenario, Work},
    target::{self, Role, Target},
};
use crate::{
    fleet::{self, Fleet, Stores},
    orchestrator_bench::{node::Node, runner::Stage},
    rig::{self, Rig},
};
use axum::{Router, body::Bytes, routing::get};
use penstock_domain::Capability;
use penstock_testkit::{
    sim::{Server, orchestrator::SimModel, orchestrator::Terms},
    until_ok,
};
use reqwest::Url;
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where clients find the live runner, and dollars for an hour of it.
const RUNNER: &str = "echo";
const RUNNER_USD: &str = "0.000000144";
const USD_PER_ETHER: u64 = 2_000;
/// One ticket in so many wins.
const TICKETS_A_WINNER: u64 = 40;

/// What is started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of the roles' programs.
    pub programs: PathBuf,
    /// The scenario's own wishes.
    pub network: NetworkPlan,
    /// What is loaded.
    pub roles: BTreeSet<Role>,
    /// Models that jobs name, and for what.
    pub models: Vec<(Capability, String)>,
    /// Channels.
    pub channels: usize,
    /// Further flags of gateways.
    pub gateway_flags: Vec<String>,
}

impl Plan {
    /// For these scenarios, one after the other; the first one's wishes count.
    pub fn of(programs: &Path, scenarios: &[&Scenario]) -> Self {
        let works = || scenarios.iter().flat_map(|one| &one.loads).map(|load| &load.work);
        let model = |ai: &Ai| {
            let capability = match ai.pipeline {
                Pipeline::AudioToText => Capability::AudioToText,
                Pipeline::TextToImage => Capability::TextToImage,
                Pipeline::Llm => Capability::Llm,
            };
            (capability, ai.model.clone())
        };
        let mut models: Vec<(Capability, String)> = Vec::new();
        let mut channels = 0;
        for work in works() {
            match work {
                Work::Ai(ai) if !models.contains(&model(ai)) => models.push(model(ai)),
                Work::Trickle(trickle) => channels = channels.max(trickle.channels),
                _ => {}
            }
        }
        Self {
            programs: programs.to_owned(),
            network: scenarios.first().map(|one| one.network.clone()).unwrap_or_default(),
            roles: scenarios.iter().flat_map(|one| target::needs(one)).collect(),
            models,
            channels,
            gateway_flags: Vec::new(),
        }
    }
}

/// What runs. Everything ends with it.
pub struct Network {
    /// Where everything is.
    pub target: Target,
    /// Gateways, signer, simulated orchestrators.
    pub fleet: Option<Fleet>,
    /// Signer and simulated orchestrators alone.
    pub rig: Option<Rig>,
    /// A live runner's, on a chain of its own.
    runner: Option<Runner>,
    /// Channels'.
    _stage: Option<Stage>,
}

/// A live runner at a real orchestrator, and who pays it. On a chain of its own: gateways do not find it there.
struct Runner {
    node: Node,
    _application: Server,
    // Last: the others lean on it.
    rig: Rig,
}

impl Network {
    /// Starts what is needed and waits until it is ready for work.
    pub async fn start(plan: &Plan) -> Self {
        let needs = |role| plan.roles.contains(&role);
        let mut target = Target::default();
        let mut put = |role, url: String| {
            target.put(role, Url::parse(&url).expect("our own address")).expect("one of each");
        };
        let (mut fleet, mut rig) = (None, None);
        if needs(Role::Gateway) {
            let started = gateways(plan).await;
            put(Role::Gateway, started.url());
            put(Role::Rtmp, format!("rtmp://{}/live", started.balancer.rtmp));
            fleet = Some(started);
        } else if needs(Role::Orchestrator) {
            rig = Some(payees(plan).await);
        }
        let paid = fleet.as_ref().map(|fleet| &fleet.rig).or(rig.as_ref());
        if let Some(rig) = paid {
            for simulated in &rig.orchestrators {
                put(Role::Orchestrator, simulated.uri());
            }
        }
        let runner = if needs(Role::LiveRunner) { Some(live_runner(plan).await) } else { None };
        if let Some(runner) = &runner {
            put(Role::LiveRunner, format!("{}/apps/{RUNNER}/session", runner.node.service));
        }
        // A live runner's signer pays on the chain where the runner is.
        match (&runner, paid) {
            (Some(runner), _) if !needs(Role::Orchestrator) => put(Role::Signer, runner.rig.url(0)),
            (_, Some(rig)) => put(Role::Signer, rig.url(0)),
            _ => {}
        }
        let mut stage = None;
        if needs(Role::Trickle) {
            let started = Stage::with(&plan.programs, None, &[]).await;
            for name in started.make(plan.channels).await {
                put(Role::Trickle, format!("http://{}/ai/trickle/{name}", started.host));
            }
            stage = Some(started);
        }
        let mut pages: Vec<String> = Vec::new();
        let of = |process: &penstock_testkit::Process| process.addr("metrics");
        pages.extend(fleet.iter().flat_map(|fleet| fleet.gateways.iter().map(of)));
        pages.extend(paid.into_iter().flat_map(|rig| rig.replicas.iter().map(of)));
        pages.extend(runner.iter().map(|runner| of(&runner.node.process)));
        pages.extend(runner.iter().flat_map(|runner| runner.rig.replicas.iter().map(of)));
        pages.extend(stage.iter().map(|stage| of(&stage.node.process)));
        let url =
            |page: String| Url::parse(&format!("http://{page}/metrics")).expect("our own address");
        target.metrics = pages.into_iter().map(url).collect();
        Self { target, fleet, rig, runner, _stage: stage }
    }

    /// The same with a live runner's own signer, for loads of live runners beside loads of payments.
    pub fn target_of(&self, work: &Work) -> Target {
        match (&self.runner, work) {
            (Some(runner), Work::LiveRunner(_)) => {
                self.target.with_signer(Url::parse(&runner.rig.url(0)).expect("our own address"))
            }
            _ => self.target.clone(),
        }
    }
}

/// Gateways behind the balancer, with everything that they lean on.
async fn gateways(plan: &Plan) -> Fleet {
    let mut gateway_flags = vec!["--log-level=warn".to_owned()];
    gateway_flags.extend(plan.gateway_flags.iter().cloned());
    let fleet = Fleet::start(&fleet::Plan {
        programs: plan.programs.clone(),
        postgres: None,
        signers: 1,
        gateways: plan.network.gateways,
        stores: Stores::Redis,
        simulated: plan.network.orchestrators,
        real: plan.network.transcoder,
        gateway_flags,
    })
    .await;
    furnish(plan, &fleet.rig);
    if let Some(transcoder) = &fleet.transcoder {
        transcoder.ready().await;
    }
    for (capability, model) in &plan.models {
        serves(&fleet, *capability, model).await;
    }
    fleet
}

/// Signer and simulated orchestrators.
async fn payees(plan: &Plan) -> Rig {
    let rig = Rig::start(&rig::Plan {
        signer: plan.programs.join("penstock-signer"),
        ledger: None,
        replicas: 1,
        orchestrators: plan.network.orchestrators,
        core: None,
        flags: Vec::new(),
        key: None,
    })
    .await;
    for simulated in &rig.orchestrators {
        let mut terms = simulated.terms.lock().unwrap();
        *terms = Terms { ticket_ev_wei: fleet::TICKET_EV_WEI, ..terms.clone() };
    }
    furnish(plan, &rig);
    rig
}

/// What simulated orchestrators have, and how far away they are.
fn furnish(plan: &Plan, rig: &Rig) {
    for simulated in &rig.orchestrators {
        for (capability, model) in &plan.models {
            if *capability != Capability::AudioToText {
                simulated.ai.has(SimModel::new(*capability, model));
            }
        }
        let latency = plan.network.orchestrator_latency_ms;
        if latency > 0 {
            simulated.faults.set_latency(Duration::from_millis(latency));
        }
    }
}

/// Waits until every gateway has found orchestrators for a job.
async fn serves(fleet: &Fleet, capability: Capability, model: &str) {
    for number in 0..fleet.gateways.len() {
        let url = fleet.gateway_url(number);
        until_ok(&format!("gateway {} does a job of {capability:?}", number + 1), || async {
            let request = match capability {
                Capability::Llm => fleet.http.post(format!("{url}/llm")).json(&json!({
                    "model": model, "stream": false, "max_tokens": 1,
                    "messages": [{"role": "user", "content": "Say hello."}],
                })),
                Capability::TextToImage => {
                    let body =
                        json!({"prompt": "a kite", "model_id": model, "width": 64, "height": 64});
                    fleet.http.post(format!("{url}/text-to-image")).json(&body)
                }
                _ => {
                    let wav = reqwest::multipart::Part::bytes(crate::gateway_chaos::wav(1));
                    let wav = wav.file_name("a.wav").mime_str("audio/wav").unwrap();
                    let form = reqwest::multipart::Form::new().part("audio", wav);
                    fleet.http.post(format!("{url}/audio-to-text")).multipart(form)
                }
            };
            let answer = request.send().await.map_err(|error| error.to_string())?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(format!("{status} {}", answer.text().await.unwrap_or_default())),
            }
        })
        .await;
    }
}

/// A live runner that sends back what it got, sold by the second.
async fn live_runner(plan: &Plan) -> Runner {
    let rig = Rig::start(&rig::Plan {
        signer: plan.programs.join("penstock-signer"),
        ledger: None,
        replicas: 1,
        orchestrators: 0,
        core: None,
        flags: vec!["--chain-poll-ms=200".to_owned()],
        key: None,
    })
    .await;
    let router =
        Router::new().route("/health", get(async || "ok")).fallback(async |body: Bytes| body);
    let application = Server::clear(router).await;
    let runner = json!({
        "label": RUNNER, "routing": "label", "app": "load/echo", "capacity": 10_000,
        "runner_url": application.uri, "health_url": "/health",
        "price_info": {"price": RUNNER_USD, "unit": "hour"},
    });
    let list = rig.scratch().join("runners.json");
    fs::write(&list, json!({ "runners": [runner] }).to_string()).expect("a list of runners");
    let flags = vec![
        format!("--ticket-ev={}", fleet::TICKET_EV_WEI),
        format!("--max-face-value={}", fleet::TICKET_EV_WEI * TICKETS_A_WINNER),
        "--price-per-unit=1".to_owned(),
        format!("--live-runner-config={}", list.display()),
        format!("--eth-usd={USD_PER_ETHER}"),
        "--chain-poll-ms=200".to_owned(),
    ];
    let node = Node::onchain(&plan.programs, None, &rig.chain, "sqlite", flags).await;
    let url = format!("{}/discovery", node.service);
    let http = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    let http = http.timeout(Duration::from_secs(30)).build().expect("a client");
    until_ok("the live runner is offered", || async {
        let answer = http.get(&url).send().await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if text.contains(RUNNER) && text.contains("price_info") { Ok(()) } else { Err(text) }
    })
    .await;
    Runner { node, _application: application, rig }
}

//! A whole deployment on this machine: gateways behind `deploy/haproxy.cfg`, Redis with two replicas and
//! Sentinel, signers on one ledger, simulated orchestrators, and one real orchestrator with its
//! worker. Everything listens on a loopback address of the fleet's own, so that a process that is
//! started again finds its port free.

mod balancer;
mod redis;
mod worker;

pub use balancer::Balancer;
pub use redis::{Notice, Redis};
pub use worker::Transcoder;

use crate::rig::{self, Rig};
use penstock_testkit::{Process, Spec, sim::orchestrator::Terms, until_ok};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

/// What a ticket is worth here: a few pay for a small segment, so that money moves all the time.
pub const TICKET_EV_WEI: u64 = 100_000;
/// The speech model that simulated orchestrators have.
pub const MODEL: &str = "openai/whisper-tiny.en";

/// Where gateways keep what outlives a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    /// In the process: for one gateway.
    Memory,
    /// In a Redis with two replicas and Sentinel.
    Redis,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of the roles' programs.
    pub programs: PathBuf,
    /// A PostgreSQL database of the run's own, or `None`: one signer on SQLite.
    pub postgres: Option<String>,
    /// Signers on it.
    pub signers: usize,
    /// Gateways.
    pub gateways: usize,
    /// Their stores.
    pub stores: Stores,
    /// Simulated orchestrators.
    pub simulated: usize,
    /// Also a real orchestrator with a worker.
    pub real: bool,
    /// Further flags of every gateway.
    pub gateway_flags: Vec<String>,
}

/// A running fleet. Everything ends with it.
#[derive(Debug)]
pub struct Fleet {
    /// The gateways.
    pub gateways: Vec<Process>,
    /// What stands before them.
    pub balancer: Balancer,
    /// Their store, if it is Redis.
    pub redis: Option<Redis>,
    /// The real orchestrator.
    pub transcoder: Option<Transcoder>,
    /// Signers, chain, simulated orchestrators.
    pub rig: Rig,
    /// A client whose every request has a connection of its own.
    pub http: reqwest::Client,
}

/// A loopback address that nothing else on this machine uses.
pub fn own_host() -> Ipv4Addr {
    let [a, b]: [u8; 2] = rand::random();
    Ipv4Addr::new(127, a.max(2), b, 1 + (rand::random::<u8>() % 250))
}

/// A port that is free there, and stays so: below those that the system gives to connections and to
/// whoever asks for any, and each given once.
pub fn free_port(host: Ipv4Addr) -> SocketAddr {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random()));
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let first = first.and_then(|range| range.split_whitespace().next()?.parse::<u16>().ok());
    let below = first.unwrap_or(32_768).max(4_096);
    for _ in 0..below {
        let port = below / 2 + next.fetch_add(1, Ordering::Relaxed) % (below / 2);
        if TcpListener::bind((host, port)).is_ok() {
            return SocketAddr::from((host, port));
        }
    }
    panic!("no port is free at {host}");
}

/// A client whose every request has a connection of its own, on the account of this key.
pub fn http(key: Option<&str>) -> reqwest::Client {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let bearer = HeaderValue::from_str(&format!("Bearer {key}"));
        headers.insert(AUTHORIZATION, bearer.expect("keys are printable"));
    }
    reqwest::Client::builder()
        .no_proxy()
        .default_headers(headers)
        .pool_max_idle_per_host(0)
        .timeout(std::time::Duration::from_secs(120))
        .build()
        .expect("a client")
}

impl Fleet {
    /// Starts everything and waits until each gateway is ready and the balancer knows it.
    pub async fn start(plan: &Plan) -> Self {
        let rig = Rig::start(&rig::Plan {
            signer: plan.programs.join("penstock-signer"),
            ledger: plan.postgres.clone(),
            replicas: plan.signers,
            orchestrators: plan.simulated,
            core: None,
            // What is new on the chain is wanted at once.
            flags: vec![
                "--chain-poll-ms=200".to_owned(),
                "--discovery-interval-ms=1000".to_owned(),
            ],
            key: None,
        })
        .await;
        for simulated in &rig.orchestrators {
            let mut terms = simulated.terms.lock().unwrap();
            *terms =
                Terms { ticket_ev_wei: TICKET_EV_WEI, model: MODEL.to_owned(), ..terms.clone() };
        }
        let host = own_host();
        let logs = rig.scratch().join("logs");
        let transcoder = match plan.real {
            true => Some(Transcoder::start(&plan.programs, host, &rig).await),
            false => None,
        };
        let redis = match plan.stores {
            Stores::Redis => Some(Redis::start(host, &rig.scratch().join("redis")).await),
            Stores::Memory => None,
        };
        let mut balancer = Balancer::new(host, &logs);
        let mut gateways = Vec::new();
        for number in 1..=plan.gateways {
            let mut args = vec![
                format!("--http-addr={host}:0"),
                format!("--rtmp-addr={host}:0"),
                format!("--admin-addr={host}:0"),
                format!("--metrics-addr={host}:0"),
                "--addr-file={addr_file}".to_owned(),
                format!("--signer-url=http://{}", balancer.signers),
                format!("--default-model=audio-to-text={MODEL}"),
                "--discovery-interval-ms=1000".to_owned(),
                "--drain-timeout-ms=30000".to_owned(),
            ];
            if let Some(redis) = &redis {
                args.extend(redis.gateway_flags());
            }
            for flag in &plan.gateway_flags {
                // In the place of what stands there for all.
                let name = flag.split('=').next().unwrap_or(flag);
                args.retain(|arg| arg.split('=').next() != Some(name));
                args.push(flag.clone());
            }
            let spec = Spec {
                name: format!("gateway-{number}"),
                program: plan.programs.join("penstock-gateway"),
                args,
                env: BTreeMap::new(),
            };
            let mut gateway = Process::start(spec, &logs).await;
            gateway.keep_addresses();
            gateways.push(gateway);
        }
        let places = |of: &str| gateways.iter().map(|g| g.addr(of)).collect::<Vec<String>>();
        let signers: Vec<String> = rig.replicas.iter().map(|signer| signer.addr("http")).collect();
        let (for_http, for_rtmp) = (places("http"), places("rtmp"));
        balancer.start((for_http.as_slice(), for_rtmp.as_slice()), &signers).await;
        let http = http(None);
        let mut fleet = Self { gateways, balancer, redis, transcoder, rig, http };
        for signer in &mut fleet.rig.replicas {
            signer.keep_addresses();
        }
        for number in 0..plan.gateways {
            fleet.gateway_serves(number).await;
        }
        fleet
    }

    /// Waits until a gateway is ready and the balancer sends it work.
    pub async fn gateway_serves(&self, number: usize) {
        let url = format!("http://{}/readyz", self.gateways[number].addr("http"));
        until_ok(&format!("gateway {} is ready", number + 1), || async {
            let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
            if answer.status().is_success() {
                return Ok(());
            }
            Err(answer.text().await.unwrap_or_default())
        })
        .await;
        self.balancer.knows(&self.http, &format!("gateway-{}", number + 1)).await;
    }

    /// Where applications come in.
    pub fn url(&self) -> String {
        format!("http://{}", self.balancer.http)
    }

    /// One gateway, past the balancer.
    pub fn gateway_url(&self, number: usize) -> String {
        format!("http://{}", self.gateways[number].addr("http"))
    }
}

//! All of it together and again, against a process whose open files and memory are counted, and who
//! pays is served beside it and after it.

use super::{begun, fields, frame, heard, http2};
use crate::{
    payer::{Headers, Payer, answer, empty, post},
    runner_app::App,
    runners::{ON, beat, read, said},
    world::{SECRET, World},
};
use futures::{StreamExt as _, future::join_all, stream::iter};
use penstock_domain::Rational;
use penstock_testkit::{until, until_ok};
use penstock_wire::net;
use serde_json::Value;

/// What a wave leaves behind may be this much larger than what the first one left, KiB.
const SLACK_KIB: u64 = 24 * 1024;

/// Connections to the chain that the process keeps for a while: as many as payments were looked at at once.
/// A wave leaves more than that if its own stay.
const KEPT: usize = 100;

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

struct Siege {
    world: World,
    payer: Payer,
    info: net::OrchestratorInfo,
    paid: Headers,
}

impl Siege {
    /// Connections that stay until the server has had enough.
    async fn waits(&self) {
        let service = &self.world.service;
        let half = [http2(None), frame(1, 0, 1, &fields("/healthz"))].concat();
        let unread = [http2(Some(0)), frame(1, 5, 1, &fields("/discovery"))].concat();
        let begin = [
            b"".to_vec(),
            b"GET /healthz HTTP/1.1\r\nX-Slow: ".to_vec(),
            b"POST /refresh-payment HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\nx".to_vec(),
            half,
            unread,
        ];
        let mut waiting = Vec::new();
        for _ in 0..25 {
            for said in &begin {
                waiting.push(heard(begun(service, said).await));
            }
        }
        join_all(waiting).await;
    }

    /// Payments that are none.
    async fn lies(&self) {
        let mut forged = self.payer.payment(&self.info, &[7]).await;
        forged.tickets[0].sig[3] ^= 1;
        let forged = self.payer.headers(&forged, &empty(&self.info, "manifest")).await;
        let broken = Headers { payment: "A".repeat(5000), segment: "!".into() };
        let all = [&forged, &self.paid, &broken];
        let asked = (0..150).map(|n| answer(post(&self.world, "/payment", all[n % 3])));
        let mut asked = iter(asked).buffer_unordered(16);
        while let Some((status, said)) = asked.next().await {
            assert!((400..=403).contains(&status), "{status} {said}");
        }
    }

    /// Sessions that nobody pays, runners that are none, places that are nowhere.
    async fn noise(&self) {
        let http = &self.world.http;
        let service = &self.world.service;
        let nobody = self.payer.signer.address().to_string();
        let asked = (0..300).map(|n| {
            let url = |path: &str| format!("{service}{path}");
            read(match n % 6 {
                0 | 1 => {
                    http.post(url("/apps/r/session")).header("Livepeer-Payer-Address", &nobody)
                }
                2 => http.post(url("/runners/heartbeat")).header("Authorization", "x").body("{}"),
                3 => http.get(url(&format!("/apps/r/session/{n}/app/..%2f..%2fx"))),
                4 => http.get(url(&format!("/ai/trickle/{n}/-1"))),
                _ => http.post(url("/live-video-to-video")).body("{"),
            })
        });
        let mut asked = iter(asked).buffer_unordered(16);
        while let Some((status, said)) = asked.next().await {
            assert!((400..=404).contains(&status), "{status} {said}");
        }
    }

    async fn wave(&self) {
        tokio::join!(self.waits(), self.lies(), self.noise());
    }

    /// Pays with a ticket of this nonce, by a connection of its own.
    async fn pays(&self, nonce: u32) {
        let payment = self.payer.payment(&self.info, &[nonce]).await;
        let headers = self.payer.headers(&payment, &empty(&self.info, "manifest")).await;
        assert_eq!(answer(post(&self.world, "/payment", &headers)).await.0, 200);
    }

    async fn tickets(&self) -> Value {
        self.world.operator("/v1/summary").await["tickets"].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_outlives_all_of_it_and_keeps_nothing() {
    let settings = [
        "--service-addr=http://127.0.0.1:0",
        "--peer-greeting-ms=4000",
        "--peer-pause-ms=4000",
        "--peer-stall-ms=4000",
        "--peer-idle-ms=6000",
        "--max-connections=300",
    ];
    let mut world = World::process(1000, &[&ON[..], &settings].concat()).await;
    let app = App::start().await;
    assert_eq!(beat(&world, SECRET, &said("r", &app.url())).await.0, 200);
    // Whatever is asked has a connection of its own: those that wait too long are let go.
    world.http = crate::world::client().pool_max_idle_per_host(0).build().unwrap();
    let payer = Payer::funded(&world).await;
    let info = until_ok("there is an offer", || async {
        payer.info(&world, None).await.map_err(|error| error.to_string())
    })
    .await;
    let payment = payer.payment(&info, &[1]).await;
    let paid = payer.headers(&payment, &empty(&info, "manifest")).await;
    assert_eq!(answer(post(&world, "/payment", &paid)).await.0, 200);
    let pid = world.pid();
    let siege = Siege { world, payer, info, paid };

    let files = open_files(pid);
    siege.wave().await;
    siege.pays(2).await;
    until("the first wave's files are closed", || async { open_files(pid) <= files + KEPT }).await;
    let memory = rss_kib(pid);
    siege.wave().await;
    siege.pays(3).await;
    until("all files are closed", || async { open_files(pid) <= files + KEPT }).await;
    assert!(rss_kib(pid) <= memory + SLACK_KIB, "{} KiB after {memory} KiB", rss_kib(pid));
    // The same process, and in its books is what was paid.
    assert_eq!(siege.world.pid(), pid);
    assert_eq!(siege.tickets().await, 3);
    assert_eq!(siege.world.operator("/v1/runner-sessions").await, serde_json::json!([]));
    let summary = siege.world.operator("/v1/summary").await;
    let credited: Rational = summary["credited_wei"].as_str().unwrap().parse().unwrap();
    assert_eq!(summary["balance_wei"].as_str().unwrap().parse::<Rational>().unwrap(), credited);
    drop(app);
}

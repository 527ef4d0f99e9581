//! A film in consecutive segments of two seconds, each pushed through gateway, orchestrator and worker, and
//! each transcoded by a bare ffmpeg besides, whose command line is the one that the worker really ran.

use super::{Settings, node, node::Node};
use crate::{
    cpu, fleet,
    rig::{self, Rig},
};
use penstock_testkit::{Process, media, places, until_ok};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// Wei that a ticket is worth: one pays for a few segments at the price below.
const TICKET_EV_WEI: u64 = 100_000;
/// The film lasts 5.3 s; so often it is played for each three segments.
const SEGMENTS_A_ROUND: usize = 2;
/// Three renditions of a film of 1280×720.
const LADDER: [(u32, u32, u32); 3] =
    [(854, 480, 1_600_000), (640, 360, 800_000), (426, 240, 400_000)];

/// How long segments took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Segments {
    /// Renditions, `854x480`…
    pub ladder: Vec<String>,
    /// The worker's command line, which is also the bare one's.
    pub command: Vec<String>,
    /// Through gateway, orchestrator and worker, each segment, ms.
    pub through_ms: Vec<f64>,
    /// The bare ffmpeg, each segment, ms.
    pub bare_ms: Vec<f64>,
    /// The medians, ms.
    pub through_p50_ms: f64,
    /// The same of the bare ffmpeg.
    pub bare_p50_ms: f64,
    /// One through the other.
    pub ratio: f64,
    /// Processor time of a segment, ms: the gateway's, the orchestrator's, the worker's without ffmpeg's.
    pub cpu_ms_each: [f64; 3],
}

impl Segments {
    /// A line for people.
    pub(super) fn describe(&self) -> String {
        format!(
            "a segment: {:.1} ms, by bare ffmpeg {:.1} ms, {:.3} of it; processor time of gateway, \
             orchestrator, worker {:.1?} ms",
            self.through_p50_ms, self.bare_p50_ms, self.ratio, self.cpu_ms_each
        )
    }
}

/// The whole way, running.
struct Way {
    gateway: Process,
    worker: Process,
    node: Node,
    http: reqwest::Client,
    // Last: the others lean on it.
    rig: Rig,
}

impl Way {
    async fn start(settings: &Settings) -> Self {
        let rig = Rig::start(&rig::Plan {
            signer: settings.programs.join("penstock-signer"),
            ledger: None,
            replicas: 1,
            orchestrators: 0,
            core: None,
            flags: ["--chain-poll-ms=200", "--discovery-interval-ms=1000"]
                .map(str::to_owned)
                .into(),
            key: None,
        })
        .await;
        let mut flags = vec![
            format!("--ticket-ev={TICKET_EV_WEI}"),
            format!("--max-face-value={}", TICKET_EV_WEI * 4),
            "--price-per-unit=1".to_owned(),
            "--pixels-per-unit=1000".to_owned(),
        ];
        flags.extend(settings.flags.iter().cloned());
        let node = Node::onchain(&settings.programs, None, &rig.chain, "sqlite", flags).await;
        let work = node.scratch().join("work");
        fs::create_dir_all(&work).expect("a folder");
        let args = vec![
            format!("--orchestrator={}", node.service),
            format!("--secret-file={}", node.secret_file().display()),
            format!("--work-dir={}", work.display()),
            "--metrics-addr=127.0.0.1:0".to_owned(),
            "--addr-file={addr_file}".to_owned(),
            "--nvidia=none".to_owned(),
        ];
        let program = settings.programs.join("penstock-worker");
        let worker = node::pinned("worker", None, program, args, node.scratch()).await;
        let args = vec![
            "--http-addr=127.0.0.1:0".to_owned(),
            "--admin-addr=127.0.0.1:0".to_owned(),
            "--metrics-addr=127.0.0.1:0".to_owned(),
            "--addr-file={addr_file}".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--signer-url={}", rig.url(0)),
            "--discovery-interval-ms=1000".to_owned(),
            // Nothing is given up here, however slow the machine: what takes long is seen in the figures.
            "--segment-head-timeout-ms=15000".to_owned(),
            "--payment-timeout-ms=15000".to_owned(),
            "--orchestrator-ping-ms=15000".to_owned(),
            "--signer-timeout-ms=10000".to_owned(),
            "--segment-hedge-after-ms=0".to_owned(),
        ];
        let program = settings.programs.join("penstock-gateway");
        let gateway = node::pinned("gateway", None, program, args, node.scratch()).await;
        Self { gateway, worker, node, http: fleet::http(None), rig }
    }

    /// Pushes a segment; when its renditions are here, its time in ms.
    async fn push(&self, number: usize, segment: &[u8]) -> Result<f64, String> {
        let profiles: Vec<serde_json::Value> = LADDER
            .iter()
            .map(|(width, height, bitrate)| {
                serde_json::json!({
                    "name": name(*width, *height), "width": width, "height": height,
                    "bitrate": bitrate, "fps": 0,
                })
            })
            .collect();
        let configuration = serde_json::json!({ "profiles": profiles }).to_string();
        let url = format!("http://{}/live/bench/{number}.ts", self.gateway.addr("http"));
        let request = self
            .http
            .put(url)
            .header("Accept", "multipart/mixed")
            .header("Content-Duration", "2000")
            .header("Livepeer-Transcode-Configuration", configuration)
            .body(segment.to_vec());
        let began = Instant::now();
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        let took = ms(began);
        if !status.is_success() {
            return Err(format!("{status} {}", String::from_utf8_lossy(&body)));
        }
        let text = String::from_utf8_lossy(&body);
        let missing =
            LADDER.iter().find(|(width, height, _)| !text.contains(&name(*width, *height)));
        match missing {
            None => Ok(took),
            Some(rendition) => Err(format!("no rendition {rendition:?}")),
        }
    }

    fn pids(&self) -> [u32; 3] {
        [self.gateway.pid(), self.node.pid(), self.worker.pid()]
    }
}

/// So many segments each way, in turn.
pub(super) async fn measure(settings: &Settings, count: usize) -> Segments {
    let way = Way::start(settings).await;
    let folder = way.rig.scratch().join("film");
    fs::create_dir_all(&folder).expect("a folder");
    let rounds = (count + 2).div_ceil(SEGMENTS_A_ROUND) + 1;
    let files = media::cut_into_segments(&places::film(), rounds, &folder);
    assert!(files.len() > count + 2, "{} segments of {rounds} rounds", files.len());
    // The first shows the worker's command line; the second finds everything warm.
    let first = fs::read(&files[0]).unwrap();
    let watching = tokio::spawn(command_of(way.worker.pid()));
    until_ok("the first segment is transcoded", || async { way.push(0, &first).await }).await;
    let command = watching.await.expect("the worker's ffmpeg is seen");
    way.push(1, &fs::read(&files[1]).unwrap()).await.expect("the second segment");
    let (bare, mut through_ms, mut bare_ms) = (folder.join("bare"), Vec::new(), Vec::new());
    fs::create_dir_all(&bare).expect("a folder");
    alone(&command, &files[1], &bare).await;
    let before = way.pids().map(cpu::cpu_time);
    for (number, file) in files.iter().enumerate().skip(2).take(count) {
        let segment = fs::read(file).unwrap();
        bare_ms.push(alone(&command, file, &bare).await);
        through_ms.push(way.push(number, &segment).await.expect("a segment"));
    }
    let mut cpu_ms_each = [0.0; 3];
    for (used, (pid, before)) in cpu_ms_each.iter_mut().zip(way.pids().into_iter().zip(before)) {
        *used = cpu::cpu_time(pid).since(before).seconds() * 1_000.0 / count as f64;
    }
    let (through_p50_ms, bare_p50_ms) = (median(&through_ms), median(&bare_ms));
    Segments {
        ladder: LADDER.iter().map(|(width, height, _)| name(*width, *height)).collect(),
        command,
        through_ms,
        bare_ms,
        through_p50_ms,
        bare_p50_ms,
        ratio: through_p50_ms / bare_p50_ms,
        cpu_ms_each,
    }
}

/// The same command line over the same segment; its time in ms.
async fn alone(command: &[String], segment: &Path, folder: &Path) -> f64 {
    fs::copy(segment, folder.join("input")).expect("a copy of the segment");
    let began = Instant::now();
    let mut ffmpeg = tokio::process::Command::new(&command[0]);
    ffmpeg.args(&command[1..]).current_dir(folder).kill_on_drop(true);
    ffmpeg.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = ffmpeg.status().await.expect("ffmpeg runs");
    let took = ms(began);
    assert!(status.success(), "{command:?}: {status}");
    took
}

/// The command line of the ffmpeg that a worker starts, as soon as it does.
async fn command_of(worker: u32) -> Vec<String> {
    loop {
        for child in children(worker) {
            let line = fs::read(child.join("cmdline")).unwrap_or_default();
            let line: Vec<String> = line
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            let program = Path::new(&line[0]).file_name();
            // What holds it becomes it, by exec.
            if program.is_some_and(|name| name == "ffmpeg")
                && line.iter().any(|w| w == "file:input")
            {
                return line[..line.len() - 1].to_vec();
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The folders in `/proc` of a process's children.
fn children(parent: u32) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_child = |folder: &PathBuf| {
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        // pid (name) state parent
        let after = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().nth(1).map(str::to_owned));
        after.flatten().and_then(|pid| pid.parse().ok()) == Some(parent)
    };
    all.map(|entry| entry.path()).filter(is_child).collect()
}

fn name(width: u32, height: u32) -> String {
    format!("{width}x{height}")
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

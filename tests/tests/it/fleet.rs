//! Three gateways behind the load balancer's own file, Redis with its replica, two signers on one
//! PostgreSQL: the short form of `cargo xtask chaos gateway`, and what replicas must have in common.

use std::{collections::BTreeMap, sync::Arc};

use penstock_loadtest::{
    fleet::{Fleet, Plan, Stores},
    gateway_chaos::{self, Act, Pusher, Settings, Tally},
    machine::Origin,
};
use penstock_testkit::{figure, media, places, postgres, until_ok};

use crate::{network::PATIENT, playback::Browser};

/// Decides what is broken in which order.
const SEED: u64 = 20_261_121;
const SEGMENTS: u64 = 60;
const CLIENTS: usize = 16;

fn programs() -> std::path::PathBuf {
    places::binary("penstock-gateway").parent().unwrap().to_owned()
}

/// What is silent on purpose is found a little sooner than a busy machine is patient.
fn gateway_flags() -> Vec<String> {
    let patient = PATIENT.map(str::to_owned).into_iter();
    patient.chain(["--orchestrator-ping-ms=4000".to_owned()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_die_lose_no_segment_no_job_and_no_wei() {
    let books = postgres::database().await;
    let acts = Act::all(Stores::Redis, true);
    let settings = Settings {
        programs: programs(),
        postgres: Some(books.url().to_owned()),
        gateways: 3,
        stores: Stores::Redis,
        clients: CLIENTS,
        segments: SEGMENTS,
        // Each once, gateways more often.
        kills: acts.iter().filter(|act| act.is_deadly()).count() as u64,
        acts,
        seed: SEED,
        gateway_flags: gateway_flags(),
        long: None,
    };
    let report = gateway_chaos::run(&settings, Origin::here("test", "dev"), |_| ()).await;
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.segments >= SEGMENTS, "{report:?}");
    assert!(report.broken.deaths() <= 20, "{:?}", report.broken);
    assert_eq!(report.rolling.failed, 0);
    assert!(report.rolling.segments > 0 && report.rolling.jobs >= CLIENTS as u64);
    figure(
        "fleet: segments shown once each, AI jobs answered",
        format!("{}, {}", report.segments, report.jobs),
    );
    figure("fleet: processes killed", report.broken.deaths());
    figure(
        "fleet: AI jobs and segments that were done again",
        format!(
            "{}, {}",
            report.books.ai_jobs_done.saturating_sub(report.jobs),
            report.books.segments_done_twice
        ),
    );
    figure(
        "fleet: viewer's wait around an orchestrator's death (ms)",
        format!("{:?}", report.broken.gaps_ms(Act::KillOrchestrator)),
    );
    for (act, effect) in &report.broken.acts {
        figure(&format!("fleet: viewer's wait, {act} (ms)"), format!("{:?}", effect.gaps_ms));
    }
    for act in [Act::KillAiOrchestrator, Act::SilenceAiOrchestrator] {
        let costs = report.broken.costs_ms(act);
        assert!(!costs.is_empty(), "{act} met no job");
        figure(&format!("fleet: what {act} cost each job that met it (ms)"), format!("{costs:?}"));
    }
    figure("fleet: what callers saw", format!("{:?}", report.seen));
    figure(
        "fleet: viewer gap p50, p99, worst (ms)",
        format!(
            "{}, {}, {}",
            report.viewer_gaps.p50_ms, report.viewer_gaps.p99_ms, report.viewer_gaps.worst_ms
        ),
    );
    figure(
        "fleet: wei signed = credited, never delivered",
        format!(
            "{} = {}, {}",
            report.books.signed_ev_wei, report.books.credited_ev_wei, report.books.undelivered_wei
        ),
    );
    figure(
        "fleet: rolling restart, requests failed",
        format!("{} of {}", report.rolling.failed, report.rolling.segments + report.rolling.jobs),
    );
}

/// Segments that take turns over the replicas are one session at one orchestrator: each asked for anew
/// would be another, and so would one that a replica discovered for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_all_replicas_is_one_session() {
    let plan = Plan {
        programs: programs(),
        postgres: None,
        signers: 1,
        gateways: 3,
        stores: Stores::Redis,
        simulated: 3,
        real: false,
        gateway_flags: PATIENT.map(str::to_owned).to_vec(),
    };
    let fleet = Fleet::start(&plan).await;
    let pusher = Pusher {
        http: fleet.http.clone(),
        tally: Arc::new(Tally::new(0)),
        stream: "shared".to_owned(),
        media: gateway_chaos::media(fleet.rig.scratch()),
    };
    gateway_chaos::round_robin(&fleet, &pusher, SHARED).await.unwrap();
    let mut sessions: BTreeMap<String, u64> = BTreeMap::new();
    for sim in &fleet.rig.orchestrators {
        for (session, _) in &sim.seen.lock().unwrap().segments {
            *sessions.entry(session.clone()).or_default() += 1;
        }
    }
    assert_eq!(Vec::from_iter(sessions.values()), [&SHARED], "{sessions:?}");
}

/// Segments of that stream.
const SHARED: u64 = 12;

/// Encoders push RTMP to the balancer's port. What viewers get from its other one plays, and goes on playing
/// when the replica that took it is gone; who pushes then is taken by the one that is left.
#[tokio::test(flavor = "multi_thread")]
async fn encoders_push_rtmp_through_the_balancer() {
    let over_soon = "--stream-idle-ms=15000".to_owned();
    let plan = Plan {
        programs: programs(),
        postgres: None,
        signers: 1,
        gateways: 2,
        stores: Stores::Redis,
        simulated: 0,
        real: true,
        gateway_flags: PATIENT.map(str::to_owned).into_iter().chain([over_soon]).collect(),
    };
    let mut fleet = Fleet::start(&plan).await;
    publish(&fleet, "first").await;
    assert_eq!(played(&fleet, "first").await, FRAMES);
    fleet.gateways[0].kill9();
    publish(&fleet, "second").await;
    assert_eq!(played(&fleet, "second").await, FRAMES);
    assert_eq!(played(&fleet, "first").await, FRAMES);
}

/// Pictures of a rendition, 30 a second, of the film's 132, 25 a second, in segments of 50, 50 and 32.
const FRAMES: usize = 60 + 60 + 38;

/// Pushes the film with a keyframe each second, as fast as it is taken.
async fn publish(fleet: &Fleet, stream: &str) {
    let mut encoder = tokio::process::Command::new("ffmpeg");
    encoder
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(places::film())
        .args(["-vf", "scale=320:180", "-c:v", "libx264", "-preset", "ultrafast"])
        .args(["-g", "25", "-sc_threshold", "0", "-c:a", "aac", "-f", "flv"])
        .arg(format!("rtmp://{}/live/{stream}/key", fleet.balancer.rtmp))
        .kill_on_drop(true);
    let done = encoder.output().await.expect("ffmpeg runs");
    assert!(done.status.success(), "{stream}: {}", String::from_utf8_lossy(&done.stderr));
    until_ok(&format!("the segments of {stream} are finished"), || async {
        let url = format!("{}/api/streams/{stream}", fleet.url());
        let answer = fleet.http.get(&url).send().await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if state["segments"] == 3 { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Plays the first rendition of a stream that is over, to its end; how many pictures it had.
async fn played(fleet: &Fleet, stream: &str) -> usize {
    let master = format!("{}/stream/{stream}.m3u8", fleet.url());
    let list = until_ok(&format!("{stream} is over"), || async {
        let read = async |url: &str| {
            let answer = fleet.http.get(url).send().await.map_err(|error| error.to_string())?;
            answer.text().await.map_err(|error| error.to_string())
        };
        let text = read(&master).await?;
        let mut variants = text.lines().filter(|line| line.contains(".m3u8"));
        let rendition = variants.find(|line| !line.contains("/source.m3u8"));
        let rendition = rendition.ok_or_else(|| text.clone())?;
        let url = reqwest::Url::parse(&master).unwrap().join(rendition).unwrap().to_string();
        let list = read(&url).await?;
        if list.contains("#EXT-X-ENDLIST") { Ok(url) } else { Err(list) }
    })
    .await;
    let mut player = tokio::process::Command::new("ffprobe");
    player
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0"])
        .args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(&list)
        .kill_on_drop(true);
    let said = player.output().await.expect("ffprobe runs");
    assert!(said.stderr.is_empty(), "{list}: {}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8(said.stdout).expect("a number");
    said.lines().next().and_then(|line| line.trim_end_matches(',').parse().ok()).expect("a count")
}

/// A viewer does not notice that a replica dies: what is pushed afterwards is shown.
#[tokio::test(flavor = "multi_thread")]
async fn chromium_plays_through_a_replicas_death() {
    let plan = Plan {
        programs: programs(),
        postgres: None,
        signers: 1,
        gateways: 3,
        stores: Stores::Redis,
        simulated: 0,
        real: true,
        gateway_flags: PATIENT.map(str::to_owned).to_vec(),
    };
    let mut fleet = Fleet::start(&plan).await;
    let folder = fleet.rig.scratch().to_owned();
    let film = media::cut_into_segments(&places::film(), 4, &folder);
    assert!(film.len() > BEFORE, "{} segments", film.len());
    let segments = film.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let pusher = Pusher {
        http: fleet.http.clone(),
        tally: Arc::new(Tally::new(0)),
        stream: "film".to_owned(),
        media: Arc::new(segments),
    };
    for number in 0..BEFORE {
        pusher.push(&fleet.url(), number as u64).await.unwrap();
    }
    let browser = Browser::open(&fleet.http, &folder).await;
    browser.go(&format!("{}/?stream=film", fleet.url())).await;
    browser.watch("the player shows a picture", |video| video.width > 0).await;

    fleet.gateways[0].kill9();
    for number in BEFORE..film.len() {
        pusher.push(&fleet.url(), number as u64).await.unwrap();
    }
    // Further than everything that was there when the replica died.
    let there = 2.0 * BEFORE as f64 + 1.0;
    browser.watch("the film goes on", |video| video.seconds > there).await;
    browser.close().await;
}

/// Segments of two seconds that were pushed before the death.
const BEFORE: usize = 3;

//! AI clients: each posts one job after the other, with a key, and repeats a job whose answer was
//! lost, once, with the same key. Any further loss is a lost job.

use super::{
    Tally,
    asking::{Answer, ask},
    tally::{Job, ms},
};
use penstock_testkit::until::DEADLINE;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// What a client does between two jobs.
const THINKING: Duration = Duration::from_millis(100);
/// Each so many jobs of a client, an answered one is asked again with its key.
const ASKED_AGAIN: u64 = 5;

/// Speech has one second to so many.
pub const LONGEST_S: u64 = 4;
/// How a job is counted whose answer its client did not get.
pub const LOST: &str = "AI jobs whose answer was lost";

/// What clients share.
#[derive(Clone)]
pub struct Load {
    pub http: reqwest::Client,
    pub tally: Arc<Tally>,
    pub gateway: String,
    pub stop: Arc<AtomicBool>,
    /// Distinguishes the keys of two loads.
    pub name: String,
    /// How long jobs of [`LONGEST_S`] take by themselves.
    pub long_job: Duration,
    /// Whether answered jobs are asked again: the same key has to give the same answer.
    pub ask_again: bool,
}

/// Starts as many as the tally counts.
pub fn start(load: &Load) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..load.tally.jobs.len() {
        let load = load.clone();
        tasks.spawn(async move {
            for job in 0.. {
                if load.stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Err(lost) = one(&load, number, job).await {
                    load.tally.violation(format!("client {number}, job {job}: {lost}"));
                }
                load.tally.jobs[number].fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(THINKING).await;
            }
        });
    }
    tasks
}

/// One job, through every interruption.
async fn one(load: &Load, client: usize, job: u64) -> Result<(), String> {
    let seconds = 1 + (client as u64 + job) % LONGEST_S;
    let key = format!("{}-{client}-{job}", load.name);
    let began = Instant::now();
    let trace = format!("{:032x}", rand::random::<u128>().max(1));
    let body = answered(load, seconds, &key, &trace).await?;
    load.tally.jobs_ms.lock().unwrap().push(ms(began.elapsed()));
    let work = if seconds >= LONGEST_S { load.long_job } else { Duration::ZERO };
    load.tally.answered(Job { trace: trace.clone(), began, ended: Instant::now(), work });
    let text = format!("{seconds} seconds of speech");
    if !String::from_utf8_lossy(&body).contains(&text) {
        return Err(format!("another answer: {}", String::from_utf8_lossy(&body)));
    }
    if load.ask_again && job % ASKED_AGAIN == client as u64 % ASKED_AGAIN {
        load.tally.count("AI jobs asked again");
        let again = answered(load, seconds, &key, &trace).await?;
        if again != body {
            return Err("asked again with its key, it has another answer".to_owned());
        }
    }
    Ok(())
}

async fn answered(load: &Load, seconds: u64, key: &str, trace: &str) -> Result<Vec<u8>, String> {
    let began = Instant::now();
    let strict = load.tally.strict.load(Ordering::SeqCst);
    let mut lost: Option<String> = None;
    loop {
        let part = reqwest::multipart::Part::bytes(wav(seconds)).file_name("speech.wav");
        let part = part.mime_str("audio/wav").unwrap();
        let request = load
            .http
            .post(format!("{}/audio-to-text", load.gateway))
            .header("Idempotency-Key", key)
            .header("traceparent", format!("00-{trace}-{:016x}-00", 1))
            .multipart(reqwest::multipart::Form::new().part("audio", part));
        match ask(request).await {
            Answer::Done(body) => {
                if lost.is_some() {
                    load.tally.count("AI jobs answered after a repetition");
                }
                return Ok(body);
            }
            other if strict => return Err(format!("{other:?}")),
            // Not taken: nothing was lost, and the client comes back.
            Answer::NotNow(pause) => {
                load.tally.count("AI refusals (503)");
                tokio::time::sleep(pause.min(Duration::from_millis(250))).await;
            }
            Answer::Lost(why) => {
                load.tally.count(LOST);
                if let Some(before) = &lost {
                    return Err(format!("lost twice: {before}; {why}"));
                }
                lost = Some(why);
            }
            Answer::Refused(status, text) => return Err(format!("{status} {text}")),
        }
        if began.elapsed() > DEADLINE {
            return Err("no answer in time".to_owned());
        }
    }
}

/// So much silence, 8,000 samples a second of one byte each.
pub fn wav(seconds: u64) -> Vec<u8> {
    let samples = u32::try_from(seconds * 8_000).unwrap();
    let mut file = Vec::new();
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + samples).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16_u32.to_le_bytes());
    for half in [1_u16, 1] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [8_000_u32, 8_000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for half in [1_u16, 8] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(b"data");
    file.extend_from_slice(&samples.to_le_bytes());
    file.resize(file.len() + samples as usize, 128);
    file
}

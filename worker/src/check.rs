//! `penstock-worker check-gpu`: tries every card as a starting worker does, then measures it: how much
//! faster than real time it transcodes one stream, and how many streams at once it keeps up with. The
//! same numbers for the processor stand beside them.

use crate::{
    gpu::Inventory,
    settings::{CardArgs, Preset},
    video::{
        encoder::{Accel, Device},
        tools::Tools,
        transcode::Engine,
        trial::{Clip, Trial},
    },
};
use clap::Parser;
use futures::future::join_all;
use penstock_domain::VideoProfile;
use serde::Serialize;
use std::{
    error::Error,
    ffi::OsString,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

/// The word that asks for it.
const COMMAND: &str = "check-gpu";

/// Tries and measures the cards of this machine: transcodes a made-up 1080p30 clip into the ladder
/// 720p, 576p, 360p, 240p on each of them and on the processor. Ends with 1 if a card does not work.
#[derive(Debug, Clone, Parser)]
#[command(name = "penstock-worker check-gpu", version)]
pub struct CheckArgs {
    /// Which cards.
    #[command(flatten)]
    pub cards: CardArgs,

    /// The ffmpeg program.
    #[arg(long, env = "PENSTOCK_FFMPEG", default_value = "ffmpeg", value_name = "PROGRAM")]
    pub ffmpeg: OsString,

    /// Speed preset of the software encoders.
    #[arg(long, env = "PENSTOCK_ENCODER_PRESET", default_value = "veryfast", value_name = "NAME")]
    pub encoder_preset: Preset,

    /// Length of the clip, in seconds, 1 to 60.
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,

    /// Streams at once, at most. 1 measures a single stream only.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_streams: u32,

    /// Height of the made-up clip, 144 to 2160; its ladder is what lies below.
    #[arg(long, default_value_t = 1080, value_name = "LINES", value_parser = clap::value_parser!(u32).range(144..=2160))]
    pub height: u32,

    /// Print one JSON document instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// What is printed.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Report {
    /// Version of NVIDIA's driver.
    pub driver: Option<String>,
    /// Why cards could not be listed.
    pub trouble: Option<String>,
    /// Each card, and `cpu` last.
    pub devices: Vec<Measured>,
}

/// One device.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Measured {
    /// `nvidia-0`, `cpu`.
    pub device: String,
    /// Product name, where the driver says one.
    pub name: Option<String>,
    /// What is done where; nothing if the trial failed.
    pub engines: Option<&'static str>,
    /// Why it is not used.
    pub error: Option<String>,
    /// Seconds of video for each second of one stream's work.
    pub real_time_factor: Option<f64>,
    /// Most streams at once that were all faster than real time, of 1, 2, 4, 8…
    pub streams: Option<u32>,
}

/// The arguments behind `check-gpu`, if that is the first one.
pub fn asked_for(args: impl IntoIterator<Item = OsString>) -> Option<Vec<OsString>> {
    let mut args = args.into_iter();
    let program = args.next()?;
    (args.next()? == COMMAND).then(|| std::iter::once(program).chain(args).collect())
}

/// The command, from its arguments to its exit status.
pub async fn main(args: Vec<OsString>) -> ExitCode {
    let args = match CheckArgs::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            let status = u8::try_from(penstock_config::EXIT_BAD_CONFIG).unwrap_or(1);
            return if error.use_stderr() { ExitCode::from(status) } else { ExitCode::SUCCESS };
        }
    };
    let json = args.json;
    match check(&args).await {
        Ok(report) => {
            say(&if json { as_json(&report) } else { as_lines(&report) });
            let failed = report.devices.iter().any(|device| device.error.is_some());
            if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What a command's user came for goes to standard output.
#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
}

/// Tries and measures.
pub async fn check(args: &CheckArgs) -> Result<Report, Box<dyn Error>> {
    args.cards.check()?;
    let tools = Tools::probe(&args.ffmpeg).await?;
    let seen = args.cards.watch().await.now();
    let engine = Engine {
        tools,
        preset: args.encoder_preset.0.clone(),
        memory_bytes: 4 << 30,
        rendition_bytes: crate::limits::Limits::default().segment_bytes,
    };
    let trial = Trial::prepare(engine.clone()).await?;
    let width = (args.height * 16 / 9) & !1;
    let clip = Clip { width, height: args.height & !1, fps: 30, seconds: args.seconds };
    let load = Trial::with_clip(engine, clip, ladder(args.height)).await?;
    let mut devices = Vec::new();
    for device in args.cards.devices(&seen) {
        let name = name_of(&seen, device);
        devices.push(match trial.card(device).await {
            Ok(accel) => measure(args, &load, device.to_string(), name, accel).await,
            Err(error) => Measured { error: Some(error), ..nothing(device.to_string(), name) },
        });
    }
    devices.push(measure(args, &load, "cpu".to_owned(), None, Accel::Software).await);
    Ok(Report { driver: seen.driver, trouble: seen.trouble, devices })
}

fn name_of(seen: &Inventory, device: Device) -> Option<String> {
    match device {
        Device::Nvidia(index) => seen.card(index).map(|card| card.name.clone()),
        Device::Netint(_) => None,
    }
    .filter(|name| !name.is_empty())
}

fn nothing(device: String, name: Option<String>) -> Measured {
    Measured { device, name, engines: None, error: None, real_time_factor: None, streams: None }
}

/// The usual ladder under a height; the lowest rung always.
fn ladder(height: u32) -> Arc<[VideoProfile]> {
    let names = ["P720p30fps16x9", "P576p30fps16x9", "P360p30fps16x9", "P240p30fps16x9"];
    let all = names.into_iter().filter_map(VideoProfile::preset);
    let lowest = VideoProfile::preset("P144p30fps16x9");
    let below: Vec<_> = all.filter(|profile| profile.height <= height).collect();
    if below.is_empty() { lowest.into_iter().collect() } else { below.into() }
}

async fn measure(
    args: &CheckArgs,
    load: &Trial,
    device: String,
    name: Option<String>,
    accel: Accel,
) -> Measured {
    let mut measured = Measured { engines: Some(accel.engines()), ..nothing(device, name) };
    let video = Duration::from_secs(u64::from(args.seconds));
    let mut count = 1;
    while count <= args.max_streams {
        // Slower than half of real time is no use to anybody.
        let runs = (0..count).map(|_| async {
            let begun = Instant::now();
            load.run(accel, video * 2 + Duration::from_secs(5)).await.map(|_| begun.elapsed())
        });
        let slowest = join_all(runs).await.into_iter().collect::<Result<Vec<_>, _>>();
        match slowest.map(|all| all.into_iter().max().unwrap_or_default()) {
            Ok(slowest) => {
                if count == 1 {
                    let factor = video.as_secs_f64() / slowest.as_secs_f64().max(1e-6);
                    measured.real_time_factor = Some((factor * 100.0).round() / 100.0);
                    measured.streams = Some(0);
                }
                if slowest > video {
                    break;
                }
                measured.streams = Some(count);
            }
            Err(error) if count == 1 => {
                measured.error = Some(error.to_string());
                break;
            }
            // Cards limit how many encoders run at once.
            Err(_) => break,
        }
        count *= 2;
    }
    measured
}

fn as_json(report: &Report) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default()
}

fn as_lines(report: &Report) -> String {
    let mut lines = vec![format!("driver: {}", report.driver.as_deref().unwrap_or("none"))];
    lines.extend(report.trouble.iter().map(|why| format!("cards: {why}")));
    for d in &report.devices {
        let name = d.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let mut line = format!("{}{name}:", d.device);
        if let Some(engines) = d.engines {
            line.push_str(&format!(" {engines}"));
        }
        if let (Some(factor), Some(streams)) = (d.real_time_factor, d.streams) {
            line.push_str(&format!(", {factor:.2} times real time, {streams} streams at once"));
        }
        if let Some(error) = &d.error {
            line.push_str(&format!(" does not work: {error}"));
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_asks_for_it() {
        let asked = |words: &[&str]| asked_for(words.iter().map(OsString::from));
        assert_eq!(asked(&["w", "check-gpu", "--json"]).unwrap(), ["w", "--json"]);
        assert_eq!(asked(&["w", "--x", "check-gpu"]), None);
        assert_eq!(asked(&["w"]), None);
        penstock_config::assert_definition::<CheckArgs>();
    }

    #[test]
    fn the_ladder_lies_below_the_clip() {
        let heights = |of| ladder(of).iter().map(|p| p.height).collect::<Vec<_>>();
        assert_eq!(heights(1080), [720, 576, 360, 240]);
        assert_eq!(heights(360), [360, 240]);
        assert_eq!(heights(144), [144]);
    }

    #[test]
    fn lines_for_people() {
        let good = Measured {
            engines: Some("nvdec+cuda+nvenc"),
            real_time_factor: Some(12.5),
            streams: Some(16),
            ..nothing("nvidia-0".into(), Some("Made Up".into()))
        };
        let bad = Measured { error: Some("no".into()), ..nothing("nvidia-1".into(), None) };
        let report =
            Report { driver: Some("550.1".into()), trouble: None, devices: vec![good, bad] };
        assert_eq!(
            as_lines(&report),
            "driver: 550.1\n\
             nvidia-0 (Made Up): nvdec+cuda+nvenc, 12.50 times real time, 16 streams at once\n\
             nvidia-1: does not work: no"
        );
    }
}

//! Real segments through the whole worker; what comes back is measured by ffprobe.

use crate::{
    orchestrator::{Orchestrator, Posted},
    worker::{Worker, script},
};
use penstock_domain::{Capability, CapabilitySet, Gop, SegmentFormat, VideoProfile};
use penstock_testkit::{media, places};
use penstock_wire::{net, profile};
use std::{path::Path, process::Command};

pub fn notice(task_id: i64, url: &str, profiles: &[VideoProfile]) -> net::NotifySegment {
    let mut data = net::SegData {
        manifest_id: b"manifest".to_vec(),
        seq: task_id,
        hash: vec![0; 32],
        profiles: b"invalid".to_vec(),
        duration: 2000,
        auth_token: Some(net::AuthToken { session_id: "a1b2c3d4".into(), ..Default::default() }),
        ..Default::default()
    };
    profile::write_lists(profiles, &mut data);
    net::NotifySegment {
        url: url.to_owned(),
        seg_data: Some(data),
        task_id,
        profiles: b"invalid".to_vec(),
        orch_id: "offchain".to_owned(),
        ..Default::default()
    }
}

fn ladder() -> Vec<VideoProfile> {
    vec![
        // The input's own frame rate, a keyframe each second.
        VideoProfile {
            fps: 0,
            gop: Gop::Millis(1000),
            ..VideoProfile::preset("P360p30fps16x9").unwrap()
        },
        VideoProfile::preset("P240p30fps16x9").unwrap(),
        VideoProfile::preset("P144p30fps16x9").unwrap(),
    ]
}

/// `key=value` of one stream, from ffprobe, which decodes and counts.
fn probed(file: &Path, stream: &str, entries: &str) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", stream, "-of", "csv=p=0"])
        .args(["-show_entries", entries])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn pixels(part: &axum::http::HeaderMap) -> u64 {
    part["pixels"].to_str().unwrap().parse().unwrap()
}

async fn renditions(
    posted: &Posted,
    folder: &Path,
    count: usize,
) -> Vec<(std::path::PathBuf, u64)> {
    let mut files = Vec::new();
    for (index, (headers, data)) in posted.parts().await.into_iter().enumerate() {
        assert_eq!(headers["content-length"], data.len().to_string());
        let ending = match headers["content-type"].to_str().unwrap() {
            "video/mp2t" => "ts",
            "video/mp4" => "mp4",
            other => panic!("{other}"),
        };
        let path = folder.join(format!("{}-{index}.{ending}", posted.header("taskid")));
        std::fs::write(&path, data).unwrap();
        files.push((path, pixels(&headers)));
    }
    assert_eq!(files.len(), count);
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consecutive_segments_join_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let segments = media::cut_into_segments(&places::film(), 1, folder.path());
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &[]).await;
    let transcoder = orchestrator.transcoder().await;
    assert_eq!(transcoder.request.capacity, 10);

    // Frame times of each rendition over all segments.
    let mut times = vec![Vec::new(); 3];
    for (task, segment) in (0i64..).zip(&segments) {
        let input = media::probe(segment);
        let url = orchestrator.offer(&format!("{task}.ts"), std::fs::read(segment).unwrap());
        transcoder.jobs.send(Ok(notice(task, &url, &ladder()))).unwrap();
        let posted = orchestrator.result().await;
        assert_eq!(posted.path, "/transcodeResults");
        assert_eq!(posted.header("taskid"), task.to_string());
        let frames = input.frame_pts_90khz.len() as u64;
        assert_eq!(posted.header("pixels"), (frames * 1280 * 720).to_string());
        let sizes = [(640, 360), (426, 240), (256, 144)];
        for (index, (path, pixels)) in
            renditions(&posted, folder.path(), 3).await.into_iter().enumerate()
        {
            let video = media::probe(&path);
            assert_eq!((video.width, video.height), sizes[index]);
            let frames = video.frame_pts_90khz.len() as u64;
            assert_eq!(pixels, frames * u64::from(video.width) * u64::from(video.height));
            assert!(video.has_audio);
            if index == 0 {
                // Passed through: the very frames and times of the input.
                assert_eq!(video.frame_pts_90khz, input.frame_pts_90khz);
            }
            times[index].extend(video.frame_pts_90khz);
            let first_key = probed(&path, "v:0", "frame=key_frame");
            assert!(first_key.starts_with('1'), "a segment starts with a keyframe");
        }
    }
    for (index, times) in times.iter().enumerate() {
        // 25 frames a second passed through, else 30.
        let step = if index == 0 { 3600 } else { 3000 };
        assert!(times.len() > 100);
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            assert!((gap - step).abs() <= 1, "rendition {index}: {gap} after {}", pair[0]);
        }
    }
    worker.stop().await;
}

/// A transport stream less the packets of one elementary stream.
fn without_pid(stream: &[u8], pid: u16) -> Vec<u8> {
    let pid_of = |p: &[u8]| u16::from(p[1] & 0x1f) << 8 | u16::from(p[2]);
    stream.chunks_exact(188).filter(|p| pid_of(p) != pid).flatten().copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_shapes_mp4_hashes_portrait_and_odd_audio() {
    let folder = tempfile::tempdir().unwrap();
    // A sound track that is announced and has no data: the last seconds of many streams.
    let silent = folder.path().join("silent.ts");
    let segments = media::cut_into_segments(&places::film(), 1, folder.path());
    std::fs::write(&silent, without_pid(&std::fs::read(&segments[0]).unwrap(), 0x101)).unwrap();
    // Portrait, MP4, MP3 sound.
    let portrait = folder.path().join("portrait.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-t", "1", "-i"])
        .arg(places::film())
        .args(["-vf", "transpose=1,scale=360:640", "-c:v", "libx264", "-preset", "ultrafast"])
        .args(["-c:a", "libmp3lame", "-ac", "2"])
        .arg(&portrait)
        .status()
        .unwrap();
    assert!(made.success());
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &[]).await;
    let transcoder = orchestrator.transcoder().await;

    let url = orchestrator.offer("s.ts", std::fs::read(&silent).unwrap());
    transcoder.jobs.send(Ok(notice(6, &url, &ladder()))).unwrap();
    let posted = orchestrator.result().await;
    let files = renditions(&posted, folder.path(), 3).await;
    let video = media::probe(&files[0].0);
    assert_eq!((video.frame_pts_90khz.len(), video.has_audio), (50, false));

    let url = orchestrator.offer("p.mp4", std::fs::read(&portrait).unwrap());
    let profiles = [
        VideoProfile {
            fps: 0,
            format: SegmentFormat::Mp4,
            ..VideoProfile::preset("P240p30fps16x9").unwrap()
        },
        VideoProfile { fps: 0, ..VideoProfile::preset("P144p30fps16x9").unwrap() },
    ];
    let mut wanted = notice(7, &url, &profiles);
    wanted.seg_data.as_mut().unwrap().calc_perceptual_hash = true;
    transcoder.jobs.send(Ok(wanted)).unwrap();
    let posted = orchestrator.result().await;
    assert_eq!(posted.header("pixels"), (25 * 360 * 640).to_string());
    let parts = posted.parts().await;
    let kinds: Vec<_> = parts.iter().map(|(h, _)| h["content-type"].to_str().unwrap()).collect();
    let hash = "application/octet-stream";
    assert_eq!(kinds, ["video/mp4", hash, "video/mp2t", hash]);
    for (headers, data) in [&parts[1], &parts[3]] {
        assert!(!headers.contains_key("pixels"));
        assert!(data.len() > 100, "an MPEG-7 signature");
    }
    // Portrait keeps the profile's height and the input's aspect: 240 → 136×240 (135 is odd).
    for (index, name, width, height) in [(0, "a.mp4", 136, 240), (2, "b.ts", 82, 144)] {
        let path = folder.path().join(name);
        std::fs::write(&path, &parts[index].1).unwrap();
        let size = probed(&path, "v:0", "stream=width,height,nb_read_frames");
        let size = size.lines().next().unwrap().trim_end_matches(',');
        assert_eq!(size, format!("{width},{height},25"));
        assert_eq!(pixels(&parts[index].0), 25 * width * height);
        let audio = probed(&path, "a:0", "stream=codec_name");
        assert!(audio.starts_with("aac"), "{audio}");
    }
    let comment = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format_tags=comment", "-of", "csv=p=0"])
        .arg(folder.path().join("a.mp4"))
        .output()
        .unwrap();
    let comment = String::from_utf8(comment.stdout).unwrap();
    assert!(
        comment.starts_with("Processed by Livepeer Transcoder ") && comment.contains("(offchain)")
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vp8_and_vp9_are_decoded_as_advertised() {
    let folder = tempfile::tempdir().unwrap();
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &[]).await;
    let transcoder = orchestrator.transcoder().await;
    let told = transcoder.request.capabilities.clone().unwrap();
    let told = penstock_wire::capabilities::read(&told).unwrap();
    for (task, capability, encoder) in
        [(1, Capability::Vp8Decode, "libvpx"), (2, Capability::Vp9Decode, "libvpx-vp9")]
    {
        assert!(CapabilitySet::of([capability]).is_subset(&told.set), "{capability:?}");
        // The container in which the reference tries both.
        let clip = folder.path().join(format!("{task}.webm"));
        let made = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=192x144:r=25:d=1"])
            .args(["-f", "lavfi", "-i", "sine=d=1"])
            .args(["-c:v", encoder, "-deadline", "realtime", "-cpu-used", "8", "-g", "25"])
            .args(["-c:a", "libopus", "-f", "webm"])
            .arg(&clip)
            .status()
            .unwrap();
        assert!(made.success(), "{encoder}");
        let url = orchestrator.offer(&format!("{task}.webm"), std::fs::read(&clip).unwrap());
        let profiles = [VideoProfile { fps: 0, ..VideoProfile::preset("P144p30fps16x9").unwrap() }];
        transcoder.jobs.send(Ok(notice(task, &url, &profiles))).unwrap();
        let posted = orchestrator.result().await;
        assert_eq!(posted.path, "/transcodeResults");
        assert_eq!(posted.header("pixels"), (25 * 192 * 144).to_string(), "{encoder}");
        let files = renditions(&posted, folder.path(), 1).await;
        let made = probed(&files[0].0, "v:0", "stream=codec_name,nb_read_frames");
        let made = made.lines().next().unwrap().trim_end_matches(',');
        assert_eq!(made, "h264,25", "{encoder}");
        assert!(probed(&files[0].0, "a:0", "stream=codec_name").starts_with("aac"), "{encoder}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let segments = media::cut_into_segments(&places::film(), 1, folder.path());
    let input = media::probe(&segments[1]);
    assert!(input.frame_pts_90khz.len() >= 50 && input.frame_pts_90khz[0] > 0);
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &[]).await;
    let transcoder = orchestrator.transcoder().await;
    let faster = VideoProfile::preset("P144p30fps16x9").unwrap();
    let profiles = [VideoProfile { fps: 0, ..faster.clone() }, faster];
    // 25 frames a second: both ends of a part belong to it.
    for (task, from, to, first, count) in [(1, 0, 1000, 0, 26), (2, 480, 1000, 12, 14)] {
        let url = orchestrator.offer(&format!("{task}.ts"), std::fs::read(&segments[1]).unwrap());
        let mut wanted = notice(task, &url, &profiles);
        let data = wanted.seg_data.as_mut().unwrap();
        data.segment_parameters = Some(net::SegParameters { from, to });
        transcoder.jobs.send(Ok(wanted)).unwrap();
        let posted = orchestrator.result().await;
        let files = renditions(&posted, folder.path(), 2).await;
        // A frame rate of its own does not fill up what was cut off.
        let frames = media::probe(&files[1].0).frame_pts_90khz.len() as u64;
        assert!(frames.abs_diff((to - from) * 30 / 1000) <= 2, "task {task}: {frames}");
        let video = media::probe(&files[0].0);
        assert_eq!((video.frame_pts_90khz.len(), video.has_audio), (count, true), "task {task}");
        assert_eq!(files[0].1, count as u64 * 256 * 144);
        // Its own time, if it begins later than the segment: from zero, or as much later as the
        // sound's encoder puts before its first sample.
        let zero = if from == 0 { 0 } else { input.frame_pts_90khz[first] };
        let late = video.frame_pts_90khz[0] + zero - input.frame_pts_90khz[first];
        assert!((0..3600).contains(&late) && (from > 0 || late == 0), "task {task}: {late}");
        let times = input.frame_pts_90khz.iter().skip(first).take(count).map(|t| t - zero + late);
        assert_eq!(video.frame_pts_90khz, times.collect::<Vec<_>>(), "task {task}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_jobs_get_the_documented_texts() {
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &[]).await;
    let transcoder = orchestrator.transcoder().await;
    let profiles = ladder();
    let mut task = 0;
    let mut job = |url: &str, change: fn(&mut net::SegData)| {
        task += 1;
        let mut n = notice(task, url, &profiles);
        change(n.seg_data.as_mut().unwrap());
        transcoder.jobs.send(Ok(n)).unwrap();
    };
    // Nothing, noise, a playlist, a transport stream without a picture, a broken one.
    let playlist = "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n";
    let noise: Vec<u8> =
        (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut hollow = [0x47u8, 0x1f, 0xff, 0x10].to_vec();
    hollow.resize(188, 0xff);
    let unsupported = "unsupported input: none of MPEG-TS, MP4 and WebM";
    for (name, data, text) in [
        ("empty", Vec::new(), unsupported),
        ("noise", noise, unsupported),
        ("playlist", playlist.as_bytes().to_vec(), unsupported),
        ("hollow", hollow.repeat(500), "transcoder failed: "),
        ("box", b"\0\0\0\x1cftypisom\0\0\0\0garbage".to_vec(), "transcoder failed: "),
    ] {
        job(&orchestrator.offer(name, data), |_| {});
        let posted = orchestrator.result().await;
        assert_eq!(posted.header("content-type"), "livepeer/transcoding-error", "{name}");
        assert_eq!(posted.header("pixels"), "0");
        assert!(posted.text().starts_with(text), "{name}: {}", posted.text());
        // Nothing of this machine is told.
        assert!(!posted.text().contains("/work") && !posted.text().contains("/tmp"));
    }
    job(&format!("{}/stream/nothing-here", orchestrator.url()), |_| {});
    assert_eq!(orchestrator.result().await.text(), "download error: status 404");
    job("http://127.0.0.1:9/private", |_| {});
    assert!(orchestrator.result().await.text().contains("private address"));
    job("file:///etc/passwd", |_| {});
    assert_eq!(orchestrator.result().await.text(), "download error: bad URL");
    job("x", |data| data.duration = -1);
    assert_eq!(orchestrator.result().await.text(), "invalid duration");
    job("x", |data| data.full_profiles3[0].encoder = 9);
    assert_eq!(orchestrator.result().await.text(), "unrecognized video codec");
    job("x", |data| data.segment_parameters = Some(net::SegParameters { from: 2, to: 1 }));
    assert_eq!(orchestrator.result().await.text(), "TranscoderInvalidClipConfig");
    // The end of a session is not answered; the next job is.
    transcoder.jobs.send(Ok(notice(90, "", &profiles))).unwrap();
    job("x", |data| data.duration = 300_001);
    assert_eq!(orchestrator.result().await.text(), "invalid duration");
    assert!(orchestrator.no_result_yet());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashing_ffmpeg_costs_one_segment_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let film = places::film();
    // Crashes while there is no file `calm` beside it.
    let calm = folder.path().join("calm");
    let text = format!(
        "case \"$*\" in *-encoders*|*-decoders*|*-filters*) exec ffmpeg \"$@\";; esac\n\
         [ -e {calm} ] && exec ffmpeg \"$@\"\nkill -SEGV $$",
        calm = calm.display()
    );
    let ffmpeg = script(&folder, "crashing-ffmpeg", &text);
    let mut orchestrator = Orchestrator::start().await;
    let flag = format!("--ffmpeg={}", ffmpeg.display());
    let worker = Worker::start(&orchestrator, &[flag.as_str()]).await;
    let transcoder = orchestrator.transcoder().await;
    let url = orchestrator.offer("film.mp4", std::fs::read(&film).unwrap());
    let small = [VideoProfile::preset("P144p30fps16x9").unwrap()];
    for task in 0..2 {
        transcoder.jobs.send(Ok(notice(task, &url, &small))).unwrap();
        let posted = orchestrator.result().await;
        assert_eq!(posted.header("content-type"), "livepeer/transcoding-error");
        assert!(posted.text().starts_with("transcoder failed: signal: 11"), "{}", posted.text());
    }
    std::fs::write(&calm, "").unwrap();
    transcoder.jobs.send(Ok(notice(2, &url, &small))).unwrap();
    let posted = orchestrator.result().await;
    assert_eq!(posted.header("pixels"), (132u64 * 1280 * 720).to_string());

    let work = worker.folder.path().join("work");
    let jobs = || {
        let own = std::fs::read_dir(&work).unwrap().next().unwrap().unwrap().path();
        std::fs::read_dir(own).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count()
    };
    // The last job's folder goes right after its result went.
    penstock_testkit::until("job folders are removed", || {
        let left = jobs();
        async move { left == 0 }
    })
    .await;
    worker.begin_stop();
    let folder = worker.folder.path().to_owned();
    let end = worker.ended();
    end.await.unwrap();
    assert!(!folder.join("work").exists());
}

//! Segments and jobs that were made to do harm. Whatever comes: no other file is read, nobody is called, memory,
//! time and disk have an end, the answer is a documented one, and the next good segment is served.

use crate::{
    orchestrator::{Orchestrator, Posted, Registered},
    video::notice,
    worker::Worker,
};
use penstock_domain::VideoProfile;
use penstock_testkit::hostile::{
    self, Hostile, SECRET, Seeded, Trap, disguised, make, scripts, tiny_mp4, tiny_ts,
};
use penstock_wire::{limits, net};
use penstock_worker::{
    child::ChildError,
    confine::Sandbox,
    video::{
        command::{INPUT, Plan},
        container::{AudioAction, Container},
        encoder::Accel,
        tools::Tools,
        transcode::{Engine, TranscodeError},
    },
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const UNSUPPORTED: &str = "unsupported input: none of MPEG-TS, MP4 and WebM";
/// What a picture of the tiny film has.
const TINY_PIXELS: u64 = 64 * 36;

fn small() -> Vec<VideoProfile> {
    vec![VideoProfile { fps: 0, ..VideoProfile::preset("P144p30fps16x9").unwrap() }]
}

/// A film that has the secret in its tables, so that it shows in whatever is made of it.
fn secret_film(folder: &Path) -> PathBuf {
    let words = format!(
        "-f lavfi -i testsrc2=size=64x36:rate=25:duration=0.4 -c:v libx264 -pix_fmt yuv420p \
         -metadata service_name={SECRET} -f mpegts"
    );
    make(folder, &words, "secret.ts");
    folder.join("secret.ts")
}

fn holds_secret(data: &[u8]) -> bool {
    data.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
}

/// A worker and the wire to it.
struct World {
    orchestrator: Orchestrator,
    transcoder: Registered<net::RegisterRequest, net::NotifySegment>,
    worker: Worker,
    next_task: i64,
}

impl World {
    async fn start(flags: &[&str]) -> Self {
        let mut orchestrator = Orchestrator::start().await;
        let worker = Worker::start(&orchestrator, flags).await;
        let transcoder = orchestrator.transcoder().await;
        Self { orchestrator, transcoder, worker, next_task: 0 }
    }

    /// The answer to a segment under this name, the job changed so.
    async fn answer(
        &mut self,
        name: &str,
        data: &[u8],
        profiles: &[VideoProfile],
        change: impl FnOnce(&mut net::NotifySegment),
    ) -> Posted {
        let url = self.orchestrator.offer(name, data.to_vec());
        self.next_task += 1;
        let mut job = notice(self.next_task, &url, profiles);
        change(&mut job);
        self.transcoder.jobs.send(Ok(job)).unwrap();
        let posted = self.orchestrator.result().await;
        assert_eq!(posted.header("taskid"), self.next_task.to_string(), "{name}");
        assert!(!holds_secret(&posted.body), "{name}");
        posted
    }

    /// The error text of one that has to fail.
    async fn refusal(&mut self, name: &str, data: &[u8]) -> String {
        let posted = self.answer(name, data, &small(), |_| {}).await;
        refused(name, &posted)
    }

    /// The good segment is served as ever, and nothing of the others is left.
    async fn serves(&mut self, good: &[u8]) {
        let posted = self.answer("good.ts", good, &small(), |_| {}).await;
        assert_eq!(posted.header("pixels"), (10 * TINY_PIXELS).to_string());
        let parts = posted.parts().await;
        assert_eq!(parts[0].0["pixels"], (10 * 256 * 144).to_string().as_str());
        let work = self.worker.folder.path().join("work");
        penstock_testkit::until("job folders are removed", || {
            let own = std::fs::read_dir(&work).unwrap().next().unwrap().unwrap().path();
            let jobs = std::fs::read_dir(own).unwrap().map(|e| e.unwrap().path());
            let left = jobs.filter(|path| path.is_dir()).count();
            async move { left == 0 }
        })
        .await;
    }
}

/// An error that says nothing of this machine; its text.
/// How a job ends that ffmpeg could not do: it said so, or it was not given more time.
fn is_refusal(text: &str) -> bool {
    text.starts_with("transcoder failed: ") || text.starts_with("transcoder timed out")
}

fn refused(name: &str, posted: &Posted) -> String {
    assert_eq!(posted.header("content-type"), "livepeer/transcoding-error", "{name}");
    assert_eq!(posted.header("pixels"), "0", "{name}");
    let text = posted.text();
    assert!(text.len() < 4_000 && !text.contains("/tmp") && !text.contains("/work"), "{text}");
    text.to_owned()
}

/// Runs ffmpeg as nobody should.
fn careless(folder: &Path, words: &str) -> bool {
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(words.split_whitespace())
        .args(["-f", "null", "-"])
        .current_dir(folder)
        .output()
        .unwrap();
    done.status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_files_and_hosts_that_a_segment_names_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, trap) = (secret_film(folder.path()), Trap::set());
    let (good, film) = (tiny_ts(folder.path()), tiny_mp4(folder.path()));
    let files = scripts(&secret, trap.address);
    let film_path = folder.path().join("tiny.mp4").display().to_string();
    let alias = hostile::by_alias(&film, &film_path);

    // They are what they seem: whoever lets ffmpeg choose is led there.
    std::fs::write(folder.path().join("list.m3u8"), &files[0].data).unwrap();
    assert!(careless(folder.path(), "-protocol_whitelist file,crypto,data -i list.m3u8"));
    std::fs::write(folder.path().join("alias.mp4"), &alias).unwrap();
    assert!(careless(folder.path(), "-enable_drefs 1 -use_absolute_path 1 -i alias.mp4"));
    let elsewhere = Trap::set();
    let list = scripts(&secret, elsewhere.address).swap_remove(2).data;
    std::fs::write(folder.path().join("host.m3u8"), list).unwrap();
    assert!(!careless(folder.path(), "-protocol_whitelist file,http,tcp -i host.m3u8"));
    elsewhere.wait();

    let mut world = World::start(&[]).await;
    for (index, file) in files.iter().enumerate() {
        // Whatever its address ends in.
        let name = format!("{index}.{}", ["ts", "m3u8", "mp4"][index % 3]);
        assert_eq!(world.refusal(&name, &file.data).await, UNSUPPORTED, "{}", file.name);
    }
    let apart = hostile::apart(&secret.display().to_string(), b"#EXTM3U\n");
    assert_eq!(world.refusal("a.mkv", &apart).await, UNSUPPORTED);
    let url = format!("file://{film_path}");
    for data in [
        alias,
        hostile::by_alias(&film, "../../../../../../../../../etc/hostname"),
        hostile::by_url(&film, &url),
        hostile::by_url(&film, &format!("http://{}/a.mp4", trap.address)),
    ] {
        let text = world.refusal("film.mp4", &data).await;
        assert!(is_refusal(&text), "{text}");
    }
    world.serves(&good).await;
    assert_eq!(trap.reached(), 0);
    world.worker.stop().await;
}

/// The engine with nothing to hold ffmpeg but its command line.
async fn unheld() -> Engine {
    let mut tools = Tools::probe(OsStr::new("ffmpeg")).await.unwrap();
    tools.sandbox = Sandbox::default();
    Engine {
        tools,
        preset: "ultrafast".into(),
        memory_bytes: 1 << 30,
        rendition_bytes: 300_000_000,
    }
}

async fn run(
    engine: &Engine,
    folder: &TempDir,
    data: &[u8],
    profiles: &[VideoProfile],
    limit: Duration,
) -> Result<u64, TranscodeError> {
    std::fs::write(folder.path().join(INPUT), data).unwrap();
    let container = Container::sniff(data).expect("of a kind that is accepted");
    let plan = Plan {
        container,
        audio: AudioAction::Drop,
        video: None,
        accel: Accel::Software,
        profiles,
        preset: &engine.preset,
        threads: None,
        provider: "Livepeer Transcoder 1 (offchain)",
        clip: None,
        signature: false,
    };
    Ok(engine.run(&plan, folder.path(), limit).await?.renditions[0].pixels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_alone_keeps_ffmpeg_at_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, trap) = (secret_film(folder.path()), Trap::set());
    let film = tiny_mp4(folder.path());
    let mut files = disguised(&scripts(&secret, trap.address));
    let path = folder.path().join("tiny.mp4").display().to_string();
    files.push(Hostile::new("an alias", hostile::by_alias(&film, &path)));
    files.push(Hostile::new("a URL", hostile::by_url(&film, &path)));
    let engine = unheld().await;
    for file in files {
        let job = tempfile::tempdir().unwrap();
        let done = run(&engine, &job, &file.data, &small(), Duration::from_secs(60)).await;
        let text = match done {
            Err(TranscodeError::Failed(text)) => text,
            Err(TranscodeError::NothingDecoded) => String::new(),
            other => panic!("{}: {other:?}", file.name),
        };
        assert!(!text.contains(SECRET), "{}: {text}", file.name);
        for entry in std::fs::read_dir(job.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != INPUT {
                assert!(!holds_secret(&std::fs::read(entry.path()).unwrap()), "{}", file.name);
            }
        }
    }
    assert_eq!(trap.reached(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_cost_one_segment() {
    let folder = tempfile::tempdir().unwrap();
    let good = tiny_ts(folder.path());
    let mut world = World::start(&["--ffmpeg-memory-mib=1024"]).await;

    // 16,384 × 16,384 is more than is decoded at all; 8,192 × 8,192 is not, and 130 GB of it come from 30 KB.
    let bomb = hostile::bomb_ts(folder.path(), 16_384, 16_384, 4);
    let text = world.refusal("bomb.ts", &bomb).await;
    assert!(is_refusal(&text), "{text}");
    let bomb = hostile::bomb_ts(folder.path(), 8_192, 8_192, 2_000);
    assert!(bomb.len() < 1 << 20);
    let text = world.refusal("bomb.ts", &bomb).await;
    assert!(is_refusal(&text), "{text}");
    world.serves(&good).await;

    // Tables without measure, and tables without sense.
    for data in [hostile::many_streams(&good), hostile::odd_tables()] {
        let text = world.refusal("tables.ts", &data).await;
        assert!(is_refusal(&text), "{text}");
    }

    // A header that says a million frames a second makes no frames.
    let words = "-i tiny.ts -c copy -bsf:v h264_metadata=tick_rate=2000000 -f mpegts";
    let fast = make(folder.path(), words, "fast.ts");
    let at_30 = vec![VideoProfile::preset("P144p30fps16x9").unwrap()];
    for profiles in [small(), at_30.clone()] {
        let posted = world.answer("fast.ts", &fast, &profiles, |_| {}).await;
        assert_eq!(posted.header("pixels"), (10 * TINY_PIXELS).to_string());
        let made: u64 = posted.parts().await[0].0["pixels"].to_str().unwrap().parse().unwrap();
        assert!((9..=14).contains(&(made / (256 * 144))), "{made}");
    }

    // A picture that is far too large to be made of a small one.
    let large = VideoProfile { width: 16_384, height: 16_384, ..small().remove(0) };
    let posted = world.answer("large.ts", &good, &[large], |_| {}).await;
    assert!(refused("large", &posted).starts_with("transcoder "));
    world.serves(&good).await;
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_ends_with_the_time_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let good = tiny_ts(folder.path());
    // A day and an hour later the film goes on; at 30 frames a second that would be 2.7 million between.
    let later =
        make(folder.path(), "-i tiny.ts -c copy -output_ts_offset 90000 -f mpegts", "later.ts");
    let jump = [good, later].concat();
    let engine = unheld().await;
    let job = tempfile::tempdir().unwrap();
    // As it comes there is nothing to fill.
    let kept = run(&engine, &job, &jump, &small(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(kept, 20 * 256 * 144);
    let filled = [VideoProfile::preset("P144p30fps16x9").unwrap()];
    let done = run(&engine, &job, &jump, &filled, Duration::from_secs(2)).await;
    match done {
        Err(TranscodeError::Child(ChildError::TimedOut(_))) => {}
        Ok(pixels) => assert!(pixels < 2_700_000 * 256 * 144, "{pixels}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_segments_fail_or_work_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (good, film) = (tiny_ts(folder.path()), tiny_mp4(folder.path()));
    let mut world = World::start(&[]).await;
    let mut chance = Seeded(0x5eed);
    let expected =
        ["transcoder failed: ", "transcoder timed out", "segment / profile mismatch", UNSUPPORTED];
    let (mut worked, mut failed) = (0, 0);
    for round in 0..24 {
        for (name, sound) in [("damaged.ts", &good), ("damaged.mp4", &film)] {
            let data = chance.damaged(sound);
            let posted = world.answer(name, &data, &small(), |_| {}).await;
            if posted.header("content-type") == "livepeer/transcoding-error" {
                let text = refused(name, &posted);
                assert!(expected.iter().any(|begin| text.starts_with(begin)), "{round}: {text}");
                failed += 1;
            } else {
                assert!(posted.header("pixels").parse::<u64>().unwrap() > 0);
                assert_eq!(posted.parts().await.len(), 1);
                worked += 1;
            }
        }
    }
    assert!(worked > 0 && failed > 0, "{worked} worked, {failed} failed");
    world.serves(&good).await;
    world.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_beyond_reason_are_refused_before_anything_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let good = tiny_ts(folder.path());
    let mut world = World::start(&[]).await;
    let profile = |change: fn(&mut net::VideoProfile)| {
        move |job: &mut net::NotifySegment| {
            let data = job.seg_data.as_mut().unwrap();
            let mut profile = data.full_profiles[0].clone();
            change(&mut profile);
            (data.full_profiles, data.full_profiles3) = (Vec::new(), vec![profile]);
        }
    };
    let size = "invalid video profile: width and height must be 1 to 16384";
    let rate = "invalid video profile: frame rate must be at most 1000";
    let bits = "invalid video profile: bitrate must be 1 to 2000000000";
    let name = "invalid video profile: name must be 1 to 128 characters without control characters or slashes";
    type Change = fn(&mut net::VideoProfile);
    let cases: [(Change, &str); 18] = [
        (|p| p.width = 0, size),
        (|p| p.width = -1, size),
        (|p| p.height = i32::MAX, size),
        (|p| p.height = i32::MIN, size),
        (|p| p.bitrate = 0, bits),
        (|p| p.bitrate = -1, bits),
        (|p| p.bitrate = i32::MAX, bits),
        (|p| p.fps = 1_000_000_000, rate),
        (|p| p.fps = u32::MAX, rate),
        (|p| (p.fps, p.fps_den) = (30, u32::MAX), rate),
        (|p| p.gop = -2, "TranscoderInvalidGOP"),
        (|p| p.gop = i32::MAX, "invalid video profile: GOP must be at most 3600 seconds"),
        (
            |p| p.quality = 64,
            "invalid video profile: quality must be at most 63 and colour depth at most 16",
        ),
        (|p| p.name = "../../out".into(), name),
        (|p| p.name = "..".into(), name),
        (|p| p.name = "a\0b".into(), name),
        (|p| p.name = "n".repeat(129), name),
        (|p| p.encoder = i32::MAX, "unrecognized video codec"),
    ];
    for (index, (change, text)) in cases.into_iter().enumerate() {
        let posted = world.answer("good.ts", &good, &small(), profile(change)).await;
        assert_eq!(refused("a profile", &posted), text, "{index}");
    }
    let thousand = vec![small().remove(0); 1_000];
    let posted = world.answer("good.ts", &good, &thousand, |_| {}).await;
    assert!(refused("profiles", &posted).contains("too many"), "{}", posted.text());
    let posted = world.answer("good.ts", &good, &[], |_| {}).await;
    assert_eq!(refused("no profile", &posted), "no video profiles");
    for duration in [i32::MAX, i32::MIN, 300_001] {
        let change =
            |job: &mut net::NotifySegment| job.seg_data.as_mut().unwrap().duration = duration;
        let posted = world.answer("good.ts", &good, &small(), change).await;
        assert_eq!(refused("a duration", &posted), "invalid duration");
    }
    world.serves(&good).await;

    // As many renditions as there may be, each as small frames as there may be.
    let least = VideoProfile { width: 1, height: 1, bitrate_bps: 1, ..small().remove(0) };
    let many = vec![least; limits::PROFILES];
    let posted = world.answer("many.ts", &good, &many, |_| {}).await;
    if posted.header("content-type") == "livepeer/transcoding-error" {
        assert!(is_refusal(&refused("many", &posted)));
    } else {
        assert_eq!(posted.parts().await.len(), limits::PROFILES);
    }

    // Names that mean something elsewhere mean nothing here: they are labels, and the job is done.
    let before = everything_in(folder.path());
    for tricky in ["-i", "%d", "$(touch pwned)", "out0.ts|file:pwned", "a b;c", "file:pwned"] {
        let change = |job: &mut net::NotifySegment| {
            job.orch_id = format!("{tricky} -f lavfi\n../x");
            let data = job.seg_data.as_mut().unwrap();
            data.full_profiles[0].name = tricky.to_owned();
            data.auth_token.as_mut().unwrap().session_id = format!("../../{tricky}");
        };
        let posted = world.answer("good.ts", &good, &small(), change).await;
        assert_eq!(posted.header("pixels"), (10 * TINY_PIXELS).to_string(), "{tricky}");
        assert_eq!(posted.parts().await.len(), 1, "{tricky}");
    }
    // A stretch of the segment that lies beyond all time has nothing in it.
    for (from, to) in [(u64::MAX - 1, u64::MAX), (0, u64::MAX), (u64::MAX, 0)] {
        let change = |job: &mut net::NotifySegment| {
            job.seg_data.as_mut().unwrap().segment_parameters =
                Some(net::SegParameters { from, to });
        };
        let posted = world.answer("good.ts", &good, &small(), change).await;
        if posted.header("content-type") == "livepeer/transcoding-error" {
            refused("a clip", &posted);
        } else {
            assert_eq!(posted.parts().await.len(), 1);
        }
    }
    world.serves(&good).await;
    assert_eq!(everything_in(folder.path()), before);
    assert!(!everything_in(world.worker.folder.path()).iter().any(|p| p.ends_with("pwned")));
    world.worker.stop().await;
}

fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

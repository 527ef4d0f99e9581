//! A real film pushed as consecutive segments comes back in three renditions, plays as HLS, and was
//! paid for to the wei.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{figure, hostile, media, places, until_ok};
use serde_json::Value;

use crate::{
    books::Books,
    jobs::push,
    network::{Needs, Network},
    playback,
};

/// The local network's renditions: name, width, height.
const RENDITIONS: [(&str, u32, u32); 3] =
    [("P240p25fps16x9", 426, 240), ("P360p25fps16x9", 640, 360), ("P720p25fps16x9", 1280, 720)];
/// What the local network charges for a pixel.
const PRICE_PER_PIXEL_WEI: u64 = 500;
/// 25 frames a second, counted in 1/90,000 s.
const FRAME_TICKS: i64 = 90_000 / 25;

#[tokio::test]
async fn a_film_comes_back_in_three_renditions_plays_and_is_paid() {
    let network = Network::start(Needs::VIDEO).await;
    let folder = network.scratch().join("film");
    fs::create_dir_all(&folder).unwrap();
    let segments = media::cut_into_segments(&places::film(), 1, &folder);

    let mut by_rendition: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (number, segment) in segments.iter().enumerate() {
        let bytes = fs::read(segment).unwrap();
        let renditions =
            push(&network.http, &network.url(Role::Gateway), "film", number, bytes, None)
                .await
                .unwrap();
        let names: Vec<&str> = renditions.iter().map(|rendition| rendition.name.as_str()).collect();
        assert_eq!(names, RENDITIONS.map(|(name, _, _)| name));
        for rendition in renditions {
            let file = folder.join(format!("{}-{number}.ts", rendition.name));
            fs::write(&file, rendition.bytes).unwrap();
            by_rendition.entry(rendition.name).or_default().push(file);
        }
    }

    let pixels = renditions_are_right(&segments, &by_rendition);
    paid_to_the_wei(&network, pixels).await;
    playlists_are_right(&network, &segments).await;
    playback::plays(&network, "film").await;
    network.winners_are_redeemed().await;
}

/// What only looks like a segment is an error for whoever pushed it and costs nobody anything, and the next
/// segment is served.
#[tokio::test]
async fn hostile_segments_are_not_paid_for() {
    let network = Network::start(Needs::VIDEO).await;
    let folder = network.scratch().join("hostile");
    fs::create_dir_all(&folder).unwrap();
    let (good, film) = (hostile::tiny_ts(&folder), hostile::tiny_mp4(&folder));
    let secret = folder.join("tiny.mp4");
    let trap = hostile::Trap::set();
    let send = async |stream: &str, bytes: Vec<u8>| {
        push(&network.http, &network.url(Role::Gateway), stream, 0, bytes, None).await
    };
    assert_eq!(send("before", good.clone()).await.unwrap().len(), RENDITIONS.len());
    let before = Books::read(&network).await.debited_wei;
    assert!(before > Rational::from(0));
    let scripts = hostile::scripts(&secret, trap.address);
    for (number, bytes) in [
        scripts[0].data.clone(),
        hostile::disguised(&scripts).swap_remove(0).data,
        hostile::by_alias(&film, &secret.display().to_string()),
        hostile::odd_tables(),
        hostile::bomb_ts(&folder, 16_384, 16_384, 4),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = send(&format!("hostile-{number}"), bytes).await;
        assert!(refused.is_err(), "{number}: {} renditions", refused.unwrap().len());
    }
    assert_eq!(Books::read(&network).await.debited_wei, before);
    until_ok("the next segment is served", || send("after", good.clone())).await;
    let books = Books::read(&network).await;
    books.assert_settled();
    assert_eq!(books.debited_wei, &before + &before);
    assert_eq!(trap.reached(), 0);
}

/// Sizes, frame counts and times of every rendition against the source. Returns the pixels made.
fn renditions_are_right(
    segments: &[PathBuf],
    by_rendition: &BTreeMap<String, Vec<PathBuf>>,
) -> u64 {
    let sources: Vec<media::Video> = segments.iter().map(|file| media::probe(file)).collect();
    let frames: usize = sources.iter().map(|source| source.frame_pts_90khz.len()).sum();
    assert_eq!(frames, 132, "the film has 132 frames");
    let mut pixels = 0;
    for (name, width, height) in RENDITIONS {
        let mut last: Option<i64> = None;
        for (file, source) in by_rendition[name].iter().zip(&sources) {
            let video = media::probe(file);
            assert_eq!((video.width, video.height), (width, height), "{name}");
            assert_eq!(video.frame_pts_90khz.len(), source.frame_pts_90khz.len(), "{name}");
            assert!(video.has_audio, "{name}: the sound is gone");
            for pts in video.frame_pts_90khz {
                if let Some(last) = last {
                    assert_eq!(pts - last, FRAME_TICKS, "{name}: a gap, also between segments");
                }
                last = Some(pts);
                pixels += u64::from(width) * u64::from(height);
            }
        }
    }
    pixels
}

async fn paid_to_the_wei(network: &Network, pixels: u64) {
    let books = Books::read(network).await;
    books.assert_settled();
    figure("film: pixels paid, tickets", format!("{pixels}, {}", books.signed_tickets));
    let used = &Rational::from(PRICE_PER_PIXEL_WEI) * &Rational::from(pixels);
    assert_eq!(books.debited_wei, used, "the orchestrator debits what it really made");
    assert!(books.fees_wei >= used, "the signer's fee covers the work");

    // The operators' endpoints say the same as the ledgers' files.
    let signer = network.get(&format!("{}/v1/summary", network.admin(Role::Signer))).await;
    assert_eq!(number(&signer["ticket_ev_total_wei"]), books.signed_ev_wei);
    assert_eq!(number(&signer["fee_total_wei"]), books.fees_wei);
    assert_eq!(signer["tickets"].as_u64(), Some(books.signed_tickets));
    let orchestrator =
        network.get(&format!("{}/v1/summary", network.admin(Role::Orchestrator))).await;
    assert_eq!(number(&orchestrator["credited_wei"]), books.credited_wei);
    assert_eq!(number(&orchestrator["debited_wei"]), books.debited_wei);
    let balance = number(&orchestrator["balance_wei"]);
    assert_eq!(balance, &books.credited_wei - &books.debited_wei);
}

fn number(value: &Value) -> Rational {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value}"))
}

/// The master names every rendition with its size; each rendition lists every segment, and the
/// bytes behind each entry are the bytes of the answer.
async fn playlists_are_right(network: &Network, segments: &[PathBuf]) {
    let gateway = network.url(Role::Gateway);
    let text = async |url: String| {
        let answer = network.http.get(&url).send().await.unwrap();
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.text().await.unwrap()
    };
    let master_url = format!("{gateway}/stream/film.m3u8");
    let master = text(master_url.clone()).await;
    assert!(master.starts_with("#EXTM3U"), "{master}");
    for (name, width, height) in RENDITIONS {
        assert!(master.contains(&format!("RESOLUTION={width}x{height}")), "{master}");
        let uri = master
            .lines()
            .find(|line| !line.starts_with('#') && line.contains(name))
            .unwrap_or_else(|| panic!("{name} is not in {master}"));
        let url = resolve(&master_url, uri);
        let playlist = text(url.clone()).await;
        let entries: Vec<&str> =
            playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(entries.len(), segments.len(), "{playlist}");
        for (number, entry) in entries.iter().enumerate() {
            let bytes =
                network.http.get(resolve(&url, entry)).send().await.unwrap().bytes().await.unwrap();
            let answered = segments[0].with_file_name(format!("{name}-{number}.ts"));
            assert!(fs::read(answered).unwrap() == bytes, "{name} {number} differs");
        }
    }
}

fn resolve(base: &str, reference: &str) -> String {
    reqwest::Url::parse(base).unwrap().join(reference).unwrap().to_string()
}

/// The same segment again is answered from the store: no work, no money.
#[tokio::test]
async fn a_repeated_segment_costs_nothing() {
    let network = Network::start(Needs::VIDEO).await;
    let folder = network.scratch().join("film");
    fs::create_dir_all(&folder).unwrap();
    let segment = fs::read(&media::cut_into_segments(&places::film(), 1, &folder)[0]).unwrap();
    let gateway = network.url(Role::Gateway);
    let once = push(&network.http, &gateway, "again", 0, segment.clone(), None).await.unwrap();
    let before = Books::read(&network).await;
    let twice = push(&network.http, &gateway, "again", 0, segment, None).await.unwrap();
    assert_eq!(once.len(), twice.len());
    for (one, two) in once.iter().zip(&twice) {
        assert!(one.bytes == two.bytes, "{} differs", one.name);
    }
    assert_eq!(Books::read(&network).await, before);
}

/// The smallest renditions, for tests that are about something else.
pub const TINY: &str =
    r#"{"profiles":[{"name":"tiny","width":128,"height":72,"bitrate":100000,"fps":0}]}"#;

/// Short, small segments for the same.
pub fn small_segments(folder: &Path) -> Vec<Vec<u8>> {
    let small = media::shrink(&places::film(), folder);
    let segments = media::cut_into_segments(&small, 1, folder);
    segments.iter().map(|segment| fs::read(segment).unwrap()).collect()
}

//! The index of recordings and the playlists made of it (ingest-playback.md sections 7 and 8). A
//! recording lies in folders below its name, one a run of the stream and replica; each holds parts of
//! the index and the segments that they name.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
};

/// A part of an index, as it is stored. What is zero is left out, as the reference does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Index {
    /// Of the source's segments in this part.
    #[serde(skip_serializing_if = "zero")]
    pub duration_ms: u64,
    /// Renditions that appear in this part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<Track>,
    /// Segments by track, in the order in which they were finished.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<String, Vec<Segment>>,
}

/// A rendition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Track {
    /// Its name; `source` for the pushed one.
    pub name: String,
    /// Bits per second.
    #[serde(skip_serializing_if = "zero")]
    pub bandwidth: u64,
    /// `WxH`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resolution: String,
    /// RFC 6381, when known. The reference does not know this field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub codecs: String,
}

/// A segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Segment {
    /// Its number in the stream.
    #[serde(skip_serializing_if = "zero")]
    pub seq_no: u64,
    /// Where it lies.
    pub uri: String,
    /// Milliseconds.
    #[serde(skip_serializing_if = "zero")]
    pub duration_ms: u64,
    /// Its times do not go on from the one before. The reference does not know this field.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub discontinuity: bool,
}

fn zero(value: &u64) -> bool {
    *value == 0
}

impl Index {
    /// Adds a finished segment with its files; what is there already stays once.
    pub fn add(
        &mut self,
        seq_no: u64,
        duration_ms: u32,
        discontinuity: bool,
        files: &[(Track, String)],
    ) {
        for (track, uri) in files {
            join(&mut self.tracks, track);
            let segments = self.segments.entry(track.name.clone()).or_default();
            if segments.iter().any(|known| known.uri == *uri) {
                continue;
            }
            if track.name == SOURCE {
                self.duration_ms += u64::from(duration_ms);
            }
            segments.push(Segment {
                seq_no,
                uri: uri.clone(),
                duration_ms: duration_ms.into(),
                discontinuity,
            });
        }
    }
}

/// The pushed rendition.
pub const SOURCE: &str = "source";

/// The first definition of a track stays; its bandwidth is the highest.
fn join(tracks: &mut Vec<Track>, track: &Track) {
    match tracks.iter_mut().find(|known| known.name == track.name) {
        Some(known) => known.bandwidth = known.bandwidth.max(track.bandwidth),
        None => tracks.push(track.clone()),
    }
}

/// A folder's name for a track: other names have other folders, and none needs coding in a URL or a
/// store.
pub fn folder_name(track: &str) -> String {
    let mut out = String::with_capacity(track.len());
    for byte in track.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "={byte:02X}");
        }
    }
    out
}

/// What a track's playlist is called; as [`folder_name`], so that `index` stays the master's.
pub fn track_of<'a>(recording: &'a Recording, file: &str) -> Option<&'a str> {
    let mut names = recording.tracks.iter().map(|track| track.name.as_str());
    names.find(|name| *name == file || folder_name(name) == file)
}

/// One counting of a stream's pusher. Within it a number means one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// When the stream began, milliseconds.
    pub began: u64,
    /// Where in the stream the pusher began to count (anew).
    pub counted_from: u64,
}

impl Run {
    /// A replica's folder for it.
    pub fn folder(&self, replica: &str) -> String {
        format!("{}-{}-{replica}", self.began, self.counted_from)
    }

    /// Which run a folder is of. `None` for folders of other nodes, which know no runs.
    pub fn of_folder(folder: &str) -> Option<Self> {
        let mut parts = folder.splitn(3, '-');
        let mut number = || parts.next()?.parse().ok();
        let run = Self { began: number()?, counted_from: number()? };
        parts.next().map(|_| run)
    }
}

/// Whether a file of a run's folder is a part of an index.
pub fn is_part(file: &str) -> bool {
    file.starts_with("playlist_") && file.ends_with(".json")
}

/// A whole recording, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Renditions, the first definition of each.
    pub tracks: Vec<Track>,
    /// Segments by track, in the order of playing.
    pub segments: BTreeMap<String, Vec<Segment>>,
}

impl Recording {
    /// Appends a run: its parts in any order. Within a run a number counts once.
    pub fn append(&mut self, parts: &[Index]) {
        let mut run = BTreeMap::<&str, Vec<&Segment>>::new();
        for part in parts {
            part.tracks.iter().for_each(|track| join(&mut self.tracks, track));
            for (track, segments) in &part.segments {
                run.entry(track).or_default().extend(segments);
            }
        }
        for (track, mut segments) in run {
            // Stable: of two of the same number the first stays.
            segments.sort_by_key(|segment| segment.seq_no);
            let mut seen = HashSet::new();
            segments.retain(|segment| seen.insert(segment.seq_no));
            let all = self.segments.entry(track.to_owned()).or_default();
            let before = all.last().map(|last| last.seq_no.saturating_add(1));
            for (n, segment) in segments.into_iter().enumerate() {
                // The very first breaks nothing.
                let discontinuity = if n == 0 { before.is_some() } else { segment.discontinuity };
                let seq_no = segment.seq_no.saturating_add(before.unwrap_or(0));
                all.push(Segment { seq_no, discontinuity, ..segment.clone() });
            }
        }
    }

    /// The master playlist; `None` when nothing is recorded. `query`, with its `?`, goes on to what it
    /// names.
    pub fn master(&self, query: &str) -> Option<String> {
        if self.tracks.is_empty() {
            return None;
        }
        let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
        for track in &self.tracks {
            let bandwidth = track.bandwidth.max(1);
            let _ = write!(text, "#EXT-X-STREAM-INF:PROGRAM-ID=0,BANDWIDTH={bandwidth}");
            if is_resolution(&track.resolution) {
                let _ = write!(text, ",RESOLUTION={}", track.resolution);
            }
            if is_plain(&track.codecs) {
                let _ = write!(text, ",CODECS=\"{}\"", track.codecs);
            }
            let _ = write!(text, "\n{}.m3u8{query}\n", folder_name(&track.name));
        }
        Some(text)
    }

    /// A rendition's segments in the order of playing. What follows a number that is missing breaks
    /// the time as well.
    pub fn segments(&self, track: &str) -> Option<Vec<Segment>> {
        let mut before: Option<u64> = None;
        let broken = self.segments.get(track)?.iter().map(|segment| {
            let gap = before.is_some_and(|before| segment.seq_no > before.saturating_add(1));
            before = Some(segment.seq_no);
            Segment { discontinuity: segment.discontinuity || gap, ..segment.clone() }
        });
        Some(broken.collect())
    }

    /// One rendition's playlist; `place` says where a segment is found from there.
    pub fn media(&self, track: &str, place: impl Fn(&str) -> String) -> Option<String> {
        let segments = self.segments(track)?;
        let longest_ms = segments.iter().map(|s| s.duration_ms).max().unwrap_or(0);
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-TARGETDURATION:{}\n\
             #EXT-X-MEDIA-SEQUENCE:0\n",
            longest_ms.div_ceil(1000).max(1)
        );
        for segment in segments {
            if segment.discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let (s, ms) = (segment.duration_ms / 1000, segment.duration_ms % 1000);
            let _ = writeln!(text, "#EXTINF:{s}.{ms:03},\n{}", one_line(&place(&segment.uri)));
        }
        text.push_str("#EXT-X-ENDLIST\n");
        Some(text)
    }
}

fn is_resolution(text: &str) -> bool {
    text.split_once('x').is_some_and(|(w, h)| w.parse::<u32>().is_ok() && h.parse::<u32>().is_ok())
}

/// Says what it is and closes no quotes.
fn is_plain(codecs: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b',' | b' ' | b'-');
    !codecs.is_empty() && codecs.bytes().all(plain)
}

/// Index files may have been written by others: no name breaks a line.
fn one_line(uri: &str) -> String {
    uri.chars().filter(|c| !c.is_control()).collect()
}

/// A segment's name in the store of the recordings `ids`, if its URI says so: from the name of one of
/// them on. Which of them, and the name.
pub fn in_store<'a>(uri: &'a str, ids: &[String]) -> Option<(usize, &'a str)> {
    ids.iter().enumerate().find_map(|(n, id)| {
        let mut places = uri.match_indices(id.as_str());
        let (at, _) = places.find(|(at, _)| {
            let begins =
                uri.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with('/'));
            begins && uri.get(at + id.len()..).is_some_and(|after| after.starts_with('/'))
        })?;
        Some((n, uri.get(at..)?))
    })
}

/// Where a segment is found from a playlist of the recording `ids[0]`: what comes before the name of
/// one of its recordings is replaced by `base`, or left out, with `query` behind it.
pub fn relative(uri: &str, ids: &[String], base: Option<&str>, query: &str) -> String {
    match (in_store(uri, ids), base) {
        (None, _) => uri.to_owned(),
        (Some((_, name)), Some(base)) => format!("{}/{name}", base.trim_end_matches('/')),
        (Some((0, name)), None) => {
            format!("{}{query}", name.split_once('/').map_or("", |(_, rest)| rest))
        }
        (Some((_, name)), None) => format!("../{name}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    fn part(seqs: &[u64]) -> Index {
        let mut index = Index::default();
        for &seq in seqs {
            let track = Track {
                name: "source".into(),
                bandwidth: 4_000_000 - seq,
                resolution: "1280x720".into(),
                codecs: String::new(),
            };
            let uri = format!("show/run/source/{seq}.ts");
            index.add(seq, 2_000, false, &[(track, uri)]);
        }
        index
    }

    #[test]
    fn the_documented_form() {
        let text = serde_json::to_string(&part(&[0, 1, 0])).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"duration_ms":4000,"tracks":[{"name":"source","bandwidth":4000000,"resolution":"1280x720"}],"#,
                r#""segments":{"source":[{"uri":"show/run/source/0.ts","duration_ms":2000},"#,
                r#"{"seq_no":1,"uri":"show/run/source/1.ts","duration_ms":2000}]}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Index>(&text).unwrap(), part(&[0, 1]));
        assert_eq!(serde_json::from_str::<Index>("{}").unwrap(), Index::default());
    }

    #[test]
    fn parts_and_runs_are_put_together() {
        let mut recording = Recording::default();
        recording.append(&[part(&[2, 1]), part(&[0, 1, 4])]);
        recording.append(&[part(&[0, 1])]);
        let numbers: Vec<_> = recording
            .segments("source")
            .unwrap()
            .iter()
            .map(|s| (s.seq_no, s.discontinuity))
            .collect();
        assert_eq!(numbers, [(0, false), (1, false), (2, false), (4, true), (5, true), (6, false)]);
        let ids = ["show".to_owned()];
        let text = recording.media("source", |uri| relative(uri, &ids, None, "?t=1")).unwrap();
        let middle = "#EXTINF:2.000,\nrun/source/2.ts?t=1\n#EXT-X-DISCONTINUITY\n\
                      #EXTINF:2.000,\nrun/source/4.ts?t=1\n#EXT-X-DISCONTINUITY\n";
        assert!(text.contains(middle), "{text}");
        assert!(text.ends_with("#EXT-X-ENDLIST\n"));
        assert_eq!(recording.media("other", str::to_owned), None);
        let master = recording.master("?t=1").unwrap();
        assert!(
            master.ends_with("BANDWIDTH=4000000,RESOLUTION=1280x720\nsource.m3u8?t=1\n"),
            "{master}"
        );
        assert_eq!(Recording::default().master(""), None);
    }

    #[test]
    fn where_segments_are() {
        let ids = ["new".to_owned(), "old".to_owned()];
        let at = |uri, base| relative(uri, &ids, base, "");
        let uri = "https://bucket.example/x/old/run/source/0.ts";
        assert_eq!(at(uri, None), "../old/run/source/0.ts");
        assert_eq!(at("new/r/0.ts", None), "r/0.ts");
        assert_eq!(at(uri, Some("https://cdn/")), "https://cdn/old/run/source/0.ts");
        assert_eq!(at("https://elsewhere/renew/0.ts", None), "https://elsewhere/renew/0.ts");
        assert_eq!(in_store("https://b/renew/new/0.ts", &ids), Some((0, "new/0.ts")));
    }

    #[test]
    fn names_of_folders() {
        assert_eq!(folder_name("P144p30fps16x9"), "P144p30fps16x9");
        assert_eq!(folder_name("../a=b c"), "=2E=2E=2Fa=3Db=20c");
        let run = Run { began: 1_700_000_000_000, counted_from: 7 };
        assert_eq!(Run::of_folder(&run.folder("ab12")), Some(run));
        for other in ["0xabc-host", "12-host", "12-7", "", "-"] {
            assert_eq!(Run::of_folder(other), None, "{other}");
        }
    }

    #[test]
    fn whatever_an_index_holds() {
        let valid = serde_json::to_vec(&part(&[0, 1, 2])).unwrap();
        let ids = ["show".to_owned()];
        cases(100_000, |rng| {
            let text = damaged(rng, &valid, 3);
            let Ok(index) = serde_json::from_slice::<Index>(&text) else { return };
            let mut recording = Recording::default();
            recording.append(&[index.clone(), part(&[1])]);
            recording.append(&[index]);
            for track in &recording.tracks {
                let Some(text) = recording.media(&track.name, |u| relative(u, &ids, None, ""))
                else {
                    continue;
                };
                // No name makes a line of its own.
                let named = text.lines().filter(|line| !line.starts_with("#EXT")).count();
                let segments = recording.segments[&track.name].len();
                assert!(named <= segments && text.lines().count() >= segments, "{text}");
            }
        });
    }
}

//! HLS playlists as text (ingest-playback.md section 6; RFC 8216).

use penstock_domain::StreamId;
use penstock_store::{HlsRules, HlsWindow};
use std::fmt::Write;

/// `#EXT-X-STREAM-INF` needs a bandwidth; this is what the reference says for an unknown source.
const NOMINAL_BANDWIDTH: u64 = 4_000_000;

/// The master playlist, or `None` while there is no variant.
pub fn master(stream: &StreamId, window: &HlsWindow) -> Option<String> {
    if window.tracks.is_empty() {
        return None;
    }
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
    for track in &window.tracks {
        let bandwidth = if track.bandwidth == 0 { NOMINAL_BANDWIDTH } else { track.bandwidth };
        let _ = write!(text, "#EXT-X-STREAM-INF:PROGRAM-ID=0,BANDWIDTH={bandwidth}");
        if track.width > 0 && track.height > 0 {
            let _ = write!(text, ",RESOLUTION={}x{}", track.width, track.height);
        }
        if let Some(codecs) = &track.codecs {
            let _ = write!(text, ",CODECS=\"{codecs}\"");
        }
        let _ = write!(text, "\n{stream}/{}.m3u8\n", path_element(&track.name));
    }
    Some(text)
}

/// One rendition's media playlist, or `None` for a rendition that the stream does not have. It ends
/// when the stream is `over`.
pub fn media(
    stream: &StreamId,
    track: &str,
    window: &HlsWindow,
    rules: HlsRules,
    over: bool,
) -> Option<String> {
    window.track(track)?;
    let (shown, mut media_sequence, mut breaks) = window.shown(rules);
    // Segments from before this rendition existed: they keep their numbers, and it starts later.
    let skip = shown.iter().take_while(|e| e.file(track).is_none()).count();
    let (before, shown) = shown.split_at(skip);
    media_sequence += skip as u64;
    breaks += before.iter().filter(|e| e.discontinuity).count() as u64;
    // It must not change (RFC 8216 section 6.2.1); how long a segment will be nobody knows beforehand,
    // so that it rises if it has to, and never falls.
    let longest_ms = shown.iter().map(|e| e.duration_ms).max().unwrap_or(2_000);
    let target_s = longest_ms.max(window.longest_ms).div_ceil(1000).max(1);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{target_s}\n#EXT-X-MEDIA-SEQUENCE:{media_sequence}\n"
    );
    if breaks > 0 {
        let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{breaks}");
    }
    for entry in shown {
        if entry.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if entry.file(track).is_none() {
            // RFC 8216 section 4.4.4.7 keeps the numbering whole where a rendition has a hole.
            text.push_str("#EXT-X-GAP\n");
        }
        let (s, ms) = (entry.duration_ms / 1000, entry.duration_ms % 1000);
        let name = path_element(track);
        let mp4 = entry.file(track).is_some_and(|key| key.0.ends_with(".mp4"));
        let extension = if mp4 { "mp4" } else { "ts" };
        let _ =
            write!(text, "#EXTINF:{s}.{ms:03},\n/stream/{stream}/{name}/{}.{extension}", entry.seq);
        // A stream that begins again counts anew: the content makes the name unique, so that it
        // can be cached.
        if let Some(mark) = entry.mark(track) {
            let _ = write!(text, "?h={mark}");
        }
        text.push('\n');
    }
    if over {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    Some(text)
}

/// Percent-encodes what a rendition name may have and a path element may not.
pub fn path_element(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;
    use penstock_store::{HlsEntry, HlsTrack, SegmentKey, UnixMs};
    use rand::Rng;

    const RULES: HlsRules = HlsRules { shown: 6, kept: 12, gap_wait_ms: 3_000, gap_waiting: 3 };

    fn track(name: &str, width: u32) -> HlsTrack {
        HlsTrack {
            name: name.into(),
            width,
            height: width / 2,
            bandwidth: u64::from(width) * 10,
            codecs: (width > 0).then(|| "avc1.64001f".into()),
        }
    }

    fn window(seqs: &[u64]) -> HlsWindow {
        let mut w = HlsWindow::default();
        for &seq in seqs {
            let file = |t: &str| (t.to_owned(), SegmentKey(format!("{t}/{seq}")));
            let files = vec![file("source"), file("P240p30fps16x9")];
            let entry =
                HlsEntry { seq, duration_ms: 2_002, at: UnixMs(0), discontinuity: false, files };
            let tracks = [track("source", 0), track("P240p30fps16x9", 426)];
            w.insert(&tracks, entry, RULES, UnixMs(0));
        }
        w
    }

    #[test]
    fn the_target_duration_never_falls() {
        let id = StreamId::new("show").unwrap();
        let mut w = HlsWindow::default();
        let mut targets = Vec::new();
        for seq in 0..20 {
            let duration_ms = if seq == 1 { 4_500 } else { 2_000 };
            let files = vec![("source".to_owned(), SegmentKey(seq.to_string()))];
            let entry = HlsEntry { seq, duration_ms, at: UnixMs(0), discontinuity: false, files };
            w.insert(&[track("source", 0)], entry, RULES, UnixMs(0));
            let text = media(&id, "source", &w, RULES, false).unwrap();
            let target = text.lines().find_map(|l| l.strip_prefix("#EXT-X-TARGETDURATION:"));
            targets.push(target.unwrap().to_owned());
        }
        assert_eq!(targets[0], "2");
        assert!(targets[1..].iter().all(|t| t == "5"), "{targets:?}");
    }

    #[test]
    fn master_lists_variants_source_first() {
        let id = StreamId::new("show").unwrap();
        assert_eq!(master(&id, &HlsWindow::default()), None);
        assert_eq!(
            master(&id, &window(&[0])).unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:3\n\
             #EXT-X-STREAM-INF:PROGRAM-ID=0,BANDWIDTH=4000000\nshow/source.m3u8\n\
             #EXT-X-STREAM-INF:PROGRAM-ID=0,BANDWIDTH=4260,RESOLUTION=426x213,CODECS=\"avc1.64001f\"\n\
             show/P240p30fps16x9.m3u8\n"
        );
    }

    #[test]
    fn media_playlist() {
        let id = StreamId::new("show").unwrap();
        let rules = RULES;
        let w = window(&[0, 1, 3, 4, 5]);
        assert_eq!(media(&id, "nope", &w, rules, false), None);
        assert_eq!(
            media(&id, "source", &w, rules, false).unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXTINF:2.002,\n/stream/show/source/0.ts\n#EXTINF:2.002,\n/stream/show/source/1.ts\n\
             #EXT-X-DISCONTINUITY\n#EXTINF:2.002,\n/stream/show/source/3.ts\n\
             #EXTINF:2.002,\n/stream/show/source/4.ts\n#EXTINF:2.002,\n/stream/show/source/5.ts\n"
        );
    }

    #[test]
    fn the_window_slides_and_counts_breaks() {
        let id = StreamId::new("show").unwrap();
        let rules = RULES;
        let seqs: Vec<u64> = [0, 1].into_iter().chain(3..20).collect();
        let text = media(&id, "source", &window(&seqs), rules, false).unwrap();
        assert!(
            text.contains("#EXT-X-MEDIA-SEQUENCE:13\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"),
            "{text}"
        );
        assert_eq!(text.matches("#EXTINF").count(), 6);
    }

    #[test]
    fn a_rendition_that_came_later() {
        let id = StreamId::new("show").unwrap();
        let mut w = window(&[0, 1, 2]);
        w.entries[0].files.truncate(1);
        w.entries[2].files.truncate(1);
        let text = media(&id, "P240p30fps16x9", &w, RULES, false).unwrap();
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF"), "{text}");
        assert!(
            text.contains("#EXT-X-GAP\n#EXTINF:2.002,\n/stream/show/P240p30fps16x9/2.ts"),
            "{text}"
        );
    }

    #[test]
    fn names_differ_after_a_restart() {
        let id = StreamId::new("show").unwrap();
        let mut w = HlsWindow::default();
        for (hash, at) in [("0123456789abcdef", 0), ("fedcba9876543210", 60_000)] {
            let files = vec![("source".into(), SegmentKey(format!("show/source/0-{hash}.ts")))];
            let entry =
                HlsEntry { seq: 0, duration_ms: 2_000, at: UnixMs(0), discontinuity: false, files };
            w.insert(&[track("source", 0)], entry, RULES, UnixMs(at));
        }
        let text = media(&id, "source", &w, RULES, false).unwrap();
        assert!(
            text.ends_with(
                "\n/stream/show/source/0.ts?h=01234567\n#EXT-X-DISCONTINUITY\n\
                 #EXTINF:2.000,\n/stream/show/source/0.ts?h=fedcba98\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(path_element("a b/é\"\n"), "a%20b%2F%C3%A9%22%0A");
    }

    /// Whatever was pushed, a playlist is well formed: each duration is within the target, no name
    /// breaks a line, the numbers add up.
    #[test]
    fn whatever_was_pushed() {
        let (id, pieces) = (StreamId::new("s").unwrap(), ["a", "\n", "#EXT", "\"", "é", "/", " "]);
        cases(100_000, |rng| {
            let name = pieced(rng, &pieces, 3);
            let mut w = HlsWindow::default();
            for _ in 0..rng.random_range(0..6) {
                let files = vec![(name.clone(), SegmentKey("k.ts".into()))];
                let (seq, duration_ms) = (rng.random_range(0..8), rng.random_range(0..400_000));
                let entry =
                    HlsEntry { seq, duration_ms, at: UnixMs(0), discontinuity: false, files };
                w.insert(&[track(&name, 0)], entry, RULES, UnixMs(0));
            }
            let Some(text) = media(&id, &name, &w, RULES, false) else { return };
            let number = |tag: &str| {
                text.lines().find_map(|l| l.strip_prefix(tag)?.parse::<u64>().ok()).unwrap()
            };
            let target_ms = number("#EXT-X-TARGETDURATION:") * 1000;
            let shown = text.matches("\n#EXTINF").count() as u64;
            assert_eq!(
                number("#EXT-X-MEDIA-SEQUENCE:") + shown,
                w.media_sequence + w.entries.len() as u64
            );
            for line in text.lines() {
                assert!(line.starts_with("#EXT") || line.starts_with("/stream/s/"), "{text}");
            }
            assert!(w.entries.iter().all(|e| u64::from(e.duration_ms) <= target_ms), "{text}");
        });
    }
}

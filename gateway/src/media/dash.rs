//! The DASH manifest of a live window (ISO/IEC 23009-1, live profile): one period for each run
//! between discontinuities, one adaptation set for pictures and one for sound. Segments are named by
//! their place on the window's own timeline, so that a name means the same bytes for good. The schema
//! allows no blanks in a representation's id, so renditions are named there as in addresses.

use super::playlist::path_element;
use penstock_domain::StreamId;
use penstock_store::{HlsEntry, HlsRules, HlsTrack, HlsWindow, UnixMs};
use std::fmt::Write;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Media times run so far ahead of the period, so that decoding may begin before the first picture is
/// shown without times below zero.
pub const LEAD_MS: u64 = 1_000;

/// A segment's place.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The segment.
    pub entry: &'a HlsEntry,
    /// Milliseconds from the window's epoch.
    pub begin_ms: u64,
    /// How many discontinuities lie before it.
    pub period: u64,
}

/// All visible segments with their places.
pub fn placed(window: &HlsWindow) -> Vec<Placed<'_>> {
    let (mut begin_ms, mut period) = (window.timeline_ms, window.discontinuity_sequence);
    let place = |entry: &'_ HlsEntry| (entry.discontinuity, u64::from(entry.duration_ms));
    let mut all = Vec::with_capacity(window.entries.len());
    for entry in &window.entries {
        let (breaks, duration_ms) = place(entry);
        period += u64::from(breaks);
        all.push(Placed { entry, begin_ms, period });
        begin_ms += duration_ms;
    }
    all
}

/// The manifest as of `now`, or `None` when there is nothing that DASH players can be given: H.264 in
/// MPEG-TS segments is.
pub fn manifest(
    stream: &StreamId,
    window: &HlsWindow,
    rules: HlsRules,
    over: bool,
    now: UnixMs,
) -> Option<String> {
    let all = placed(window);
    let shown = all.get(all.len().saturating_sub(rules.shown)..)?;
    let (first, last) = (shown.first()?, shown.last()?);
    let tracks: Vec<_> = window.tracks.iter().filter(|track| playable(track)).collect();
    if tracks.is_empty() {
        return None;
    }
    let longest_ms = shown.iter().map(|p| p.entry.duration_ms).max()?;
    let end_ms = last.begin_ms + u64::from(last.entry.duration_ms);
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str("<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" ");
    text.push_str("profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" ");
    let _ = write!(text, "minBufferTime=\"{}\" ", span(longest_ms.into()));
    let _ = write!(text, "maxSegmentDuration=\"{}\" ", span(longest_ms.into()));
    if over {
        let _ = write!(text, "type=\"static\" mediaPresentationDuration=\"{}\">", span(end_ms));
    } else {
        let _ = write!(
            text,
            "type=\"dynamic\" availabilityStartTime=\"{}\" publishTime=\"{}\" \
             minimumUpdatePeriod=\"{}\" timeShiftBufferDepth=\"{}\" \
             suggestedPresentationDelay=\"{}\">",
            date(window.epoch),
            date(now),
            span(u64::from(longest_ms).max(1_000)),
            span(end_ms - first.begin_ms),
            span(u64::from(longest_ms) * 3),
        );
    }
    text.push('\n');
    let mut periods = 0;
    for run in shown.chunk_by(|a, b| a.period == b.period) {
        periods += u32::from(period(&mut text, stream, window, &tracks, run));
    }
    if periods == 0 {
        return None;
    }
    if !over {
        // The schema wants it behind the periods.
        let _ = writeln!(
            text,
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"{}\"/>",
            date(now)
        );
    }
    text.push_str("</MPD>\n");
    Some(text)
}

/// H.264 whose parameters are known, from MPEG-TS.
fn playable(track: &HlsTrack) -> bool {
    track.codecs.as_deref().is_some_and(|codecs| codecs.starts_with("avc1."))
}

fn is_ts(entry: &HlsEntry, track: &str) -> bool {
    entry.file(track).is_some_and(|key| key.0.ends_with(".ts"))
}

/// Whether there is anything in it to be played.
fn period(
    text: &mut String,
    stream: &StreamId,
    window: &HlsWindow,
    tracks: &[&HlsTrack],
    run: &[Placed<'_>],
) -> bool {
    let Some(first) = run.first() else { return false };
    // A timeline has at least one segment.
    let in_run = |track: &&HlsTrack| run.iter().any(|place| is_ts(place.entry, &track.name));
    let tracks: Vec<_> = tracks.iter().copied().filter(in_run).collect();
    if tracks.is_empty() {
        return false;
    }
    let _ = writeln!(
        text,
        "<Period id=\"{}-{}\" start=\"{}\">",
        window.epoch.0,
        first.period,
        span(first.begin_ms)
    );
    text.push_str("<AdaptationSet id=\"0\" contentType=\"video\" mimeType=\"video/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\">\n");
    for track in &tracks {
        let video = track.codecs.as_deref().and_then(|c| c.split(',').next()).unwrap_or_default();
        let _ = write!(
            text,
            "<Representation id=\"{}\" codecs=\"{}\" bandwidth=\"{}\"",
            path_element(&track.name),
            attribute(video),
            track.bandwidth.max(1)
        );
        if track.width > 0 && track.height > 0 {
            let _ = write!(text, " width=\"{}\" height=\"{}\"", track.width, track.height);
        }
        text.push_str(">\n");
        template(text, stream, window, &track.name, run, first, "v");
        text.push_str("</Representation>\n");
    }
    text.push_str("</AdaptationSet>\n");
    let sound = |track: &&&HlsTrack| track.codecs.as_deref().is_some_and(|c| c.contains("mp4a"));
    if let Some(track) = tracks.iter().find(sound) {
        let codecs = track.codecs.as_deref().and_then(|c| c.split(',').nth(1)).unwrap_or_default();
        text.push_str("<AdaptationSet id=\"1\" contentType=\"audio\" mimeType=\"audio/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\">\n");
        let _ = writeln!(
            text,
            "<Representation id=\"{}/sound\" codecs=\"{}\" bandwidth=\"128000\">",
            path_element(&track.name),
            attribute(codecs)
        );
        template(text, stream, window, &track.name, run, first, "a");
        text.push_str("</Representation>\n</AdaptationSet>\n");
    }
    text.push_str("</Period>\n");
    true
}

fn template(
    text: &mut String,
    stream: &StreamId,
    window: &HlsWindow,
    track: &str,
    run: &[Placed<'_>],
    first: &Placed<'_>,
    kind: &str,
) {
    let name = attribute(&path_element(track).replace('$', "$$"));
    let (epoch, period) = (window.epoch.0, first.period);
    let _ = writeln!(
        text,
        "<SegmentTemplate timescale=\"1000\" presentationTimeOffset=\"{}\" \
         initialization=\"{stream}/{name}/{epoch}-p{period}.{kind}.mp4\" \
         media=\"{stream}/{name}/{epoch}-$Time$.m4{kind}\">\n<SegmentTimeline>",
        first.begin_ms + LEAD_MS
    );
    for place in run.iter().filter(|place| is_ts(place.entry, track)) {
        let _ = writeln!(
            text,
            "<S t=\"{}\" d=\"{}\"/>",
            place.begin_ms + LEAD_MS,
            place.entry.duration_ms
        );
    }
    text.push_str("</SegmentTimeline>\n</SegmentTemplate>\n");
}

/// `PT1.5S`
fn span(ms: u64) -> String {
    format!("PT{}.{:03}S", ms / 1000, ms % 1000)
}

fn date(at: UnixMs) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('_'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_store::SegmentKey;

    const RULES: HlsRules = HlsRules { shown: 6, kept: 12, gap_wait_ms: 0, gap_waiting: 3 };

    fn window(seqs: &[u64]) -> HlsWindow {
        let track = |name: &str, codecs: Option<&str>| HlsTrack {
            name: name.into(),
            width: 160,
            height: 90,
            bandwidth: 5,
            codecs: codecs.map(str::to_owned),
        };
        let tracks = [
            track("source", Some("avc1.64001f,mp4a.40.2")),
            track("a &\"b", Some("avc1.42c01e")),
            track("noise", None),
        ];
        let mut w = HlsWindow::default();
        for (n, &seq) in seqs.iter().enumerate() {
            let file = |t: &str| (t.to_owned(), SegmentKey(format!("show/{t}/{seq}-00.ts")));
            let entry = HlsEntry {
                seq,
                duration_ms: 2_002,
                at: UnixMs(0),
                discontinuity: false,
                files: vec![file("source"), file("a &\"b"), file("noise")],
            };
            w.insert(&tracks, entry, RULES, UnixMs(1_700_000_000_000 + n as u64 * 2_000));
        }
        w
    }

    #[test]
    fn a_live_stream() {
        let id = StreamId::new("show").unwrap();
        let w = window(&[0, 1, 2, 4, 5, 6, 7]);
        let text = manifest(&id, &w, RULES, false, UnixMs(1_700_000_020_000)).unwrap();
        assert!(
            text.contains("type=\"dynamic\" availabilityStartTime=\"2023-11-14T22:13:17.998Z\""),
            "{text}"
        );
        // The first of seven has left; the gap begins a period.
        assert!(text.contains("<Period id=\"1699999997998-0\" start=\"PT2.002S\">"), "{text}");
        assert!(text.contains("<Period id=\"1699999997998-1\" start=\"PT6.006S\">"), "{text}");
        assert!(text.contains("presentationTimeOffset=\"7006\" initialization=\"show/source/1699999997998-p1.v.mp4\" media=\"show/source/1699999997998-$Time$.m4v\""), "{text}");
        assert_eq!(text.matches("<S t=\"7006\" d=\"2002\"/>").count(), 3, "two videos, one sound");
        assert!(text.contains("codecs=\"mp4a.40.2\"") && !text.contains("noise"));
        assert!(text.contains("id=\"a%20%26%22b\""), "{text}");
        assert!(text.contains("id=\"source/sound\""), "{text}");
        let (last, clock) = (text.rfind("</Period>"), text.find("<UTCTiming"));
        assert!(last < clock && clock.is_some(), "in the schema's order: {text}");
    }

    /// What has nothing to be fetched in a period is not offered in it.
    #[test]
    fn renditions_that_a_period_lacks() {
        let id = StreamId::new("show").unwrap();
        let mut w = window(&[0, 2, 3]);
        let (before, after) = w.entries.split_at_mut(1);
        before[0].files.retain(|(name, _)| name == "source");
        for (_, file) in after.iter_mut().flat_map(|entry| &mut entry.files) {
            file.0 = file.0.replace(".ts", ".mp4");
        }
        let text = manifest(&id, &w, RULES, false, UnixMs(0)).unwrap();
        assert_eq!(text.matches("<Period ").count(), 1, "{text}");
        assert_eq!(text.matches("<Representation ").count(), 2, "the source and its sound: {text}");
        assert_eq!(text.matches("<SegmentTimeline>\n<S ").count(), 2, "{text}");
    }

    #[test]
    fn ends() {
        let id = StreamId::new("show").unwrap();
        assert_eq!(manifest(&id, &HlsWindow::default(), RULES, false, UnixMs(0)), None);
        let text = manifest(&id, &window(&[0, 1]), RULES, true, UnixMs(0)).unwrap();
        assert!(text.contains("type=\"static\" mediaPresentationDuration=\"PT4.004S\""), "{text}");
    }
}

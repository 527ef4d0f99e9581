//! Cuts what a publisher sends into segments: a new one at the first key frame after the target
//! duration. Pure: it knows no clock but the publisher's.

use crate::media::{
    aac::AacConfig,
    avc::AvcConfig,
    flv::{self, BadTag, Tag},
    ts::{CLOCK, mux::Muxer},
};
use bytes::Bytes;
use thiserror::Error;

/// How long segments are to be; the key frames decide.
const TARGET: u64 = 2 * CLOCK;
/// Without a key frame for so long there is nothing to cut at (the reference gives up at 20 s too).
const LONGEST: u64 = 20 * CLOCK;
/// A picture so much later than the one before is not its neighbour.
const JUMP: u64 = 10 * CLOCK;
/// A publisher that begins with less than this much sound and no picture gets patience.
const WITHOUT_VIDEO: u32 = 3_000;
/// Offsets of B-frames are below this; more is a lie.
const MOST_OFFSET_MS: i32 = 10_000;

/// A finished segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The transport stream.
    pub data: Bytes,
    /// Milliseconds.
    pub duration_ms: u32,
    /// Its times do not go on from the segment before.
    pub discontinuity: bool,
}

/// Why a publication ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unusable {
    /// A message.
    #[error(transparent)]
    Tag(#[from] BadTag),
    /// Key frames too far apart.
    #[error("no key frame for 20 s: set the encoder's keyframe interval to 2 s")]
    NoKeyFrame,
    /// Sound only.
    #[error("there is no video")]
    NoVideo,
    /// A segment above the limit.
    #[error("more than {0} bits a second")]
    TooFast(u64),
}

/// The state of one publication.
#[derive(Debug)]
pub struct Segmenter {
    muxer: Muxer,
    video: Option<AvcConfig>,
    audio: Option<AacConfig>,
    current: Option<Current>,
    video_clock: Clock,
    audio_clock: Clock,
    /// Audio messages before the first picture.
    silent: u32,
    /// The next segment does not go on from the last.
    breaks: bool,
    /// The decoder has to begin anew at the next key frame.
    reconfigured: bool,
    most_bits_per_second: u64,
}

#[derive(Debug)]
struct Current {
    data: Vec<u8>,
    begin: u64,
    newest: u64,
    /// Of the newest picture.
    length: u64,
    with_audio: bool,
    discontinuity: bool,
}

impl Current {
    fn cut(mut self, end: u64) -> Cut {
        self.data.shrink_to_fit();
        let ms = end.saturating_sub(self.begin) * 1000 / CLOCK;
        Cut {
            data: self.data.into(),
            duration_ms: u32::try_from(ms).unwrap_or(u32::MAX).max(1),
            discontinuity: self.discontinuity,
        }
    }
}

impl Segmenter {
    /// For a publisher that may send so much.
    pub fn new(most_bits_per_second: u64) -> Self {
        Self {
            muxer: Muxer::default(),
            video: None,
            audio: None,
            current: None,
            video_clock: Clock::default(),
            audio_clock: Clock::default(),
            silent: 0,
            breaks: false,
            reconfigured: false,
            most_bits_per_second,
        }
    }

    /// Bytes of memory for the segment in work.
    pub fn held(&self) -> usize {
        self.current.as_ref().map_or(0, |c| c.data.capacity())
    }

    /// A video message; a segment if one is finished by it.
    pub fn video(&mut self, timestamp_ms: u32, body: &[u8]) -> Result<Option<Cut>, Unusable> {
        match flv::video(body)? {
            Tag::VideoConfig(config) => {
                self.reconfigured |= self.video.as_ref().is_some_and(|known| *known != config);
                self.video = Some(config);
                Ok(None)
            }
            Tag::Video { offset_ms, key, unit } => {
                // Not rising: dropped, as in the reference. The decoder could not place it.
                let Some(dts) = self.video_clock.next(timestamp_ms) else { return Ok(None) };
                let offset = offset_ms.clamp(0, MOST_OFFSET_MS).unsigned_abs();
                self.picture(dts, dts + u64::from(offset) * (CLOCK / 1000), key, unit)
            }
            _ => Ok(None),
        }
    }

    /// An audio message.
    pub fn audio(&mut self, timestamp_ms: u32, body: &[u8]) -> Result<(), Unusable> {
        match flv::audio(body)? {
            Tag::AudioConfig(config) => self.audio = Some(config),
            Tag::Audio(frame) => {
                let Some(pts) = self.audio_clock.next(timestamp_ms) else { return Ok(()) };
                let Some(current) = &mut self.current else {
                    // Sound before the first picture is dropped: a segment begins with a picture.
                    self.silent += 1;
                    return if self.silent > WITHOUT_VIDEO {
                        Err(Unusable::NoVideo)
                    } else {
                        Ok(())
                    };
                };
                if let (true, Some(header)) =
                    (current.with_audio, self.audio.and_then(|config| config.adts(frame.len())))
                {
                    let framed = [&header[..], frame].concat();
                    self.muxer.audio(&mut current.data, pts, &framed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is left when the publisher stops.
    pub fn finish(&mut self) -> Option<Cut> {
        let current = self.current.take()?;
        let end = current.newest + current.length;
        Some(current.cut(end))
    }

    fn picture(
        &mut self,
        dts: u64,
        pts: u64,
        key: bool,
        unit: &[u8],
    ) -> Result<Option<Cut>, Unusable> {
        let Some(unit) = self.video.as_ref().and_then(|config| config.annex_b(unit, key)) else {
            // Before its parameter sets, or damaged.
            return Ok(None);
        };
        let jumped = self.current.as_ref().is_some_and(|c| dts - c.newest > JUMP);
        let due = self
            .current
            .as_ref()
            .is_none_or(|c| jumped || self.reconfigured || dts - c.begin >= TARGET);
        let mut finished = None;
        if key && due {
            if let Some(current) = self.current.take() {
                let end = if jumped { current.newest + current.length } else { dts };
                finished = Some(current.cut(end));
            }
            let discontinuity = jumped || std::mem::take(&mut self.reconfigured) || self.breaks;
            self.breaks = false;
            let mut data = Vec::new();
            let with_audio = self.audio.is_some();
            self.muxer.begin(&mut data, with_audio);
            let length = CLOCK / 30;
            self.current =
                Some(Current { data, begin: dts, newest: dts, length, with_audio, discontinuity });
        }
        let Some(current) = &mut self.current else { return Ok(finished) };
        if dts - current.begin > LONGEST {
            return Err(Unusable::NoKeyFrame);
        }
        if dts > current.newest {
            current.length = (dts - current.newest).min(CLOCK);
            current.newest = dts;
        }
        self.muxer.video(&mut current.data, pts, dts, key, &unit);
        // Measured over at least the target, so that a large first picture is no offence.
        let span = (current.newest - current.begin).max(TARGET);
        let most = self.most_bits_per_second.saturating_mul(span) / CLOCK / 8;
        if current.data.len() as u64 > most {
            return Err(Unusable::TooFast(self.most_bits_per_second));
        }
        Ok(finished)
    }
}

/// A publisher's milliseconds, 32 bits that wrap, as rising ticks.
#[derive(Debug, Default)]
struct Clock {
    newest_ms: Option<u64>,
}

impl Clock {
    /// The time in ticks; `None` when it does not rise.
    fn next(&mut self, timestamp_ms: u32) -> Option<u64> {
        let ms = match self.newest_ms {
            None => u64::from(timestamp_ms),
            Some(newest) => {
                let ahead = timestamp_ms.wrapping_sub((newest & 0xffff_ffff) as u32);
                if ahead == 0 || ahead > u32::MAX / 2 {
                    return None;
                }
                newest + u64::from(ahead)
            }
        };
        self.newest_ms = Some(ms);
        Some(ms * (CLOCK / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{generated::*, ts::demux};
    use rand::Rng;

    const MOST: u64 = 50_000_000;
    const SETS: [u8; 26] = [
        0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 6, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 1,
        0, 4, 0x68, 0xeb, 0xe3, 0xcb,
    ];
    const SOUND: [u8; 4] = [0xaf, 0, 0x12, 0x10];

    fn picture(key: bool) -> Vec<u8> {
        let (first, nal) = if key { (0x17, 0x65) } else { (0x27, 0x41) };
        vec![first, 1, 0, 0, 0, 0, 0, 0, 3, nal, 1, 2]
    }

    fn started() -> Segmenter {
        let mut s = Segmenter::new(MOST);
        s.video(0, &SETS).unwrap();
        s.audio(0, &SOUND).unwrap();
        s
    }

    #[test]
    fn cuts_at_key_frames() {
        let mut s = started();
        let mut cuts = Vec::new();
        // 25 pictures a second, a key frame each second.
        for n in 0..150u32 {
            cuts.extend(s.video(n * 40, &picture(n % 25 == 0)).unwrap());
            s.audio(n * 40 + 1, &[0xaf, 1, 9, 9]).unwrap();
        }
        cuts.extend(s.finish());
        assert_eq!(cuts.iter().map(|c| c.duration_ms).collect::<Vec<_>>(), [2000, 2000, 2000]);
        for cut in &cuts {
            let media = demux::read(&cut.data).unwrap();
            assert_eq!((media.video.len(), media.audio.len()), (50, 50));
            assert!(media.video[0].key && !cut.discontinuity);
        }
        assert_eq!(s.finish(), None);
    }

    #[test]
    fn what_does_not_rise_is_dropped_and_jumps_are_marked() {
        let mut s = started();
        assert_eq!(s.video(100, &picture(false)).unwrap(), None);
        s.video(200, &picture(true)).unwrap();
        s.video(240, &picture(false)).unwrap();
        s.video(240, &picture(false)).unwrap();
        s.video(120, &picture(false)).unwrap();
        let cut = s.video(60_000, &picture(true)).unwrap().unwrap();
        assert_eq!(demux::read(&cut.data).unwrap().video.len(), 2);
        assert_eq!(cut.duration_ms, 80);
        assert!(!cut.discontinuity);
        assert!(s.finish().unwrap().discontinuity);
    }

    #[test]
    fn a_new_size_begins_a_segment() {
        let mut s = started();
        s.video(0, &picture(true)).unwrap();
        let mut other = SETS;
        other[18] = 0xaa;
        s.video(40, &other).unwrap();
        assert!(s.video(40, &picture(true)).unwrap().is_some());
        assert!(s.finish().unwrap().discontinuity);
    }

    #[test]
    fn refusals() {
        let mut s = started();
        s.video(0, &picture(true)).unwrap();
        for n in 1..=500 {
            assert_eq!(s.video(n * 40, &picture(false)), Ok(None));
        }
        assert_eq!(s.video(20_040, &picture(false)), Err(Unusable::NoKeyFrame));
        let mut s = started();
        let refused = (0..4_000).find_map(|n| s.audio(n * 23, &[0xaf, 1, 1]).err());
        assert_eq!(refused, Some(Unusable::NoVideo));
        let mut s = started();
        s.most_bits_per_second = 1_000;
        assert_eq!(s.video(0, &picture(true)), Err(Unusable::TooFast(1_000)));
    }

    #[test]
    fn timestamps_wrap() {
        let mut clock = Clock::default();
        assert_eq!(clock.next(u32::MAX - 9), Some((u64::from(u32::MAX) - 9) * 90));
        assert_eq!(clock.next(10), Some((u64::from(u32::MAX) + 11) * 90));
        assert_eq!(clock.next(5), None);
    }

    #[test]
    fn whatever_is_sent() {
        cases(100_000, |rng| {
            let mut s = started();
            for _ in 0..rng.random_range(1..6) {
                let at =
                    if rng.random_bool(0.9) { rng.random_range(0..9_000) } else { rng.random() };
                let body = match rng.random_range(0..4) {
                    0 => damaged(rng, &SETS, 2),
                    1 => damaged(rng, &[0xaf, 1, 9, 9], 1),
                    _ => {
                        let key = rng.random();
                        damaged(rng, &picture(key), 1)
                    }
                };
                let ended = match rng.random() {
                    true => s.video(at, &body).map(|cut| {
                        assert!(cut.is_none_or(|cut| cut.data.len() % 188 == 0));
                    }),
                    false => s.audio(at, &body),
                };
                if ended.is_err() {
                    return;
                }
            }
            assert!(s.finish().is_none_or(|cut| cut.duration_ms > 0));
        });
    }
}

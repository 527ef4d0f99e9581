//! Fragmented MP4 out of transport streams: the initialisation segment and the fragments that DASH
//! players and downloads want. Nothing is decoded; times are moved to where the playlist has the
//! segment, so that streams whose clocks jump play through.

use super::{
    aac::AacConfig,
    avc::{self, AvcConfig},
    sps,
    ts::{CLOCK, demux},
};

/// Ticks of the video track in a second.
pub const VIDEO_SCALE: u32 = CLOCK as u32;

/// A track as the initialisation segment says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Track {
    /// H.264.
    Video {
        /// Parameter sets.
        config: AvcConfig,
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
    /// AAC.
    Audio(AacConfig),
}

impl Track {
    /// Ticks a second.
    pub fn scale(&self) -> u32 {
        match self {
            Self::Video { .. } => VIDEO_SCALE,
            Self::Audio(config) => config.rate(),
        }
    }

    /// RFC 6381.
    pub fn codec(&self) -> String {
        match self {
            Self::Video { config, .. } => config.codec(),
            Self::Audio(config) => config.codec(),
        }
    }
}

/// A sample of a track, in its ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    duration: u32,
    offset: i32,
    key: bool,
    data: Vec<u8>,
}

/// One track's part of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which track this belongs to.
    pub track: Track,
    begin: u64,
    samples: Vec<Sample>,
}

/// A segment taken apart, each track with times relative to the segment's begin on the playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The video.
    pub video: Part,
    /// The sound, if there is any.
    pub audio: Option<Part>,
}

/// What a segment says about its own times, 1/90,000 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When its first picture is shown.
    pub pts: i64,
    /// How much earlier decoding begins.
    pub delay: u32,
}

/// Which tracks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Want {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Both, in one file.
    Both,
}

impl Cut {
    /// Reads a transport stream segment whose first picture is shown at `begin_ms`; decoding begins
    /// as much earlier as the stream wants, if that is not before 0. `None` when there is no H.264
    /// video with its parameter sets in it.
    pub fn of_ts(bytes: &[u8], begin_ms: u64) -> Option<Self> {
        Self::placed(bytes, |_| begin_ms)
    }

    /// The same, shown where `place` says by the segment's own times.
    pub fn placed(bytes: &[u8], place: impl FnOnce(Place) -> u64) -> Option<Self> {
        let media = demux::read(bytes)?;
        let first = media.video.first()?;
        let config = media.video.iter().find_map(|f| AvcConfig::of_unit(&f.data))?;
        let (width, height) = size(&config);
        let zero = media.video.iter().map(|f| f.pts).min().unwrap_or(first.pts);
        let delay = u32::try_from(zero - first.dts).unwrap_or(0);
        let begin_ms = place(Place { pts: zero, delay });
        let shown = i64::try_from(begin_ms.saturating_mul(CLOCK / 1000)).unwrap_or(i64::MAX / 2);
        let begin = (shown - (zero - first.dts)).max(0);
        let mut samples = Vec::with_capacity(media.video.len());
        let mut last_duration = 3_000;
        for (n, frame) in media.video.iter().enumerate() {
            let next = media.video.get(n + 1).map(|next| next.dts - frame.dts);
            let duration = next.and_then(|d| u32::try_from(d).ok()).unwrap_or(last_duration);
            last_duration = duration;
            let offset = (shown + frame.pts - zero) - (begin + frame.dts - first.dts);
            samples.push(Sample {
                duration,
                offset: i32::try_from(offset).unwrap_or(0),
                key: frame.key,
                data: avc::prefixed(&frame.data),
            });
        }
        let begin = u64::try_from(begin).unwrap_or(0);
        let video = Part { track: Track::Video { config, width, height }, begin, samples };
        let audio = audio(&media.audio, zero, shown);
        Some(Self { video, audio })
    }

    /// Where the pictures end.
    pub fn end_ms(&self) -> u64 {
        let Part { begin, samples, .. } = &self.video;
        let delay = samples.first().map_or(0, |sample| i64::from(sample.offset).max(0));
        let ticks: u64 = samples.iter().map(|sample| u64::from(sample.duration)).sum();
        begin.saturating_add(delay.unsigned_abs()).saturating_add(ticks) / (CLOCK / 1000)
    }

    /// Lets the sound begin no earlier than what came before it ended, both in the sound's ticks: what
    /// is heard twice is left out. Where it ends then; `ended` when there is none.
    pub fn sound_after(&mut self, ended: u64) -> u64 {
        let Some(part) = &mut self.audio else { return ended };
        let twice = ended.saturating_sub(part.begin);
        // Times are rounded where segments meet: half a frame is none.
        let frames = usize::try_from(twice.saturating_add(511) / 1024).unwrap_or(usize::MAX);
        if frames >= part.samples.len() {
            self.audio = None;
            return ended;
        }
        part.samples.drain(..frames);
        part.begin = part.begin.saturating_add(frames as u64 * 1024).max(ended);
        part.begin.saturating_add(part.samples.len() as u64 * 1024)
    }

    /// The tracks wanted, numbered from 1.
    fn parts(&self, want: Want) -> Vec<(u32, &Part)> {
        let video = (want != Want::Audio).then_some(&self.video);
        let audio = self.audio.as_ref().filter(|_| want != Want::Video);
        (1..).zip(video.into_iter().chain(audio)).collect()
    }

    /// The initialisation segment.
    pub fn init(&self, want: Want) -> Vec<u8> {
        let parts = self.parts(want);
        let mut out = Vec::new();
        mp4(&mut out, b"ftyp", |b| {
            b.extend(*b"iso5");
            u32s(b, &[512]);
            b.extend(*b"iso5iso6mp41avc1");
        });
        mp4(&mut out, b"moov", |b| {
            mp4(b, b"mvhd", |b| {
                u32s(b, &[0, 0, 0, 1000, 0, 0x0001_0000, 0x0100_0000, 0, 0]);
                u32s(b, &MATRIX);
                u32s(b, &[0, 0, 0, 0, 0, 0, 3]);
            });
            parts.iter().for_each(|(id, part)| trak(b, *id, &part.track));
            mp4(b, b"mvex", |b| {
                for (id, _) in &parts {
                    mp4(b, b"trex", |b| u32s(b, &[0, *id, 1, 0, 0, 0]));
                }
            });
        });
        out
    }

    /// The fragment; `number` counts fragments from 1.
    pub fn fragment(&self, number: u32, want: Want) -> Vec<u8> {
        let parts = self.parts(want);
        let mut moof = Vec::new();
        // Where each track's data lies depends on the size of this very box: made twice.
        let mut at = 0;
        for _ in 0..2 {
            moof.clear();
            let mut data_at = at;
            mp4(&mut moof, b"moof", |b| {
                mp4(b, b"mfhd", |b| u32s(b, &[0, number]));
                for (id, part) in &parts {
                    traf(b, *id, part, data_at);
                    data_at += part.samples.iter().map(|s| s.data.len()).sum::<usize>();
                }
            });
            at = moof.len() + 8;
        }
        let mut out = moof;
        mp4(&mut out, b"mdat", |b| {
            let samples = parts.iter().flat_map(|(_, part)| &part.samples);
            samples.for_each(|s| b.extend_from_slice(&s.data));
        });
        out
    }
}

fn audio(frames: &[demux::AudioFrame], zero: i64, shown: i64) -> Option<Part> {
    let config = frames.first()?.config;
    let scale = i64::from(config.rate());
    let tick = CLOCK as i64;
    let at = |pts: i64| shown.saturating_add(pts - zero).saturating_mul(scale) / tick;
    // What would be heard before the timeline begins is left out.
    let mut frames = frames.iter().filter(|f| f.config == config && at(f.pts) >= 0).peekable();
    let begin = u64::try_from(at(frames.peek()?.pts)).ok()?;
    let samples =
        frames.map(|f| Sample { duration: 1024, offset: 0, key: true, data: f.data.clone() });
    Some(Part { track: Track::Audio(config), begin, samples: samples.collect() })
}

fn size(config: &AvcConfig) -> (u16, u16) {
    let mut probe = super::probe::Probe::default();
    let sps = config.sps.first().map(Vec::as_slice).unwrap_or_default();
    let stream = [&[0, 0, 0, 1][..], sps].concat();
    if let Some(found) = sps::find_in_stream(&stream) {
        found.describe(&mut probe);
    }
    let side = |n| u16::try_from(n).unwrap_or(0);
    (side(probe.width), side(probe.height))
}

const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

fn trak(b: &mut Vec<u8>, id: u32, track: &Track) {
    let (width, height, volume) = match track {
        Track::Video { width, height, .. } => (*width, *height, 0),
        Track::Audio(_) => (0, 0, 0x0100_0000),
    };
    mp4(b, b"trak", |b| {
        mp4(b, b"tkhd", |b| {
            u32s(b, &[7, 0, 0, id, 0, 0, 0, 0, 0, volume]);
            u32s(b, &MATRIX);
            u32s(b, &[u32::from(width) << 16, u32::from(height) << 16]);
        });
        mp4(b, b"mdia", |b| {
            // Language "und".
            mp4(b, b"mdhd", |b| u32s(b, &[0, 0, 0, track.scale(), 0, 0x55c4_0000]));
            let (handler, name) = match track {
                Track::Video { .. } => (b"vide", &b"video\0"[..]),
                Track::Audio(_) => (b"soun", &b"sound\0"[..]),
            };
            mp4(b, b"hdlr", |b| {
                u32s(b, &[0, 0]);
                b.extend(handler);
                u32s(b, &[0, 0, 0]);
                b.extend(name);
            });
            mp4(b, b"minf", |b| {
                match track {
                    Track::Video { .. } => mp4(b, b"vmhd", |b| u32s(b, &[1, 0, 0])),
                    Track::Audio(_) => mp4(b, b"smhd", |b| u32s(b, &[0, 0])),
                }
                mp4(b, b"dinf", |b| {
                    mp4(b, b"dref", |b| {
                        u32s(b, &[0, 1]);
                        mp4(b, b"url ", |b| u32s(b, &[1]));
                    });
                });
                mp4(b, b"stbl", |b| {
                    mp4(b, b"stsd", |b| {
                        u32s(b, &[0, 1]);
                        sample_entry(b, track);
                    });
                    mp4(b, b"stts", |b| u32s(b, &[0, 0]));
                    mp4(b, b"stsc", |b| u32s(b, &[0, 0]));
                    mp4(b, b"stsz", |b| u32s(b, &[0, 0, 0]));
                    mp4(b, b"stco", |b| u32s(b, &[0, 0]));
                });
            });
        });
    });
}

fn sample_entry(b: &mut Vec<u8>, track: &Track) {
    match track {
        Track::Video { config, width, height } => mp4(b, b"avc1", |b| {
            u32s(b, &[0, 1, 0, 0, 0, 0]);
            b.extend(width.to_be_bytes());
            b.extend(height.to_be_bytes());
            u32s(b, &[0x0048_0000, 0x0048_0000, 0]);
            b.extend([0, 1]);
            b.extend([0; 32]);
            b.extend([0, 0x18, 0xff, 0xff]);
            mp4(b, b"avcC", |b| b.extend(config.record()));
        }),
        Track::Audio(config) => mp4(b, b"mp4a", |b| {
            u32s(b, &[0, 1, 0, 0]);
            let rate = u32::from(u16::try_from(config.rate()).unwrap_or(0));
            u32s(b, &[u32::from(config.channels) << 16 | 16, 0, rate << 16]);
            mp4(b, b"esds", |b| {
                let specific = config.specific();
                u32s(b, &[0]);
                // ES descriptor, decoder configuration (AAC, audio), the configuration, SL.
                b.extend([3, 25, 0, 0, 0, 4, 17, 0x40, 0x15, 0, 0, 0]);
                u32s(b, &[0, 0]);
                b.extend([5, 2]);
                b.extend(specific);
                b.extend([6, 1, 2]);
            });
        }),
    }
}

fn traf(b: &mut Vec<u8>, id: u32, part: &Part, data_at: usize) {
    mp4(b, b"traf", |b| {
        // Data offsets count from the beginning of the fragment.
        mp4(b, b"tfhd", |b| u32s(b, &[0x0002_0000, id]));
        mp4(b, b"tfdt", |b| {
            u32s(b, &[0x0100_0000]);
            b.extend(part.begin.to_be_bytes());
        });
        mp4(b, b"trun", |b| {
            let count = u32::try_from(part.samples.len()).unwrap_or(0);
            u32s(b, &[0x0100_0f01, count, u32::try_from(data_at).unwrap_or(0)]);
            for sample in &part.samples {
                let flags = if sample.key { 0x0200_0000 } else { 0x0101_0000 };
                let size = u32::try_from(sample.data.len()).unwrap_or(0);
                u32s(b, &[sample.duration, size, flags]);
                b.extend(sample.offset.to_be_bytes());
            }
        });
    });
}

fn u32s(b: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| b.extend(value.to_be_bytes()));
}

/// A box: its size is filled in when its content is known.
fn mp4(out: &mut Vec<u8>, kind: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    out.extend(u32::try_from(body.len() + 8).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(kind);
    out.extend(body);
}

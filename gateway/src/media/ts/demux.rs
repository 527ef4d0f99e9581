//! Takes a transport stream apart into access units: the first H.264 stream and the first AAC
//! stream of its program. For segments that orchestrators made, which are not trusted: the work and
//! the memory are bounded by the file's size.

use super::{CLOCK_MASK, PACKET};
use crate::media::{
    aac::{AacConfig, adts_frames},
    avc,
};

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFrame {
    /// When it is shown, 1/90,000 s.
    pub pts: i64,
    /// When it is decoded, 1/90,000 s.
    pub dts: i64,
    /// Whether a decoder can begin here.
    pub key: bool,
    /// Annex B.
    pub data: Vec<u8>,
}

/// One frame of sound, without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioFrame {
    /// When it is heard, 1/90,000 s.
    pub pts: i64,
    /// How it is coded.
    pub config: AacConfig,
    /// The frame.
    pub data: Vec<u8>,
}

/// What a segment holds, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media {
    /// Pictures.
    pub video: Vec<VideoFrame>,
    /// Sound.
    pub audio: Vec<AudioFrame>,
}

/// Reads a whole segment; `None` when it has no H.264 video.
pub fn read(bytes: &[u8]) -> Option<Media> {
    let mut reader = Reader::default();
    let start = (0..PACKET).find(|at| bytes.get(*at) == Some(&0x47))?;
    for packet in bytes.get(start..)?.chunks_exact(PACKET) {
        reader.packet(packet);
    }
    reader.finish();
    (!reader.media.video.is_empty()).then_some(reader.media)
}

#[derive(Debug, Default)]
struct Reader {
    pmt: Option<u16>,
    video: Unit,
    audio: Unit,
    media: Media,
}

/// A stream and its unit in work.
#[derive(Debug, Default)]
struct Unit {
    pid: Option<u16>,
    data: Vec<u8>,
    /// The newest time, to which following ones are unwrapped.
    clock: Option<i64>,
}

impl Reader {
    fn packet(&mut self, packet: &[u8]) {
        let [0x47, flags, low, control, ..] = packet else { return };
        let pid = u16::from(flags & 0x1f) << 8 | u16::from(*low);
        let start = flags & 0x40 != 0;
        let skip = match control & 0x20 {
            0 => 4,
            _ => 5 + usize::from(packet.get(4).copied().unwrap_or(0)),
        };
        if control & 0x10 == 0 {
            return;
        }
        let payload = packet.get(skip..).unwrap_or_default();
        if pid == 0 && start && self.pmt.is_none() {
            self.pmt = table(payload, 0).and_then(program);
        } else if Some(pid) == self.pmt && start && self.video.pid.is_none() {
            if let Some(body) = table(payload, 2) {
                self.streams(body);
            }
        } else if Some(pid) == self.video.pid {
            if start {
                self.end_video();
            }
            self.video.data.extend_from_slice(payload);
        } else if Some(pid) == self.audio.pid {
            if start {
                self.end_audio();
            }
            self.audio.data.extend_from_slice(payload);
        }
    }

    fn streams(&mut self, body: &[u8]) {
        let [_, _, high, low, ..] = body else { return };
        let info = usize::from(high & 0x0f) << 8 | usize::from(*low);
        let mut rest = body.get(4 + info..).unwrap_or_default();
        while let [kind, high, low, info_high, info_low, tail @ ..] = rest {
            let pid = Some(u16::from(high & 0x1f) << 8 | u16::from(*low));
            match kind {
                0x1b if self.video.pid.is_none() => self.video.pid = pid,
                0x0f if self.audio.pid.is_none() => self.audio.pid = pid,
                _ => {}
            }
            let info = usize::from(info_high & 0x0f) << 8 | usize::from(*info_low);
            rest = tail.get(info..).unwrap_or_default();
        }
    }

    fn end_video(&mut self) {
        let data = std::mem::take(&mut self.video.data);
        let Some((pts, dts, unit)) = pes(&data, &mut self.video.clock) else { return };
        let key = avc::is_key(unit);
        self.media.video.push(VideoFrame { pts, dts, key, data: unit.to_vec() });
    }

    fn end_audio(&mut self) {
        let data = std::mem::take(&mut self.audio.data);
        let Some((mut pts, _, frames)) = pes(&data, &mut self.audio.clock) else { return };
        for (config, frame) in adts_frames(frames) {
            self.media.audio.push(AudioFrame { pts, config, data: frame.to_vec() });
            pts += 1024 * 90_000 / i64::from(config.rate());
        }
    }

    fn finish(&mut self) {
        self.end_video();
        self.end_audio();
    }
}

/// The body of a table that lies in one packet, without its checksum.
fn table(payload: &[u8], id: u8) -> Option<&[u8]> {
    let section = payload.get(1 + usize::from(*payload.first()?)..)?;
    let [found, high, low, ..] = section else { return None };
    let length = usize::from(high & 0x0f) << 8 | usize::from(*low);
    let end = (3 + length).saturating_sub(4).min(section.len());
    (*found == id).then(|| section.get(8..end)).flatten()
}

fn program(body: &[u8]) -> Option<u16> {
    body.chunks_exact(4).find_map(|entry| match entry {
        [0, 0, ..] => None,
        [_, _, high, low] => Some(u16::from(high & 0x1f) << 8 | u16::from(*low)),
        _ => None,
    })
}

/// Presentation time, decoding time and payload of a unit.
fn pes<'a>(unit: &'a [u8], clock: &mut Option<i64>) -> Option<(i64, i64, &'a [u8])> {
    let [0, 0, 1, _, _, _, _, flags, header, rest @ ..] = unit else { return None };
    let pts = time(rest).filter(|_| flags & 0x80 != 0);
    let dts = time(rest.get(5..)?).filter(|_| flags & 0xc0 == 0xc0).or(pts);
    let dts = unwrapped(dts?, *clock);
    let pts = unwrapped(pts?, Some(dts));
    *clock = Some(dts);
    Some((pts, dts, rest.get(usize::from(*header)..)?))
}

fn time(bytes: &[u8]) -> Option<u64> {
    let [a, b, c, d, e, ..] = *bytes else { return None };
    Some(
        u64::from(a >> 1 & 7) << 30
            | u64::from(b) << 22
            | u64::from(c >> 1) << 15
            | u64::from(d) << 7
            | u64::from(e >> 1),
    )
}

/// The number of that 33-bit residue which is nearest to `near`.
fn unwrapped(value: u64, near: Option<i64>) -> i64 {
    let value = i64::try_from(value & CLOCK_MASK).unwrap_or(0);
    let Some(near) = near else { return value };
    let span = 1i64 << 33;
    let turns = (near - value + span / 2).div_euclid(span);
    value + turns * span
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{generated::*, ts::mux::Muxer};

    pub(crate) fn sample() -> Vec<u8> {
        let (mut out, mut muxer) = (Vec::new(), Muxer::default());
        muxer.begin(&mut out, true);
        let config = AacConfig::of_specific(&[0x12, 0x10]).unwrap();
        for n in 0..4u64 {
            let unit = [&[0, 0, 0, 1, if n == 0 { 0x65 } else { 0x41 }][..], &[7; 400]].concat();
            muxer.video(&mut out, n * 3_600 + 7_200, n * 3_600, n == 0, &unit);
            let mut frames = config.adts(5).unwrap().to_vec();
            frames.extend([1, 2, 3, 4, 5]);
            let twice = frames.repeat(2);
            muxer.audio(&mut out, n * 4_180, &twice);
        }
        out
    }

    #[test]
    fn reads_what_is_written() {
        let media = read(&sample()).unwrap();
        assert_eq!(media.video.len(), 4);
        assert!(media.video[0].key && !media.video[1].key);
        assert!(media.video.iter().all(|f| f.pts - f.dts == 7_200));
        assert_eq!(media.video[3].dts - media.video[0].dts, 3 * 3_600);
        assert_eq!(media.audio.len(), 8);
        assert!(media.audio.iter().all(|f| f.data == [1, 2, 3, 4, 5]));
        assert_eq!(media.audio[1].pts - media.audio[0].pts, 2_089);
    }

    #[test]
    fn times_wrap() {
        assert_eq!(unwrapped(5, Some((1 << 33) - 10)), (1 << 33) + 5);
        assert_eq!(unwrapped((1 << 33) - 1, Some(3)), -1);
    }

    #[test]
    fn whatever_the_file_is() {
        let valid = sample();
        cases(100_000, |rng| {
            let bytes = damaged(rng, &valid, 12);
            if let Some(media) = read(&bytes) {
                let size = media.video.iter().map(|f| f.data.len()).sum::<usize>();
                assert!(size <= bytes.len());
            }
        });
    }
}

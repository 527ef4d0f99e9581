//! Writes transport streams: program tables, one video and one audio stream, nothing else. Each
//! segment begins with the tables, so that it can be played alone; the continuity counters go on
//! over segments, as players expect of consecutive ones.

use super::{CLOCK_MASK, PACKET};
use crc::{CRC_32_MPEG_2, Crc};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_MPEG_2);
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
const H264: u8 = 0x1b;
const AAC_ADTS: u8 = 0x0f;
/// Everything is shown this much later than it is decoded in the file's own time, so that the
/// program clock, which runs ahead, does not begin below zero.
const DELAY: u64 = 90_000;
/// How far the program clock runs before the decoder.
const PCR_LEAD: u64 = 45_000;

/// A writer of one stream's segments.
#[derive(Debug, Clone, Default)]
pub struct Muxer {
    tables: u8,
    programs: u8,
    video: u8,
    audio: u8,
}

impl Muxer {
    /// The tables that a segment begins with.
    pub fn begin(&mut self, out: &mut Vec<u8>, with_audio: bool) {
        let [high, low] = (0xe000 | PMT_PID).to_be_bytes();
        section(out, 0, &mut self.tables, 0x00, &[0, 1, high, low]);
        let [pcr_high, pcr_low] = (0xe000 | VIDEO_PID).to_be_bytes();
        let mut body = vec![pcr_high, pcr_low, 0xf0, 0, H264, pcr_high, pcr_low, 0xf0, 0];
        if with_audio {
            let [high, low] = (0xe000 | AUDIO_PID).to_be_bytes();
            body.extend([AAC_ADTS, high, low, 0xf0, 0]);
        }
        section(out, PMT_PID, &mut self.programs, 0x02, &body);
    }

    /// One access unit in Annex B form; times in 1/90,000 s.
    pub fn video(&mut self, out: &mut Vec<u8>, pts: u64, dts: u64, key: bool, unit: &[u8]) {
        let mut pes = vec![0, 0, 1, 0xe0, 0, 0, 0x84];
        if pts == dts {
            pes.extend([0x80, 5]);
            time(&mut pes, 0x20, pts + DELAY);
        } else {
            pes.extend([0xc0, 10]);
            time(&mut pes, 0x30, pts + DELAY);
            time(&mut pes, 0x10, dts + DELAY);
        }
        pes.extend_from_slice(unit);
        let pcr = Some((dts + DELAY - PCR_LEAD) & CLOCK_MASK);
        packets(out, VIDEO_PID, &mut self.video, &pes, pcr, key);
    }

    /// ADTS frames; time in 1/90,000 s.
    pub fn audio(&mut self, out: &mut Vec<u8>, pts: u64, frames: &[u8]) {
        let length = u16::try_from(frames.len() + 8).unwrap_or(0).to_be_bytes();
        let mut pes = vec![0, 0, 1, 0xc0];
        pes.extend(length);
        pes.extend([0x84, 0x80, 5]);
        time(&mut pes, 0x20, pts + DELAY);
        pes.extend_from_slice(frames);
        packets(out, AUDIO_PID, &mut self.audio, &pes, None, false);
    }
}

/// 33 bits in five bytes, with marker bits.
fn time(out: &mut Vec<u8>, prefix: u8, value: u64) {
    let bits = |shift: u32, mask: u64| u8::try_from(value >> shift & mask).unwrap_or(0);
    out.extend([
        prefix | bits(30, 7) << 1 | 1,
        bits(22, 0xff),
        bits(15, 0x7f) << 1 | 1,
        bits(7, 0xff),
        bits(0, 0x7f) << 1 | 1,
    ]);
}

/// A table in one packet.
fn section(out: &mut Vec<u8>, pid: u16, counter: &mut u8, table: u8, body: &[u8]) {
    // 5 bytes of header follow the length, 4 of checksum end it.
    let [high, low] = u16::try_from(body.len() + 9).unwrap_or(0).to_be_bytes();
    let mut section = vec![table, 0xb0 | high, low, 0, 1, 0xc1, 0, 0];
    section.extend_from_slice(body);
    section.extend(CRC.checksum(&section).to_be_bytes());
    let mut payload = vec![0];
    payload.extend(section);
    // A table is filled up behind itself, not before.
    payload.resize(PACKET - 4, 0xff);
    packets(out, pid, counter, &payload, None, false);
}

/// Cuts a unit into packets; the first carries the clock, the last is filled up.
fn packets(
    out: &mut Vec<u8>,
    pid: u16,
    counter: &mut u8,
    unit: &[u8],
    pcr: Option<u64>,
    key: bool,
) {
    let mut rest = unit;
    let mut first = true;
    while first || !rest.is_empty() {
        let mut adaptation = Vec::new();
        if let Some(pcr) = pcr.filter(|_| first) {
            adaptation.push(if key { 0x50 } else { 0x10 });
            let [.., a, b, c, d, e] = (pcr << 7).to_be_bytes();
            // 33 bits of base, 6 reserved, 9 of extension.
            adaptation.extend([a, b, c, d, e | 0x7e, 0]);
        }
        let used = if adaptation.is_empty() { 0 } else { adaptation.len() + 1 };
        let room = PACKET - 4 - used;
        let (now, later) = rest.split_at(room.min(rest.len()));
        let filling = room - now.len();
        let [high, low] = pid.to_be_bytes();
        let has_adaptation = !adaptation.is_empty() || filling > 0;
        let start = if first { 0x40 } else { 0 };
        let control = if has_adaptation { 0x30 } else { 0x10 };
        out.extend([0x47, start | high, low, control | *counter]);
        *counter = (*counter + 1) & 0x0f;
        if adaptation.is_empty() {
            match filling {
                0 => {}
                1 => out.push(0),
                more => {
                    out.extend([u8::try_from(more - 1).unwrap_or(0), 0]);
                    out.resize(out.len() + more - 2, 0xff);
                }
            }
        } else {
            out.push(u8::try_from(adaptation.len() + filling).unwrap_or(0));
            out.extend(adaptation);
            out.resize(out.len() + filling, 0xff);
        }
        out.extend_from_slice(now);
        rest = later;
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ts::demux;

    #[test]
    fn whole_packets_whatever_the_length() {
        for length in 0..600 {
            let mut out = Vec::new();
            let mut muxer = Muxer::default();
            muxer.begin(&mut out, true);
            let unit: Vec<u8> =
                [0, 0, 0, 1, 0x65].into_iter().chain((0..length).map(|n| n as u8 | 1)).collect();
            muxer.video(&mut out, 9_000, 6_000, true, &unit);
            assert_eq!(out.len() % PACKET, 0);
            assert!(out.chunks(PACKET).all(|p| p[0] == 0x47));
            let media = demux::read(&out).unwrap();
            assert_eq!(media.video.len(), 1);
            let frame = &media.video[0];
            assert_eq!((frame.pts - frame.dts, frame.key), (3_000, true));
            assert_eq!(frame.data, unit);
        }
    }
}

//! What a pushed segment is, from its headers: codec, size, pixel format, and whether it has any
//! video at all. Reads MPEG-TS and MP4 in this process, in bounded time and without allocating by
//! what the file says. A body that is not even a container is refused, so that noise costs nothing;
//! a codec that cannot be recognised in one is accepted as unknown, as in the reference
//! (ingest-playback.md section 3.2), and left to the transcoder.

use super::{mp4, sps};
use penstock_domain::{PixelFormat, SegmentFormat, VideoCodec};

/// What was recognised. All of it is the file's own claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// The video codec.
    pub video: Option<VideoCodec>,
    /// A video stream is declared whose codec is none of those that can be transcoded.
    pub unknown_video: bool,
    /// A video stream is declared and not one frame of it is there (section 4: bypass).
    pub zero_frames: bool,
    /// Whether an audio stream is declared.
    pub audio: bool,
    /// Pixels, 0 if unknown.
    pub width: u32,
    /// Pixels, 0 if unknown.
    pub height: u32,
    /// Of H.264.
    pub pixel_format: Option<PixelFormat>,
    /// The pixel format has no capability that stands for it.
    pub odd_pixel_format: bool,
    /// RFC 6381 text of the video codec, for H.264.
    pub codec_text: Option<String>,
}

impl Probe {
    /// `CODECS` of a variant: video, and AAC when there is audio.
    pub fn codecs(&self) -> Option<String> {
        let video = self.codec_text.as_ref()?;
        Some(if self.audio { format!("{video},mp4a.40.2") } else { video.clone() })
    }

    /// One word that changes when the decoder has to begin anew (section 3.4).
    pub fn fingerprint(&self) -> Option<String> {
        let video = self.video?;
        Some(format!("{video:?}/{:?}/{}x{}", self.pixel_format, self.width, self.height))
    }
}

/// Whether a body is a container of this kind at all, by its first bytes.
pub fn is_container(data: &[u8], format: SegmentFormat) -> bool {
    match format {
        SegmentFormat::MpegTs => aligned(data).is_some(),
        SegmentFormat::Mp4 => data.get(4..8).is_some_and(|kind| {
            let first: [&[u8]; 7] = [b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"free", b"wide"];
            first.contains(&kind)
        }),
    }
}

/// The stream from its first packet on: one or more whole packets that begin with the sync byte. Up
/// to one packet's worth of something else may come before, as cut streams have it.
fn aligned(data: &[u8]) -> Option<&[u8]> {
    let starts_here = |at: usize| {
        let packets = data.get(at..).unwrap_or_default().chunks_exact(PACKET).take(3);
        let mut heads = packets.map(|packet| packet.first() == Some(&0x47)).peekable();
        heads.peek().is_some() && heads.all(|sync| sync)
    };
    data.get((0..PACKET).find(|at| starts_here(*at))?..)
}

/// Probes a whole segment.
pub fn probe(data: &[u8], format: SegmentFormat) -> Probe {
    match format {
        SegmentFormat::MpegTs => transport_stream(data),
        SegmentFormat::Mp4 => mp4::probe(data),
    }
}

const PACKET: usize = 188;
/// Elementary stream bytes that are searched for the parameter sets: they come first.
const SEARCH: usize = 16 * 1024;

fn transport_stream(data: &[u8]) -> Probe {
    let mut found = Probe::default();
    let mut pmt_pid = None;
    let mut video_pid = None;
    let mut start: Option<Vec<u8>> = None;
    for packet in aligned(data).unwrap_or_default().chunks_exact(PACKET) {
        let Some((pid, unit_start, payload)) = ts_payload(packet) else { break };
        if pid == 0 && unit_start && pmt_pid.is_none() {
            pmt_pid = program(payload);
        } else if Some(pid) == pmt_pid && unit_start && video_pid.is_none() {
            video_pid = streams(payload, &mut found);
        } else if Some(pid) == video_pid {
            if unit_start && start.is_none() {
                start = Some(elementary(payload).to_vec());
            } else if let Some(bytes) = &mut start {
                bytes.extend_from_slice(if unit_start { elementary(payload) } else { payload });
            }
            if start.as_ref().is_some_and(|s| s.len() >= SEARCH) {
                break;
            }
        }
    }
    let declared = found.video.is_some() || found.unknown_video;
    found.zero_frames = declared && start.as_ref().is_none_or(Vec::is_empty);
    if let (Some(VideoCodec::H264), Some(bytes)) = (found.video, &start)
        && let Some(parameters) = sps::find_in_stream(bytes)
    {
        parameters.describe(&mut found);
    }
    found
}

/// (pid, whether a unit starts here, payload) of a packet; `None` when sync is lost.
fn ts_payload(packet: &[u8]) -> Option<(u16, bool, &[u8])> {
    let [0x47, flags, low, control, ..] = packet else { return None };
    let pid = u16::from(flags & 0x1f) << 8 | u16::from(*low);
    let adaptation = match control & 0x20 {
        0 => 0,
        _ => 1 + usize::from(*packet.get(4)?),
    };
    let payload = match control & 0x10 {
        0 => &[],
        _ => packet.get(4 + adaptation..).unwrap_or_default(),
    };
    Some((pid, flags & 0x40 != 0, payload))
}

/// The body of a section that lies in one packet: after the pointer field and the common header.
fn section(payload: &[u8], table: u8) -> Option<&[u8]> {
    let pointer = usize::from(*payload.first()?);
    let section = payload.get(1 + pointer..)?;
    let [id, high, low, ..] = section else { return None };
    if *id != table {
        return None;
    }
    let length = usize::from(high & 0x0f) << 8 | usize::from(*low);
    // 5 bytes of header follow the length, 4 of checksum end it.
    section.get(8..(3 + length).saturating_sub(4).min(section.len()))
}

fn program(payload: &[u8]) -> Option<u16> {
    section(payload, 0)?.chunks_exact(4).find_map(|entry| match entry {
        [0, 0, ..] => None,
        [_, _, high, low] => Some(u16::from(high & 0x1f) << 8 | u16::from(*low)),
        _ => None,
    })
}

/// Notes the declared streams; the video's pid.
fn streams(payload: &[u8], found: &mut Probe) -> Option<u16> {
    let body = section(payload, 2)?;
    let info = usize::from(body.get(2)? & 0x0f) << 8 | usize::from(*body.get(3)?);
    let mut rest = body.get(4 + info..)?;
    let mut video_pid = None;
    while let [kind, high, low, info_high, info_low, tail @ ..] = rest {
        let codec = match kind {
            0x1b => Some(VideoCodec::H264),
            0x24 => Some(VideoCodec::H265),
            _ => None,
        };
        match kind {
            0x1b | 0x24 | 0x01 | 0x02 | 0x10 | 0x33 | 0x42 | 0xd1 | 0xea if video_pid.is_none() => {
                found.video = codec;
                found.unknown_video = codec.is_none();
                video_pid = Some(u16::from(high & 0x1f) << 8 | u16::from(*low));
            }
            0x03 | 0x04 | 0x0f | 0x11 | 0x81 | 0x87 => found.audio = true,
            _ => {}
        }
        let info = usize::from(info_high & 0x0f) << 8 | usize::from(*info_low);
        rest = tail.get(info..).unwrap_or_default();
    }
    video_pid
}

/// A PES packet's payload.
fn elementary(payload: &[u8]) -> &[u8] {
    match payload {
        [0, 0, 1, _, _, _, _, _, header, ..] => {
            payload.get(9 + usize::from(*header)..).unwrap_or_default()
        }
        _ => &[],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::media::generated::*;

    /// One PAT, one PMT with H.264 on pid 256 and AAC on 257, then the given video payload.
    pub(crate) fn ts(video: &[u8]) -> Vec<u8> {
        let packet = |pid: u16, payload: &[u8]| {
            let mut p = vec![0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x30];
            let stuffing = PACKET - 5 - payload.len();
            p.push(stuffing as u8);
            p.extend(vec![0xff; stuffing]);
            p.extend(payload);
            p
        };
        let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0x00, 1, 2, 3, 4];
        let pmt = [
            0, 2, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0, 0x0f, 0xe1,
            1, 0xf0, 0, 1, 2, 3, 4,
        ];
        let mut all = packet(0, &pat);
        all.extend(packet(0x1000, &pmt));
        if !video.is_empty() {
            let mut pes = vec![0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0];
            pes.extend(video);
            all.extend(packet(256, &pes));
        }
        all
    }

    /// SPS of a 1280×720 High profile level 3.1 stream, as x264 writes it.
    pub(crate) const SPS_720P: [u8; 23] = [
        0, 0, 0, 1, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00,
        0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
    ];

    #[test]
    fn reads_a_stream() {
        let p = probe(&ts(&SPS_720P), SegmentFormat::MpegTs);
        assert_eq!((p.video, p.audio, p.zero_frames), (Some(VideoCodec::H264), true, false));
        assert_eq!((p.width, p.height), (1280, 720));
        assert_eq!(p.codecs().as_deref(), Some("avc1.64001f,mp4a.40.2"));
        assert_eq!(p.pixel_format, Some(PixelFormat::Yuv420_8));
        assert!(p.fingerprint().unwrap().contains("1280x720"));
    }

    #[test]
    fn noise_is_no_container() {
        let stream = ts(&SPS_720P);
        assert!(is_container(&stream, SegmentFormat::MpegTs));
        assert!(is_container(&stream[100..], SegmentFormat::MpegTs), "cut at the front");
        assert_eq!(
            probe(&stream[100..], SegmentFormat::MpegTs).video,
            None,
            "and without its tables"
        );
        for noise in [&b""[..], b"G", &[0; 5000], &[0x47; 187]] {
            assert!(!is_container(noise, SegmentFormat::MpegTs));
            assert!(!is_container(noise, SegmentFormat::Mp4));
        }
        assert!(is_container(b"\0\0\0\x18ftypisom", SegmentFormat::Mp4));
        assert!(!is_container(&stream, SegmentFormat::Mp4));
    }

    #[test]
    fn declared_video_without_frames() {
        assert!(probe(&ts(&[]), SegmentFormat::MpegTs).zero_frames);
        let nothing = probe(b"not a transport stream", SegmentFormat::MpegTs);
        assert_eq!(nothing, Probe::default());
    }

    #[test]
    fn whatever_the_file_is() {
        let valid = ts(&SPS_720P);
        cases(100_000, |rng| {
            let _ = probe(&damaged(rng, &valid, 12), SegmentFormat::MpegTs);
        });
        // The parameter set by itself, where most of the parsing is.
        cases(100_000, |rng| {
            let _ = crate::media::sps::parse(&damaged(rng, &SPS_720P[5..], 8));
        });
    }
}

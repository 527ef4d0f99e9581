//! Which container a segment is in, whether its audio can be copied, and what its pictures are coded
//! with, from its first bytes.
//!
//! ffmpeg is told the demuxer instead of guessing it: guessing would let a stranger choose any of
//! some hundred demuxers, playlists that open other files among them.

use penstock_domain::VideoCodec;

/// How much of a segment's start is looked at; program tables come at least twice a second.
pub const PROBE_BYTES: usize = 256 * 1024;

/// A container that segments may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MPEG transport stream.
    MpegTs,
    /// MP4 and its relatives.
    Mov,
    /// WebM, in which the network's own tests have VP8 and VP9. Other Matroska is not taken.
    WebM,
}

impl Container {
    /// ffmpeg's name of the demuxer.
    pub fn demuxer(self) -> &'static str {
        match self {
            Self::MpegTs => "mpegts",
            Self::Mov => "mov",
            Self::WebM => "matroska",
        }
    }

    /// The container of data that starts so.
    pub fn sniff(head: &[u8]) -> Option<Self> {
        let sync = |packet: usize| head.get(packet * TS_PACKET).is_none_or(|b| *b == TS_SYNC);
        if head.len() >= TS_PACKET && (0..8).all(sync) {
            return Some(Self::MpegTs);
        }
        if head.starts_with(&EBML) {
            let header = head.get(..64).unwrap_or(head);
            return header.windows(WEBM.len()).any(|at| at == WEBM).then_some(Self::WebM);
        }
        let boxes: [&[u8]; 8] =
            [b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide"];
        let kind = head.get(4..8)?;
        boxes.contains(&kind).then_some(Self::Mov)
    }
}

/// What to do with a segment's audio so that HLS players can play it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioAction {
    /// It is AAC already: copied, so that no encoder delay breaks the joint between segments.
    Copy,
    /// Anything else, or unknown: encoded as AAC. Harmless when there is no audio.
    EncodeAac,
    /// Left out: the stream is announced but has no data, or data that cannot be read.
    Drop,
}

impl AudioAction {
    /// The action for data in `container` that starts with `head`.
    pub fn choose(container: Container, head: &[u8]) -> Self {
        match container {
            Container::MpegTs if first_audio_type(head) == Some(ADTS_AAC) => Self::Copy,
            _ => Self::EncodeAac,
        }
    }
}

/// The codec of the pictures, if the start of the data says it. Of MP4 and WebM it is not looked for.
pub fn video_codec(container: Container, head: &[u8]) -> Option<VideoCodec> {
    if container != Container::MpegTs {
        return None;
    }
    first_stream_type(head, |kind| matches!(kind, H264 | H265)).map(|kind| match kind {
        H265 => VideoCodec::H265,
        _ => VideoCodec::H264,
    })
}

/// How every Matroska begins (RFC 8794 section 11.2.1), and what its header says if it is WebM: the document's type.
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
const WEBM: &[u8] = b"\x42\x82\x84webm";
const TS_PACKET: usize = 188;
const TS_SYNC: u8 = 0x47;
/// Stream type of AAC with ADTS headers (ISO 13818-1 table 2-34).
const ADTS_AAC: u8 = 0x0f;
/// Stream types of pictures (the same table).
const H264: u8 = 0x1b;
const H265: u8 = 0x24;

/// Stream type of the first audio stream in the first program's table.
fn first_audio_type(head: &[u8]) -> Option<u8> {
    // MPEG-1 and MPEG-2 audio, AAC in two framings, AC-3, and private data, which may be audio.
    first_stream_type(head, |kind| matches!(kind, 0x03 | 0x04 | ADTS_AAC | 0x11 | 0x81 | 0x06))
}

/// The first stream type in the first program's table that is `wanted`. Only tables that fit in one
/// packet are read, which those of real encoders do.
fn first_stream_type(head: &[u8], wanted: impl Fn(u8) -> bool + Copy) -> Option<u8> {
    let program_map_pid = sections(head, 0).find_map(first_program)?;
    sections(head, program_map_pid).find_map(|section| first_of_program(section, wanted))
}

/// Payloads of packets of `pid` that start a table section, from its table id on.
fn sections(head: &[u8], pid: u16) -> impl Iterator<Item = &[u8]> {
    head.chunks_exact(TS_PACKET).filter_map(move |packet| {
        let (first, second, flags) = (*packet.get(1)?, *packet.get(2)?, *packet.get(3)?);
        let starts_section = first & 0x40 != 0;
        let this_pid = u16::from(first & 0x1f) << 8 | u16::from(second);
        if !starts_section || this_pid != pid || flags & 0x10 == 0 {
            return None;
        }
        let adaptation = if flags & 0x20 == 0 { 0 } else { usize::from(*packet.get(4)?) + 1 };
        let payload = packet.get(4 + adaptation..)?;
        let pointer = usize::from(*payload.first()?);
        payload.get(1 + pointer..)
    })
}

/// The entries of a section between its 8-byte header and its checksum.
fn section_body(section: &[u8], table_id: u8) -> Option<&[u8]> {
    if *section.first()? != table_id {
        return None;
    }
    let length = twelve_bits(section, 1)?;
    // The length counts from behind itself; the last four bytes are the checksum.
    section.get(8..(3 + length).checked_sub(4)?.min(section.len()))
}

/// The table pid of the first program in a program association section.
fn first_program(section: &[u8]) -> Option<u16> {
    section_body(section, 0)?.chunks_exact(4).find_map(|entry| {
        let [number_high, number_low, pid_high, pid_low] = *entry.first_chunk::<4>()?;
        let network_information = number_high == 0 && number_low == 0;
        (!network_information).then_some(u16::from(pid_high & 0x1f) << 8 | u16::from(pid_low))
    })
}

fn first_of_program(section: &[u8], wanted: impl Fn(u8) -> bool) -> Option<u8> {
    let body = section_body(section, 2)?;
    let descriptors = twelve_bits(body, 2)?;
    let mut streams = body.get(4 + descriptors..)?;
    while let Some(kind) = streams.first().copied() {
        if wanted(kind) {
            return Some(kind);
        }
        streams = streams.get(5 + twelve_bits(streams, 3)?..)?;
    }
    None
}

fn twelve_bits(data: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(*data.get(at)? & 0x0f) << 8 | usize::from(*data.get(at + 1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(pid: u16, section: &[u8]) -> Vec<u8> {
        let mut p = vec![TS_SYNC, 0x40 | (pid >> 8) as u8, pid as u8, 0x10, 0];
        p.extend(section);
        p.resize(TS_PACKET, 0xff);
        p
    }

    fn section(table: u8, body: &[u8]) -> Vec<u8> {
        let length = body.len() + 9;
        let mut s = vec![table, 0xb0 | (length >> 8) as u8, length as u8, 0, 1, 0xc1, 0, 0];
        s.extend(body);
        s.extend([0; 4]);
        s
    }

    fn stream(types: &[u8]) -> Vec<u8> {
        let mut body = vec![0xe1, 0x00, 0xf0, 0x02, 0x05, 0x00];
        for (i, kind) in types.iter().enumerate() {
            body.extend([*kind, 0xe1, i as u8, 0xf0, 0x01, 0xaa]);
        }
        let pat = section(0, &[0, 0, 0xe0, 0x10, 0, 1, 0xf0, 0x00]);
        [packet(0, &pat), packet(0x1000, &section(2, &body)), packet(0x100, &[])].concat()
    }

    #[test]
    fn containers() {
        assert_eq!(Container::sniff(&stream(&[0x1b])), Some(Container::MpegTs));
        assert_eq!(Container::sniff(b"\0\0\0\x1cftypisom"), Some(Container::Mov));
        let webm = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm\x42\x87\x81\x02";
        assert_eq!(Container::sniff(webm), Some(Container::WebM));
        let matroska = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x88matroska";
        assert_eq!(Container::sniff(matroska), None);
        for junk in [&b""[..], b"G", b"#EXTM3U\n", &[0; 400], &[TS_SYNC; 100]] {
            assert_eq!(Container::sniff(junk), None);
        }
        let mut broken = stream(&[0x1b]);
        broken[TS_PACKET] = 0;
        assert_eq!(Container::sniff(&broken), None);
    }

    #[test]
    fn only_aac_is_copied() {
        let action = |types: &[u8]| AudioAction::choose(Container::MpegTs, &stream(types));
        assert_eq!(action(&[0x1b, ADTS_AAC]), AudioAction::Copy);
        assert_eq!(action(&[ADTS_AAC, 0x03]), AudioAction::Copy);
        for other in [&[0x1b, 0x03][..], &[0x04, ADTS_AAC], &[0x1b], &[]] {
            assert_eq!(action(other), AudioAction::EncodeAac);
        }
        for container in [Container::Mov, Container::WebM] {
            assert_eq!(AudioAction::choose(container, b""), AudioAction::EncodeAac);
        }
    }

    #[test]
    fn pictures_by_their_stream_type() {
        let codec = |types: &[u8]| video_codec(Container::MpegTs, &stream(types));
        assert_eq!(codec(&[ADTS_AAC, H264]), Some(VideoCodec::H264));
        assert_eq!(codec(&[H265, H264]), Some(VideoCodec::H265));
        assert_eq!(codec(&[0x02, ADTS_AAC]), None);
        assert_eq!(video_codec(Container::Mov, &stream(&[H264])), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn nothing_panics(
            types in proptest::collection::vec(any::<u8>(), 0..4),
            flips in proptest::collection::vec((0..600usize, any::<u8>()), 0..12),
            cut in 0..600usize,
        ) {
            let mut data = stream(&types);
            for (at, value) in flips {
                if let Some(b) = data.get_mut(at) { *b = value; }
            }
            data.truncate(cut);
            if let Some(container) = Container::sniff(&data) {
                AudioAction::choose(container, &data);
            }
            first_audio_type(&data);
            video_codec(Container::MpegTs, &data);
        }
    }
}

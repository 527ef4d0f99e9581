//! The little of an MP4 file that a probe needs: the sample descriptions of its tracks.

use super::probe::Probe;
use penstock_domain::{PixelFormat, VideoCodec};

/// Boxes of one level that are looked at; more is no real file.
const MAX_BOXES: usize = 1_000;

/// (kind, body) of the boxes in `data`, until it stops making sense.
fn boxes(data: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        let kind = rest.get(4..8)?.try_into().ok()?;
        let (head, end) = match size {
            0 => (8, rest.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?)).ok()?),
            n => (8, usize::try_from(n).ok()?),
        };
        let body = rest.get(head..end)?;
        rest = rest.get(end..)?;
        Some((kind, body))
    })
    .take(MAX_BOXES)
}

fn child<'a>(data: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(data).find(|(k, _)| k == kind).map(|(_, body)| body)
}

/// Probes a file.
pub fn probe(data: &[u8]) -> Probe {
    let mut found = Probe::default();
    let Some(moov) = child(data, b"moov") else { return found };
    for (_, trak) in boxes(moov).filter(|(kind, _)| kind == b"trak") {
        track(trak, &mut found);
    }
    found
}

fn track(trak: &[u8], found: &mut Probe) -> Option<()> {
    let media = child(trak, b"mdia")?;
    let handler = child(media, b"hdlr")?.get(8..12)?;
    let table = child(child(media, b"minf")?, b"stbl")?;
    let descriptions = child(table, b"stsd")?.get(8..)?;
    let (kind, entry) = boxes(descriptions).next()?;
    match handler {
        b"soun" => found.audio = true,
        b"vide" if found.video.is_none() && !found.unknown_video => {
            found.video = match &kind {
                b"avc1" | b"avc3" => Some(VideoCodec::H264),
                b"hvc1" | b"hev1" => Some(VideoCodec::H265),
                b"vp08" => Some(VideoCodec::Vp8),
                b"vp09" => Some(VideoCodec::Vp9),
                _ => None,
            };
            found.unknown_video = found.video.is_none();
            let side =
                |at: usize| Some(u16::from_be_bytes(entry.get(at..at + 2)?.try_into().ok()?));
            found.width = side(24)?.into();
            found.height = side(26)?.into();
            if found.video == Some(VideoCodec::H264)
                && let Some([_, profile, compat, level, ..]) = child(entry.get(78..)?, b"avcC")
            {
                found.codec_text = Some(format!("avc1.{profile:02x}{compat:02x}{level:02x}"));
                // Profiles below High 10 are 8 bits 4:2:0; the others say so in the stream.
                found.pixel_format = (*profile <= 100).then_some(PixelFormat::Yuv420_8);
            }
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    fn mp4box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut b = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        b.extend(kind);
        b.extend(body);
        b
    }

    fn file(codec: &[u8; 4]) -> Vec<u8> {
        let mut visual = vec![0; 78];
        visual[24..28].copy_from_slice(&[5, 0, 2, 208]);
        visual.extend(mp4box(b"avcC", &[1, 0x4d, 0x40, 0x1e, 0xff]));
        let mut stsd = vec![0, 0, 0, 0, 0, 0, 0, 1];
        stsd.extend(mp4box(codec, &visual));
        let stbl = mp4box(b"stbl", &mp4box(b"stsd", &stsd));
        let mut mdia = mp4box(b"hdlr", b"\0\0\0\0\0\0\0\0vide\0\0\0\0");
        mdia.extend(mp4box(b"minf", &stbl));
        let mut all = mp4box(b"ftyp", b"isom\0\0\0\0");
        all.extend(mp4box(b"moov", &mp4box(b"trak", &mp4box(b"mdia", &mdia))));
        all
    }

    #[test]
    fn reads_a_track() {
        let p = probe(&file(b"avc1"));
        assert_eq!((p.video, p.width, p.height), (Some(VideoCodec::H264), 1280, 720));
        assert_eq!(p.codecs().as_deref(), Some("avc1.4d401e"));
        assert!(probe(&file(b"av01")).unknown_video);
        assert_eq!(probe(b""), Probe::default());
    }

    #[test]
    fn whatever_the_file_is() {
        let valid = file(b"avc1");
        cases(100_000, |rng| {
            let _ = probe(&damaged(rng, &valid, 6));
        });
    }
}

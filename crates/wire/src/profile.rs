//! `VideoProfile` ⇄ [`penstock_domain::VideoProfile`], and the choice among the three lists of a
//! segment (video-transcode-worker.md section 6.3).

use crate::{
    limits,
    net::{
        self,
        video_profile::{ChromaSubsampling, Format, Profile, VideoCodec as NetCodec},
    },
    segment::SegmentRefusal,
};
use penstock_domain::{ChromaFormat, EncoderProfile, Gop, SegmentFormat, VideoCodec, VideoProfile};

/// The wire's mark for intra-only.
const GOP_INTRA_ONLY: i32 = -1;

/// Reads one rendition. An empty name becomes `net_WxH_BITRATE`.
pub fn read(m: &net::VideoProfile) -> Result<VideoProfile, SegmentRefusal> {
    let format = match Format::try_from(m.format) {
        Ok(Format::Mpegts) => SegmentFormat::MpegTs,
        Ok(Format::Mp4) => SegmentFormat::Mp4,
        Err(_) => return Err(SegmentRefusal::Format),
    };
    let profile = match Profile::try_from(m.profile) {
        Ok(Profile::EncoderDefault) => EncoderProfile::Default,
        Ok(Profile::H264Baseline) => EncoderProfile::H264Baseline,
        Ok(Profile::H264Main) => EncoderProfile::H264Main,
        Ok(Profile::H264High) => EncoderProfile::H264High,
        Ok(Profile::H264ConstrainedHigh) => EncoderProfile::H264ConstrainedHigh,
        Err(_) => return Err(SegmentRefusal::EncoderProfile),
    };
    let encoder = match NetCodec::try_from(m.encoder) {
        Ok(NetCodec::H264) => VideoCodec::H264,
        Ok(NetCodec::H265) => VideoCodec::H265,
        Ok(NetCodec::Vp8) => VideoCodec::Vp8,
        Ok(NetCodec::Vp9) => VideoCodec::Vp9,
        Err(_) => return Err(SegmentRefusal::Codec),
    };
    let gop = match m.gop {
        0 => Gop::Default,
        GOP_INTRA_ONLY => Gop::IntraOnly,
        ms => Gop::Millis(u32::try_from(ms).map_err(|_| SegmentRefusal::Gop)?),
    };
    let name = if m.name.is_empty() {
        format!("net_{}", VideoProfile::default_name(m.width, m.height, m.bitrate))
    } else {
        m.name.clone()
    };
    // Negative numbers become 0 and are refused by the domain's own bounds.
    let number = |n: i32| u32::try_from(n).unwrap_or_default();
    VideoProfile {
        name,
        width: number(m.width),
        height: number(m.height),
        bitrate_bps: number(m.bitrate),
        fps: m.fps,
        fps_den: m.fps_den,
        format,
        profile,
        gop,
        encoder,
        // Depth and chroma are sent but not read back (orchestrator-wire.md section 6).
        color_depth: 0,
        chroma: ChromaFormat::Yuv420,
        quality: m.quality,
    }
    .checked()
    .map_err(SegmentRefusal::Profile)
}

/// The message. An empty name becomes `ffmpeg_WxH_BITRATE`; send explicit names.
pub fn write(p: &VideoProfile) -> net::VideoProfile {
    let name = if p.name.is_empty() {
        format!("ffmpeg_{}", VideoProfile::default_name(p.width, p.height, p.bitrate_bps))
    } else {
        p.name.clone()
    };
    // Checked profiles are far below 2^31; an unchecked one becomes 0, which receivers refuse.
    let number = |n: u32| i32::try_from(n).unwrap_or_default();
    net::VideoProfile {
        name,
        width: number(p.width),
        height: number(p.height),
        bitrate: number(p.bitrate_bps),
        fps: p.fps,
        format: match p.format {
            SegmentFormat::MpegTs => Format::Mpegts,
            SegmentFormat::Mp4 => Format::Mp4,
        }
        .into(),
        fps_den: p.fps_den,
        profile: match p.profile {
            EncoderProfile::Default => Profile::EncoderDefault,
            EncoderProfile::H264Baseline => Profile::H264Baseline,
            EncoderProfile::H264Main => Profile::H264Main,
            EncoderProfile::H264High => Profile::H264High,
            EncoderProfile::H264ConstrainedHigh => Profile::H264ConstrainedHigh,
        }
        .into(),
        gop: match p.gop {
            Gop::Default => 0,
            Gop::IntraOnly => GOP_INTRA_ONLY,
            Gop::Millis(ms) => number(ms),
        },
        encoder: match p.encoder {
            VideoCodec::H264 => NetCodec::H264,
            VideoCodec::H265 => NetCodec::H265,
            VideoCodec::Vp8 => NetCodec::Vp8,
            VideoCodec::Vp9 => NetCodec::Vp9,
        }
        .into(),
        color_depth: number(p.color_depth),
        chroma_format: match p.chroma {
            ChromaFormat::Yuv420 => ChromaSubsampling::Chroma420,
            ChromaFormat::Yuv422 => ChromaSubsampling::Chroma422,
            ChromaFormat::Yuv444 => ChromaSubsampling::Chroma444,
        }
        .into(),
        quality: p.quality,
    }
}

/// Puts the renditions into the one list that the oldest receiver understanding them reads.
pub fn write_lists(profiles: &[VideoProfile], segment: &mut net::SegData) {
    let list: Vec<_> = profiles.iter().map(write).collect();
    let plain = |p: &VideoProfile| {
        p.fps_den == 0 && p.profile == EncoderProfile::Default && p.gop == Gop::Default
    };
    if !profiles.iter().all(plain) {
        segment.full_profiles3 = list;
    } else if profiles.iter().all(|p| p.format == SegmentFormat::MpegTs) {
        segment.full_profiles = list;
    } else {
        segment.full_profiles2 = list;
    }
}

/// The renditions of a segment: the newest list that is not empty.
pub fn read_lists(segment: &net::SegData) -> Result<Vec<VideoProfile>, SegmentRefusal> {
    let lists = [&segment.full_profiles3, &segment.full_profiles2, &segment.full_profiles];
    let Some(list) = lists.into_iter().find(|l| !l.is_empty()) else { return Ok(Vec::new()) };
    if list.len() > limits::PROFILES {
        return Err(SegmentRefusal::TooManyProfiles);
    }
    list.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(profiles: &[VideoProfile]) -> [usize; 3] {
        let mut s = net::SegData::default();
        write_lists(profiles, &mut s);
        assert_eq!(read_lists(&s).unwrap(), profiles);
        [s.full_profiles.len(), s.full_profiles2.len(), s.full_profiles3.len()]
    }

    #[test]
    fn the_list_depends_on_the_profiles() {
        let ts = VideoProfile::defaults();
        assert_eq!(lists(&ts), [2, 0, 0]);
        let mp4 = [ts[0].clone(), VideoProfile { format: SegmentFormat::Mp4, ..ts[1].clone() }];
        assert_eq!(lists(&mp4), [0, 2, 0]);
        for rich in [
            VideoProfile { fps_den: 1, ..ts[1].clone() },
            VideoProfile { gop: Gop::IntraOnly, ..ts[1].clone() },
            VideoProfile { gop: Gop::Millis(2000), ..ts[1].clone() },
            VideoProfile { profile: EncoderProfile::H264Main, ..ts[1].clone() },
        ] {
            assert_eq!(lists(&[ts[0].clone(), rich]), [0, 0, 2]);
        }
        assert_eq!(lists(&[]), [0, 0, 0]);
    }

    #[test]
    fn unknown_numbers_have_the_documented_texts() {
        let good = write(&VideoProfile::defaults()[0]);
        let text = |m: net::VideoProfile| read(&m).unwrap_err().to_string();
        assert_eq!(
            text(net::VideoProfile { format: 2, ..good.clone() }),
            "unrecognized profile output format"
        );
        assert_eq!(
            text(net::VideoProfile { profile: 5, ..good.clone() }),
            "unrecognized encoder profile"
        );
        assert_eq!(
            text(net::VideoProfile { encoder: -1, ..good.clone() }),
            "unrecognized video codec"
        );
        for bad in [
            net::VideoProfile { gop: -2, ..good.clone() },
            net::VideoProfile { width: -1, ..good.clone() },
            net::VideoProfile { bitrate: i32::MIN, ..good.clone() },
        ] {
            assert!(read(&bad).is_err());
        }
        let unnamed = read(&net::VideoProfile { name: String::new(), ..good }).unwrap();
        assert_eq!(unnamed.name, "net_320x240_600000");
    }
}

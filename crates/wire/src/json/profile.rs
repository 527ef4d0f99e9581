//! Renditions as JSON: the transcoding options file, the auth webhook's `profiles` and the header
//! `Livepeer-Transcode-Configuration` (video-transcode-worker.md section 6.1).

use super::read::{self, Object};
use crate::{
    error::{WireError, at_most},
    limits,
};
use penstock_domain::{
    ChromaFormat, EncoderProfile, Gop, Rational, SegmentFormat, VideoCodec, VideoProfile,
};
use serde_json::{Value, json};

/// Reads a JSON list of renditions.
pub fn parse_profiles(body: &[u8]) -> Result<Vec<VideoProfile>, WireError> {
    let what = "profiles";
    let Value::Array(list) = read::value(what, body, 64 * 1024)? else {
        return Err(read::wrong(what, "expected a list"));
    };
    at_most(what, list.len(), limits::PROFILES)?;
    list.into_iter().map(|v| read_profile(&read::as_object("profile", v)?)).collect()
}

fn read_profile(map: &Object) -> Result<VideoProfile, WireError> {
    let (width, height) = (read::uint32(map, "width")?, read::uint32(map, "height")?);
    let bitrate_bps = read::uint32(map, "bitrate")?;
    let name = match read::text(map, "name", limits::NAME_BYTES)? {
        name if name.is_empty() => {
            format!("custom_{}", VideoProfile::default_name(width, height, bitrate_bps))
        }
        name => name,
    };
    VideoProfile {
        name,
        width,
        height,
        bitrate_bps,
        fps: read::uint32(map, "fps")?,
        fps_den: read::uint32(map, "fpsDen")?,
        format: SegmentFormat::MpegTs,
        profile: encoder_profile(&read::text(map, "profile", limits::NAME_BYTES)?)?,
        gop: gop(&read::text(map, "gop", limits::NAME_BYTES)?)?,
        encoder: encoder(&read::text(map, "encoder", limits::NAME_BYTES)?)?,
        color_depth: read::uint32(map, "colorDepth")?,
        chroma: match read::uint32(map, "chromaFormat")? {
            0 => ChromaFormat::Yuv420,
            1 => ChromaFormat::Yuv422,
            2 => ChromaFormat::Yuv444,
            _ => return Err(WireError::invalid("chromaFormat", "must be 0, 1 or 2")),
        },
        quality: read::uint32(map, "quality")?,
    }
    .checked()
    .map_err(|e| read::wrong("profile", e.to_string()))
}

fn encoder_profile(text: &str) -> Result<EncoderProfile, WireError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "" | "none" => EncoderProfile::Default,
        "h264baseline" => EncoderProfile::H264Baseline,
        "h264main" => EncoderProfile::H264Main,
        "h264high" => EncoderProfile::H264High,
        "h264constrainedhigh" => EncoderProfile::H264ConstrainedHigh,
        _ => return Err(WireError::invalid("profile", "unrecognized encoder profile")),
    })
}

fn encoder(text: &str) -> Result<VideoCodec, WireError> {
    Ok(match text {
        "" | "H.264" => VideoCodec::H264,
        "HEVC" => VideoCodec::H265,
        "VP8" => VideoCodec::Vp8,
        "VP9" => VideoCodec::Vp9,
        _ => return Err(WireError::invalid("encoder", "unrecognized video codec")),
    })
}

/// Empty is the encoder's choice, `intra` every frame, else seconds ≥ 0 as a decimal, cut to
/// whole milliseconds (which is what the wire carries).
fn gop(text: &str) -> Result<Gop, WireError> {
    let bad = || WireError::invalid("gop", "must be empty, intra, or seconds of at least 0");
    match text {
        "" => Ok(Gop::Default),
        "intra" => Ok(Gop::IntraOnly),
        seconds => {
            let seconds = Rational::from_decimal(seconds).map_err(|_| bad())?;
            let millis = &seconds * &Rational::from_int(1000);
            match millis.floor_i64() {
                Some(0) => Ok(Gop::Default),
                Some(ms) => u32::try_from(ms).map(Gop::Millis).map_err(|_| bad()),
                None => Err(bad()),
            }
        }
    }
}

/// One rendition in the same form, so that a configuration can be shown and sent on.
pub fn profile_to_json(p: &VideoProfile) -> Value {
    json!({
        "name": p.name,
        "width": p.width,
        "height": p.height,
        "bitrate": p.bitrate_bps,
        "fps": p.fps,
        "fpsDen": p.fps_den,
        "profile": match p.profile {
            EncoderProfile::Default => "",
            EncoderProfile::H264Baseline => "H264Baseline",
            EncoderProfile::H264Main => "H264Main",
            EncoderProfile::H264High => "H264High",
            EncoderProfile::H264ConstrainedHigh => "H264ConstrainedHigh",
        },
        "gop": match p.gop {
            Gop::Default => String::new(),
            Gop::IntraOnly => "intra".to_owned(),
            Gop::Millis(ms) => format!("{}.{:03}", ms / 1000, ms % 1000),
        },
        "encoder": match p.encoder {
            VideoCodec::H264 => "H.264",
            VideoCodec::H265 => "HEVC",
            VideoCodec::Vp8 => "VP8",
            VideoCodec::Vp9 => "VP9",
        },
        "colorDepth": p.color_depth,
        "chromaFormat": match p.chroma {
            ChromaFormat::Yuv420 => 0,
            ChromaFormat::Yuv422 => 1,
            ChromaFormat::Yuv444 => 2,
        },
        "quality": p.quality,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(extra: &str) -> Result<VideoProfile, WireError> {
        let text = format!(r#"[{{"width":320,"height":240,"bitrate":300000{extra}}}]"#);
        parse_profiles(text.as_bytes()).map(|mut list| list.remove(0))
    }

    #[test]
    fn defaults_and_names() {
        let p = one("").unwrap();
        assert_eq!(p.name, "custom_320x240_300000");
        assert_eq!((p.fps, p.gop, p.encoder), (0, Gop::Default, VideoCodec::H264));
        assert_eq!(one(r#","profile":"h264HIGH""#).unwrap().profile, EncoderProfile::H264High);
        assert_eq!(one(r#","encoder":"HEVC""#).unwrap().encoder, VideoCodec::H265);
    }

    #[test]
    fn gop_rules() {
        let gop = |g: &str| one(&format!(r#","gop":"{g}""#)).map(|p| p.gop);
        assert_eq!(gop("intra").unwrap(), Gop::IntraOnly);
        assert_eq!(gop("2").unwrap(), Gop::Millis(2000));
        assert_eq!(gop("0.5").unwrap(), Gop::Millis(500));
        assert_eq!(gop("0").unwrap(), Gop::Default);
        for bad in ["-1", "x", "inf", "1e400", "3601"] {
            assert!(gop(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refusals() {
        for bad in [
            r#","encoder":"hevc""#,
            r#","profile":"h265main""#,
            r#","chromaFormat":3"#,
            r#","fps":-1"#,
            r#","fps":"30""#,
            r#","name":"a/b""#,
            r#","width":0"#,
        ] {
            assert!(one(bad).is_err(), "{bad}");
        }
        assert!(parse_profiles(b"{}").is_err());
        let many = format!("[{}]", vec![r#"{"width":2,"height":2,"bitrate":1}"#; 17].join(","));
        assert!(parse_profiles(many.as_bytes()).is_err());
    }

    #[test]
    fn round_trip() {
        let p = one(r#","gop":"1.25","fps":30000,"fpsDen":1001,"quality":20,"chromaFormat":2"#)
            .unwrap();
        let text = Value::Array(vec![profile_to_json(&p)]).to_string();
        assert_eq!(parse_profiles(text.as_bytes()).unwrap(), [p]);
    }
}

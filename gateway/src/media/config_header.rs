//! Which renditions a stream gets: `--transcoding-options` and the header
//! `Livepeer-Transcode-Configuration` (operator.md section 6.1, video-transcode-worker.md section 6).

use penstock_domain::{SegmentFormat, VideoProfile};
use penstock_wire::{WireError, json::parse_profiles, limits};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// Most bytes of the header's JSON or of the options file that are read.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most renditions of a stream: what an orchestrator reads and the signer signs for.
pub const MAX_PROFILES: usize = limits::PROFILES;

/// The configuration cannot be used; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadConfig {
    /// Longer than [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not the JSON expected.
    #[error("{0}")]
    Json(String),
    /// More than [`MAX_PROFILES`] renditions.
    #[error("more than {MAX_PROFILES} renditions")]
    TooMany,
    /// A rendition that cannot be made.
    #[error(transparent)]
    Profile(#[from] WireError),
    /// Playback URLs and answers are by name, and `source` is the pushed one's.
    #[error("the profile name {0} is taken")]
    SameName(String),
    /// Nothing left (only for `--transcoding-options`).
    #[error("No transcoding profiles found")]
    Nothing,
}

/// What the header decides. Fields for parts that Penstock does not have yet are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TranscodeConfig {
    /// The renditions; `None` when it names neither presets nor profiles: the defaults apply. An
    /// empty list means none at all.
    pub profiles: Option<Vec<VideoProfile>>,
    /// Every segment restarts the decoder.
    pub force_session_reinit: bool,
    /// Multiplies upload time limits when above 1; at most 10.
    pub timeout_multiplier: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawConfig {
    presets: Option<Vec<String>>,
    profiles: Option<Vec<Value>>,
    #[serde(rename = "forceSessionReinit")]
    force_session_reinit: bool,
    #[serde(rename = "timeoutMultiplier")]
    timeout_multiplier: u32,
}

/// Reads the header's value.
pub fn parse_header(text: &str) -> Result<TranscodeConfig, BadConfig> {
    if text.len() > MAX_BYTES {
        return Err(BadConfig::TooLong);
    }
    // serde would take `[]` for a configuration whose fields are all absent.
    if !text.trim_start().starts_with('{') {
        return Err(BadConfig::Json("expected a JSON object".to_owned()));
    }
    let raw: RawConfig = serde_json::from_str(text).map_err(|e| BadConfig::Json(e.to_string()))?;
    let profiles = match (&raw.presets, raw.profiles) {
        (None, None) => None,
        (presets, profiles) => {
            // Presets first; unknown names are dropped silently, as in the reference.
            let names = presets.iter().flatten();
            let mut all: Vec<_> = names.filter_map(|p| VideoProfile::preset(p.trim())).collect();
            all.extend(parse_profiles(
                Value::Array(profiles.unwrap_or_default()).to_string().as_bytes(),
            )?);
            Some(distinct(all)?)
        }
    };
    Ok(TranscodeConfig {
        profiles,
        force_session_reinit: raw.force_session_reinit,
        timeout_multiplier: raw.timeout_multiplier.min(10),
    })
}

/// Reads `--transcoding-options`: the text of a JSON file with an array of profiles, or a comma
/// list of preset names.
pub fn parse_options(text: &str) -> Result<Vec<VideoProfile>, BadConfig> {
    if text.len() > MAX_BYTES {
        return Err(BadConfig::TooLong);
    }
    let profiles: Vec<_> = if text.trim_start().starts_with('[') {
        parse_profiles(text.as_bytes())?
    } else {
        text.split(',').filter_map(|name| VideoProfile::preset(name.trim())).collect()
    };
    if profiles.is_empty() { Err(BadConfig::Nothing) } else { distinct(profiles) }
}

/// Gives every rendition the container of the pushed segments.
pub fn in_container(mut profiles: Vec<VideoProfile>, format: SegmentFormat) -> Vec<VideoProfile> {
    profiles.iter_mut().for_each(|p| p.format = format);
    profiles
}

fn distinct(profiles: Vec<VideoProfile>) -> Result<Vec<VideoProfile>, BadConfig> {
    if profiles.len() > MAX_PROFILES {
        return Err(BadConfig::TooMany);
    }
    let mut names = std::collections::BTreeSet::from(["source"]);
    match profiles.iter().find(|p| !names.insert(&p.name)) {
        Some(twice) => Err(BadConfig::SameName(twice.name.clone())),
        None => Ok(profiles),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;
    use penstock_domain::Gop;

    #[test]
    fn presets_profiles_and_neither() {
        assert_eq!(parse_header("{}").unwrap().profiles, None);
        assert_eq!(parse_header(r#"{"profiles":[]}"#).unwrap().profiles, Some(vec![]));
        assert_eq!(parse_header(r#"{"presets":["nope"]}"#).unwrap().profiles, Some(vec![]));
        let both = parse_header(
            r#"{"manifestID":"x","presets":["P144p30fps16x9"],
                "profiles":[{"width":640,"height":360,"bitrate":800000,"fps":30000,"fpsDen":1001,
                "gop":"2.5","profile":"H264High","encoder":"H.264"}],"forceSessionReinit":true}"#,
        )
        .unwrap();
        let profiles = both.profiles.unwrap();
        assert!(both.force_session_reinit);
        assert_eq!(profiles[0].name, "P144p30fps16x9");
        assert_eq!(profiles[1].name, "custom_640x360_800000");
        assert_eq!((profiles[1].gop, profiles[1].fps_den), (Gop::Millis(2500), 1001));
    }

    #[test]
    fn refusals() {
        for (text, says) in [
            ("", "object"),
            ("{", "EOF"),
            ("[]", "object"),
            ("{}x", "trailing"),
            (r#"{"profiles":[1]}"#, "profile"),
            (r#"{"profiles":[{"width":-1}]}"#, "width"),
            (r#"{"profiles":[{"width":1,"height":1,"bitrate":1,"encoder":"h264"}]}"#, "encoder"),
            (
                r#"{"profiles":[{"name":"source","width":1,"height":1,"bitrate":1}]}"#,
                "source is taken",
            ),
            (r#"{"presets":["P144p30fps16x9","P144p30fps16x9"]}"#, "taken"),
        ] {
            let error = parse_header(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(parse_header(&" ".repeat(MAX_BYTES + 1)), Err(BadConfig::TooLong));
    }

    #[test]
    fn options() {
        let names = |t| parse_options(t).unwrap().into_iter().map(|p| p.name).collect::<Vec<_>>();
        let two = names(" P240p30fps16x9 , nope,P720p30fps16x9");
        assert_eq!(two, ["P240p30fps16x9", "P720p30fps16x9"]);
        assert_eq!(names(r#" [{"name":"a","width":16,"height":16,"bitrate":1}]"#), ["a"]);
        assert_eq!(parse_options("nope"), Err(BadConfig::Nothing));
        assert_eq!(parse_options("[]"), Err(BadConfig::Nothing));
    }

    #[test]
    fn whatever_the_header_is() {
        let valid = r#"{"presets":["P144p30fps16x9"],"profiles":[{"name":"n","width":640,"height":360,
            "bitrate":800000,"fps":30000,"fpsDen":1001,"gop":"2.5","profile":"H264High"}]}"#;
        cases(100_000, |rng| {
            let text = damaged(rng, valid.as_bytes(), 3);
            let text = String::from_utf8_lossy(&text);
            if let Ok(TranscodeConfig { profiles: Some(profiles), .. }) = parse_header(&text) {
                assert!(profiles.len() <= MAX_PROFILES);
                assert!(profiles.into_iter().all(|p| p.checked().is_ok()), "{text}");
            }
            let _ = parse_options(&text);
        });
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            "\"profiles\"",
            "\"width\"",
            ":",
            ",",
            "1e9",
            "-1",
            "null",
            "\"\"",
            "99999999999999999999",
        ];
        cases(30_000, |rng| {
            let text = pieced(rng, &pieces, 12);
            let _ = parse_header(&text);
            let _ = parse_options(&text);
        });
    }
}

//! Which renditions a stream gets: `--transcoding-options` and the header
//! `Livepeer-Transcode-Configuration` (operator.md section 6.1, video-transcode-worker.md section 6).

use penstock_domain::{SegmentFormat, VideoProfile};
use penstock_wire::{WireError, json::parse_profiles, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Most bytes of the header's JSON or of the options file that are read.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most renditions of a stream: what an orchestrator reads and the signer signs for.
pub const MAX_PROFILES: usize = limits::PROFILES;
/// Most earlier streams that a recording goes on from.
const MAX_PREVIOUS: usize = 64;

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

/// What the header, or the stream webhook's answer, decides. Fields for parts that Penstock does not
/// have are ignored (`verificationFreq`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TranscodeConfig {
    /// The renditions; `None` when it names neither presets nor profiles: the defaults apply. An
    /// empty list means none at all.
    pub profiles: Option<Vec<VideoProfile>>,
    /// Every segment restarts the decoder.
    pub force_session_reinit: bool,
    /// Multiplies upload time limits when above 1; at most 10.
    pub timeout_multiplier: u32,
    /// `profiles` alone, without the presets: what header and webhook have to agree in.
    pub own_profiles: Vec<VideoProfile>,
    /// The stream's id, by which it is played, if it is not the one in the URL.
    pub manifest_id: Option<String>,
    /// Where its segments are put as well.
    pub object_store: Option<StoreUrl>,
    /// Where it is recorded.
    pub record_store: Option<StoreUrl>,
    /// By which address recordings are read.
    pub record_url: Option<String>,
    /// Streams whose recordings come before this one's.
    pub previous_sessions: Vec<String>,
}

/// An object store's address. It holds a secret, which logs must not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreUrl(pub String);

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreUrl(…)")
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConfig {
    presets: Option<Vec<String>>,
    profiles: Option<Vec<Value>>,
    #[serde(rename = "manifestID")]
    manifest_id: String,
    #[serde(rename = "objectStore")]
    object_store: String,
    #[serde(rename = "recordObjectStore")]
    record_store: String,
    #[serde(rename = "recordObjectStoreUrl")]
    record_url: String,
    #[serde(rename = "previousSessions")]
    previous_sessions: Option<Vec<String>>,
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
    let says_none = raw.presets.is_none() && raw.profiles.is_none();
    let own = Value::Array(raw.profiles.unwrap_or_default()).to_string();
    let own_profiles = parse_profiles(own.as_bytes())?;
    let profiles = if says_none {
        None
    } else {
        // Presets first; unknown names are dropped silently, as in the reference.
        let names = raw.presets.iter().flatten();
        let mut all: Vec<_> = names.filter_map(|p| VideoProfile::preset(p.trim())).collect();
        all.extend(own_profiles.iter().cloned());
        Some(distinct(all)?)
    };
    let previous_sessions = raw.previous_sessions.unwrap_or_default();
    if previous_sessions.len() > MAX_PREVIOUS {
        return Err(BadConfig::Json(format!("more than {MAX_PREVIOUS} previous sessions")));
    }
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(TranscodeConfig {
        profiles,
        force_session_reinit: raw.force_session_reinit,
        timeout_multiplier: raw.timeout_multiplier.min(10),
        own_profiles,
        manifest_id: said(raw.manifest_id),
        object_store: said(raw.object_store).map(StoreUrl),
        record_store: said(raw.record_store).map(StoreUrl),
        record_url: said(raw.record_url),
        previous_sessions,
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
        let profiles = both.profiles.clone().unwrap();
        assert!(both.force_session_reinit);
        assert_eq!(both.manifest_id.as_deref(), Some("x"));
        assert_eq!(both.own_profiles, profiles[1..]);
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
    fn recordings() {
        let config = parse_header(
            r#"{"recordObjectStore":"s3://k:secret@r/b","recordObjectStoreUrl":"https://b","previousSessions":["a"]}"#,
        )
        .unwrap();
        assert_eq!(config.record_url.as_deref(), Some("https://b"));
        assert_eq!(config.previous_sessions, ["a"]);
        assert_eq!(config.record_store.as_ref().unwrap().0, "s3://k:secret@r/b");
        assert!(!format!("{config:?}").contains("secret"));
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

//! Settings of video: renditions, the stream webhook, RTMP, playback.

use crate::media::config_header;
use penstock_config::ConfigError;
use penstock_domain::VideoProfile;
use penstock_store::CLAIM_MS;
use std::{net::SocketAddr, time::Duration};
use url::Url;

/// Where RTMP listens when nobody says otherwise.
const RTMP_DEFAULT: &str = "127.0.0.1:1935";

/// Ingest and playback of video.
#[derive(Debug, Clone, clap::Args)]
pub struct VideoArgs {
    /// Renditions of a stream whose pusher names none: preset names separated by commas, or a file
    /// with a JSON array of profiles.
    #[arg(
        long,
        env = "PENSTOCK_TRANSCODING_OPTIONS",
        default_value = "P240p30fps4x3,P360p30fps16x9",
        value_name = "PRESETS|FILE"
    )]
    pub transcoding_options: String,

    /// Asked before a stream begins: POST with {"url": …}. Any status but 200 refuses the stream; the
    /// answer may name its id, renditions and record store.
    #[arg(long, env = "PENSTOCK_AUTH_WEBHOOK_URL", value_name = "URL")]
    pub auth_webhook_url: Option<String>,

    /// How long the webhook may take, in milliseconds.
    #[arg(
        long,
        env = "PENSTOCK_AUTH_WEBHOOK_TIMEOUT_MS",
        default_value_t = 5_000,
        value_name = "MS",
        value_parser = penstock_config::within::<u64>(0, 3_600_000)
    )]
    pub auth_webhook_timeout_ms: u64,

    /// A stream to which nothing was pushed for so long is over, in milliseconds: its playlists end,
    /// and the next push begins it anew.
    #[arg(long, env = "PENSTOCK_STREAM_IDLE_MS", default_value_t = 60_000, value_name = "MS")]
    pub stream_idle_ms: u64,

    /// Serve the newest stream's playlist as /stream/current.m3u8 as well.
    #[arg(long, env = "PENSTOCK_CURRENT_MANIFEST")]
    pub current_manifest: bool,

    /// How long playlists wait for a segment that is missing between two others, in milliseconds,
    /// before they go on with a discontinuity: 0, or at least 5000, so that another gateway can make a
    /// segment whose gateway died.
    #[arg(long, env = "PENSTOCK_HLS_GAP_WAIT_MS", default_value_t = 6_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 3_600_000))]
    pub hls_gap_wait_ms: u64,

    /// Address of the RTMP interface, or `none`. Port 0 chooses a free one. Default:
    /// 127.0.0.1:1935, and nothing if that is taken.
    #[arg(long, env = "PENSTOCK_RTMP_ADDR", value_name = "IP:PORT|none")]
    pub rtmp_addr: Option<String>,

    /// RTMP publishers at a time; more are turned away.
    #[arg(long, env = "PENSTOCK_RTMP_MAX_CONNECTIONS", default_value_t = 200, value_name = "N",
          value_parser = penstock_config::within::<usize>(0, 1_000_000))]
    pub rtmp_max_connections: usize,

    /// Most bits per second of an RTMP publisher, measured over a segment.
    #[arg(
        long,
        env = "PENSTOCK_RTMP_MAX_BITRATE",
        default_value_t = 50_000_000,
        value_name = "BITS",
        value_parser = penstock_config::within::<u64>(0, 976562500 << 10)
    )]
    pub rtmp_max_bitrate: u64,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct VideoSettings {
    /// `--transcoding-options`.
    pub profiles: Vec<VideoProfile>,
    /// `--auth-webhook-url`.
    pub webhook: Option<Url>,
    /// `--auth-webhook-timeout-ms`.
    pub webhook_timeout: Duration,
    /// `--stream-idle-ms`.
    pub stream_idle_ms: u64,
    /// `--hls-gap-wait-ms`.
    pub hls_gap_wait_ms: u64,
    /// `--rtmp-addr`.
    pub rtmp: RtmpListen,
    /// `--rtmp-max-connections`.
    pub rtmp_max_connections: usize,
    /// `--rtmp-max-bitrate`.
    pub rtmp_max_bitrate: u64,
    /// How often an RTMP publisher's key is looked at again: often enough that what is known of a key is
    /// renewed behind its back. No flag.
    pub rtmp_look_again: Duration,
}

/// Whether and where RTMP is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtmpListen {
    /// Not at all.
    Off,
    /// There, if it is free: a second gateway on one machine needs no setting to start.
    IfFree(SocketAddr),
    /// There, or the gateway does not start.
    At(SocketAddr),
}

impl VideoSettings {
    /// Checks.
    pub fn from_args(args: &VideoArgs) -> Result<Self, ConfigError> {
        for (setting, value) in [
            ("--rtmp-max-connections", args.rtmp_max_connections as u64),
            ("--rtmp-max-bitrate", args.rtmp_max_bitrate),
            ("--auth-webhook-timeout-ms", args.auth_webhook_timeout_ms),
        ] {
            if value == 0 {
                return Err(ConfigError::value(setting, "must be above 0"));
            }
        }
        if !(1_000..=240_000).contains(&args.stream_idle_ms) {
            // A stream is remembered for 300 s after its last push.
            return Err(ConfigError::value("--stream-idle-ms", "must be from 1000 to 240000"));
        }
        if args.hls_gap_wait_ms != 0 && args.hls_gap_wait_ms < CLAIM_MS + 1_000 {
            return Err(ConfigError::value("--hls-gap-wait-ms", "must be 0, or at least 5000"));
        }
        let webhook = args.auth_webhook_url.as_deref();
        Ok(Self {
            profiles: profiles(&args.transcoding_options)?,
            webhook: webhook
                .map(|text| super::url("--auth-webhook-url", text, "https://"))
                .transpose()?,
            webhook_timeout: Duration::from_millis(args.auth_webhook_timeout_ms),
            stream_idle_ms: args.stream_idle_ms,
            hls_gap_wait_ms: args.hls_gap_wait_ms,
            rtmp: rtmp(args.rtmp_addr.as_deref())?,
            rtmp_max_connections: args.rtmp_max_connections,
            rtmp_max_bitrate: args.rtmp_max_bitrate,
            rtmp_look_again: Duration::from_secs(5),
        })
    }
}

fn rtmp(said: Option<&str>) -> Result<RtmpListen, ConfigError> {
    let address = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| {
            ConfigError::value("--rtmp-addr", format!("{text:?} is neither IP:PORT nor none"))
        })
    };
    match said {
        None => Ok(RtmpListen::IfFree(address(RTMP_DEFAULT)?)),
        Some("none") => Ok(RtmpListen::Off),
        Some(text) => Ok(RtmpListen::At(address(text)?)),
    }
}

fn profiles(value: &str) -> Result<Vec<VideoProfile>, ConfigError> {
    let bad = |reason: String| ConfigError::value("--transcoding-options", reason);
    let text = match std::fs::metadata(value) {
        Ok(meta) if meta.is_file() && meta.len() > 0 => {
            if meta.len() > config_header::MAX_BYTES as u64 {
                return Err(bad(config_header::BadConfig::TooLong.to_string()));
            }
            std::fs::read_to_string(value).map_err(|e| bad(format!("cannot read {value}: {e}")))?
        }
        _ => value.to_owned(),
    };
    config_header::parse_options(&text).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_rtmp_listens() {
        assert_eq!(rtmp(None).unwrap(), RtmpListen::IfFree(RTMP_DEFAULT.parse().unwrap()));
        assert_eq!(rtmp(Some("none")).unwrap(), RtmpListen::Off);
        assert_eq!(rtmp(Some("[::1]:0")).unwrap(), RtmpListen::At("[::1]:0".parse().unwrap()));
        assert!(rtmp(Some("1935")).unwrap_err().to_string().starts_with("--rtmp-addr"));
    }
}

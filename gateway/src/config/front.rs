//! Settings of the front door: places, queues, memory.

use penstock_config::ConfigError;
use std::time::Duration;

/// Places for jobs, and who waits for them.
#[derive(Debug, Clone, clap::Args)]
pub struct FrontArgs {
    /// Video segments at work at a time; more wait.
    #[arg(long, env = "PENSTOCK_VIDEO_MAX_IN_FLIGHT", default_value_t = 256, value_name = "N")]
    pub video_max_in_flight: usize,

    /// Video segments that may wait for a place; more get 503.
    #[arg(long, env = "PENSTOCK_VIDEO_QUEUE", default_value_t = 512, value_name = "N")]
    pub video_queue: usize,

    /// How long a video segment waits for a place before it gets 503, in milliseconds.
    #[arg(long, env = "PENSTOCK_VIDEO_QUEUE_WAIT_MS", default_value_t = 2_000, value_name = "MS")]
    pub video_queue_wait_ms: u64,

    /// AI jobs at work at a time; more wait. They never take a place of a video segment.
    #[arg(long, env = "PENSTOCK_AI_MAX_IN_FLIGHT", default_value_t = 256, value_name = "N")]
    pub ai_max_in_flight: usize,

    /// AI jobs that may wait for a place; more get 503.
    #[arg(long, env = "PENSTOCK_AI_QUEUE", default_value_t = 512, value_name = "N")]
    pub ai_queue: usize,

    /// How long an AI job waits for a place before it gets 503, in milliseconds.
    #[arg(long, env = "PENSTOCK_AI_QUEUE_WAIT_MS", default_value_t = 10_000, value_name = "MS")]
    pub ai_queue_wait_ms: u64,

    /// Jobs that one caller may have at work or waiting at this replica; more get 429. Default: a
    /// quarter of the smaller one of both limits when callers are told apart, else none.
    #[arg(long, env = "PENSTOCK_CALLER_MAX_IN_FLIGHT", value_name = "N")]
    pub caller_max_in_flight: Option<usize>,

    /// Most bytes of request bodies in memory at a time; above it requests get 503. Of these neither
    /// workload may hold more than three quarters.
    #[arg(
        long,
        env = "PENSTOCK_MAX_BUFFERED_BYTES",
        default_value_t = 2_000_000_000,
        value_name = "BYTES"
    )]
    pub max_buffered_bytes: usize,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// For segments.
    pub video: LaneSettings,
    /// For AI jobs.
    pub ai: LaneSettings,
    /// `--caller-max-in-flight`.
    pub caller_max_in_flight: Option<usize>,
    /// `--max-buffered-bytes`.
    pub max_buffered_bytes: usize,
}

/// One workload's places.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// At work at a time.
    pub max_in_flight: usize,
    /// In line at a time.
    pub queue: usize,
    /// Longest wait in line.
    pub queue_wait: Duration,
}

impl FrontSettings {
    /// Checks.
    pub fn from_args(args: &FrontArgs) -> Result<Self, ConfigError> {
        for (setting, value) in [
            ("--video-max-in-flight", args.video_max_in_flight),
            ("--ai-max-in-flight", args.ai_max_in_flight),
            ("--caller-max-in-flight", args.caller_max_in_flight.unwrap_or(1)),
            ("--max-buffered-bytes", args.max_buffered_bytes),
        ] {
            if value == 0 {
                return Err(ConfigError::value(setting, "must be above 0"));
            }
        }
        Ok(Self {
            video: LaneSettings {
                max_in_flight: args.video_max_in_flight,
                queue: args.video_queue,
                queue_wait: Duration::from_millis(args.video_queue_wait_ms),
            },
            ai: LaneSettings {
                max_in_flight: args.ai_max_in_flight,
                queue: args.ai_queue,
                queue_wait: Duration::from_millis(args.ai_queue_wait_ms),
            },
            caller_max_in_flight: args.caller_max_in_flight,
            max_buffered_bytes: args.max_buffered_bytes,
        })
    }
}

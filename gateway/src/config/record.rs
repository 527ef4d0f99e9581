//! Settings of recordings.

use super::stores::{self, StoresArgs};
use penstock_config::ConfigError;
use penstock_store::S3Options;
use std::path::PathBuf;

/// Recordings.
#[derive(Debug, Clone, clap::Args)]
pub struct RecordArgs {
    /// Where streams are recorded for which webhook or header name no store: `disk:PATH` (replicas need
    /// a shared file system), or s3://BUCKET[/PREFIX], with endpoint, region and key as
    /// --segment-store-… say. Nothing is recorded without it.
    #[arg(long, env = "PENSTOCK_RECORD_STORE", value_name = "STORE")]
    pub record_store: Option<String>,

    /// Recorded files in --record-store go when they are so old, in hours; 0 keeps them.
    #[arg(
        long,
        env = "PENSTOCK_RECORD_RETENTION_HOURS",
        default_value_t = 0,
        value_name = "HOURS",
        value_parser = clap::value_parser!(u64).range(0..=876_000)
    )]
    pub record_retention_hours: u64,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct RecordSettings {
    /// `--record-store`.
    pub store: Option<RecordStoreKind>,
    /// `--record-retention-hours`, if it is not for good.
    pub retention_ms: Option<u64>,
}

/// Which record store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordStoreKind {
    /// Files.
    Disk(PathBuf),
    /// Objects.
    S3(S3Options),
}

impl RecordSettings {
    /// Checks.
    pub fn from_args(args: &RecordArgs, with: &StoresArgs) -> Result<Self, ConfigError> {
        const NAME: &str = "--record-store";
        let store = match args.record_store.as_deref() {
            None => None,
            Some(text) if text.starts_with("s3:") => {
                Some(RecordStoreKind::S3(stores::s3(with, NAME, text)?))
            }
            Some(text) => match text.strip_prefix("disk:") {
                Some(path) if !path.is_empty() => Some(RecordStoreKind::Disk(path.into())),
                // Not shown: whoever brings the reference's address brings a key.
                _ => {
                    let says = "is neither disk:PATH nor s3://BUCKET[/PREFIX]";
                    return Err(ConfigError::value(NAME, says));
                }
            },
        };
        let hours = args.record_retention_hours;
        Ok(Self { store, retention_ms: (hours > 0).then_some(hours * 3_600_000) })
    }
}

//! Settings of object stores.

use super::own::OwnStore;
use clap::Args;
use penstock_config::{ConfigError, read_secret_file};
use std::path::PathBuf;

/// Settings of object stores.
#[derive(Debug, Clone, Args)]
pub struct ObjectArgs {
    /// File with the address of a bucket for results, instead of memory: `s3://KEY:SECRET@REGION/BUCKET[/PREFIX]`, or
    /// `s3+https://KEY:SECRET@HOST[:PORT]/BUCKET[/PREFIX]` of another provider than AWS. Its objects have to be readable by everybody
    /// (their ACL is public-read), and nothing deletes them: give it a lifecycle rule.
    #[arg(long, env = "PENSTOCK_OBJECT_STORE_FILE", value_name = "FILE")]
    pub object_store_file: Option<PathBuf>,

    /// Longest time for one file into a bucket, in milliseconds. What takes longer stays in memory here.
    #[arg(long, env = "PENSTOCK_OBJECT_STORE_TIMEOUT_MS", default_value_t = 3_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub object_store_timeout_ms: u64,
}

impl ObjectArgs {
    /// The operator's bucket.
    pub(super) fn own(&self) -> Result<Option<OwnStore>, ConfigError> {
        const SETTING: &str = "--object-store-file";
        let Some(path) = &self.object_store_file else { return Ok(None) };
        let address = read_secret_file(path, SETTING)?;
        let own = OwnStore::parse(address.expose().trim());
        own.map(Some).map_err(|why| ConfigError::value(SETTING, format!("the address {why}")))
    }
}

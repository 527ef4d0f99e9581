//! Results as objects in buckets (orchestrator-wire.md section 12): a gateway may give the right to write
//! below one name of its bucket, and the operator may have a bucket of his own.
//!
//! [`upload`] writes one object; [`own`] is the operator's bucket, and the rights to it that gateways
//! get; [`place`] decides where a file of a result goes.

pub mod args;
mod own;
mod place;
mod upload;

use crate::config::Args;
use own::OwnStore;
use penstock_clients::{BuildError, Reach};
use penstock_config::ConfigError;
use penstock_wire::Bucket;
use std::time::Duration;
use thiserror::Error;
use upload::Uploader;

/// Writing objects cannot begin.
#[derive(Debug, Error)]
pub enum ObjectsError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No HTTP client.
    #[error(transparent)]
    Client(#[from] BuildError),
}

/// All buckets that results may go to.
pub struct Objects {
    /// For buckets that gateways name.
    gateways: Uploader,
    /// The operator's.
    own: Option<(OwnStore, Uploader)>,
}

impl Objects {
    /// As set by the operator.
    pub fn open(args: &Args) -> Result<Self, ObjectsError> {
        let time = Duration::from_millis(args.objects.object_store_timeout_ms);
        let own = match args.objects.own()? {
            // Where it is, the operator says.
            Some(own) => Some((own, Uploader::new(Reach::Anywhere, time)?)),
            None => None,
        };
        let reach = if args.allow_private_urls { Reach::Anywhere } else { Reach::PublicOnly };
        Ok(Self { gateways: Uploader::new(reach, time)?, own })
    }

    /// The right to write a session's files into the operator's bucket; `None` without one.
    pub fn grant(&self, session_id: &str) -> Option<Bucket> {
        let (own, _) = self.own.as_ref()?;
        Some(own.grant(session_id, time::OffsetDateTime::now_utc()))
    }
}

//! Results as objects in buckets (orchestrator-wire.md section 12): a gateway may give the right to write
//! below one name of its bucket, and the operator may have a bucket of his own.
//!
//! [`upload`] writes one object; [`own`] is the operator's bucket, and the rights to it that gateways
//! get; [`place`] decides where a file of a result goes.

pub mod args;
mod own;
mod place;
mod upload;

use crate::{config::Args, service::fetch::Fetcher};
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
    own: Option<Own>,
}

/// The operator's bucket, and who writes there and reads from there. Where it is, the operator says.
struct Own {
    store: OwnStore,
    /// Largest object that a gateway may write there.
    most_bytes: u64,
    uploader: Uploader,
    fetcher: Fetcher,
}

impl Objects {
    /// As set by the operator.
    pub fn open(args: &Args) -> Result<Self, ObjectsError> {
        let time = Duration::from_millis(args.objects.object_store_timeout_ms);
        let own = match args.objects.own()? {
            Some(store) => Some(Own {
                store,
                most_bytes: args.limits.segment_bytes,
                uploader: Uploader::new(Reach::Anywhere, time)?,
                fetcher: Fetcher::new(true)?,
            }),
            None => None,
        };
        let reach = if args.allow_private_urls { Reach::Anywhere } else { Reach::PublicOnly };
        Ok(Self { gateways: Uploader::new(reach, time)?, own })
    }

    /// The right to write a session's files into the operator's bucket; `None` without one.
    pub fn grant(&self, session_id: &str) -> Option<Bucket> {
        let own = self.own.as_ref()?;
        Some(own.store.grant(session_id, time::OffsetDateTime::now_utc(), own.most_bytes))
    }

    /// Who fetches what a gateway says is at `url`: what it has put into the operator's bucket below the name of its
    /// session may be wherever that bucket is. For what is anybody else's there, it is a peer as any other.
    pub fn fetcher<'a>(
        &'a self,
        url: &str,
        session_id: &str,
        of_peers: &'a Fetcher,
    ) -> &'a Fetcher {
        let own = self.own.as_ref().filter(|own| own.store.has(url, session_id));
        own.map_or(of_peers, |own| &own.fetcher)
    }
}

//! How names become addresses: one way for every client, that tests can take the place of.
//!
//! A name is looked up each time it is connected to. Who owns a name decides what its lookups answer,
//! and may answer another address the second time (DNS rebinding): what an earlier lookup said counts
//! for nothing, the addresses of the lookup that is connected to are the ones that are checked.

use futures::future::BoxFuture;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Looks names up.
pub trait Lookup: fmt::Debug + Send + Sync {
    /// The addresses that `name` has now, the preferred one first. An error: it has none, or nobody
    /// can tell now.
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// What clients ask. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Names(Arc<dyn Lookup>);

impl Names {
    /// Asks this one instead of the system.
    pub fn new(lookup: impl Lookup + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The addresses of a name now.
    pub async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.0.lookup(name).await
    }
}

impl Default for Names {
    /// The system's.
    fn default() -> Self {
        Self::new(System)
    }
}

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
struct System;

impl Lookup for System {
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|a: SocketAddr| a.ip()).collect())
        })
    }
}

//! Whether somebody still listens to the running request's answer. Most jobs are done to their end whoever
//! hangs up, because they are paid for ([`crate::routes::to_the_end`]). An answer in pieces is nobody's but
//! its client's: until its first piece is there it is waited for only while the client is.
//!
//! Goes with the task that was made for the request.

use tokio_util::sync::{CancellationToken, DropGuard};

tokio::task_local! {
    static CURRENT: CancellationToken;
}

/// A client that listens as long as this is kept.
#[derive(Debug)]
pub struct Listener {
    gone: CancellationToken,
    _kept: DropGuard,
}

impl Default for Listener {
    fn default() -> Self {
        let gone = CancellationToken::new();
        Self { _kept: gone.clone().drop_guard(), gone }
    }
}

impl Listener {
    /// `work` as a task that this client listens to.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.gone.clone(), work)
    }
}

/// Resolves when nobody listens to the running request any more; never, for work that is done to its end.
pub async fn gone() {
    match CURRENT.try_with(Clone::clone) {
        Ok(gone) => gone.cancelled().await,
        Err(_) => std::future::pending().await,
    }
}

/// Whether nobody does.
pub fn is_gone() -> bool {
    CURRENT.try_with(CancellationToken::is_cancelled).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_listener_is_there_until_it_is_dropped() {
        assert!(!is_gone() && gone().now_or_never().is_none(), "outside of any request");
        let listener = Listener::default();
        let (there, left) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let work = listener.scope(async {
            assert!(!is_gone() && gone().now_or_never().is_none());
            there.notify_one();
            left.notified().await;
            gone().await;
            is_gone()
        });
        let leave = async {
            there.notified().await;
            drop(listener);
            left.notify_one();
        };
        assert!(tokio::join!(work, leave).0);
    }
}

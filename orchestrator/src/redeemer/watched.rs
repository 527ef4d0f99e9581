//! Max floats as a redeemer tells them, once or after each change.

use crate::service::{cashier::MoneyError, funds::Funds};
use futures::{Stream, stream};
use penstock_domain::{Address, Wei};
use penstock_http_kit::CancellationToken;
use penstock_wire::{net, redeemer::write_max_float};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

/// A sender's max float now. Less than nothing is nothing: the wire has no sign.
pub async fn max_float(funds: &Funds, sender: Address) -> Result<Wei, MoneyError> {
    let float = funds.sender_float(sender).await?.max_float();
    Ok(float.floor_u256().map_or(Wei::ZERO, Wei::from))
}

/// What it is, and then what it becomes, found out at each look at the chain. It is the reader who asks
/// for the next one, so that a slow one misses what lies between and nothing piles up.
pub fn changes(
    funds: Funds,
    sender: Address,
    room: OwnedSemaphorePermit,
    stop: CancellationToken,
) -> impl Stream<Item = Result<net::MaxFloatUpdate, Status>> + Send + 'static {
    let news = funds.chain.subscribe();
    metrics::gauge!("redeemer_float_streams").increment(1.0);
    let watched = Watched { funds, sender, news, told: None, begun: false, _room: room };
    stream::unfold(watched, move |mut watched| {
        let stop = stop.clone();
        async move {
            let next = tokio::select! {
                () = stop.cancelled() => None,
                next = watched.next() => next,
            };
            next.map(|max_float| (Ok(write_max_float(max_float)), watched))
        }
    })
}

struct Watched {
    funds: Funds,
    sender: Address,
    news: tokio::sync::watch::Receiver<Option<crate::chain_view::Snapshot>>,
    told: Option<Wei>,
    begun: bool,
    _room: OwnedSemaphorePermit,
}

impl Watched {
    async fn next(&mut self) -> Option<Wei> {
        loop {
            if std::mem::replace(&mut self.begun, true) {
                self.news.changed().await.ok()?;
            }
            match max_float(&self.funds, self.sender).await {
                Ok(now) if self.told != Some(now) => {
                    self.told = Some(now);
                    return Some(now);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(sender = %self.sender, %error, "a max float is not known now");
                }
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        metrics::gauge!("redeemer_float_streams").decrement(1.0);
    }
}

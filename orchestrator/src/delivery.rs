//! Work that was charged and that its client did not get. It is counted, so that an operator sees at zero that
//! there is none: whatever is not delivered is not charged, but for what the manual's table of it says.

use crate::release::Kind;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use penstock_domain::Rational;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Shows the counters before there is anything to count.
pub fn show() {
    for kind in Kind::ALL {
        count(kind, 0, 0);
    }
}

fn count(kind: Kind, jobs: u64, wei: u64) {
    let kind = kind.as_str();
    metrics::counter!("orchestrator_undelivered_total", "kind" => kind).increment(jobs);
    metrics::counter!("orchestrator_undelivered_wei_total", "kind" => kind).increment(wei);
}

/// One fee, in wei, for something that nobody got. What costs nothing is not counted.
pub fn undelivered(kind: Kind, fee: &Rational) {
    if !fee.is_positive() {
        return;
    }
    count(kind, 1, whole_wei(fee));
    tracing::info!(kind = kind.as_str(), fee_wei = %fee, "charged and not delivered");
}

/// Rounded up; past 2^64 the counter says that much.
fn whole_wei(fee: &Rational) -> u64 {
    let down = fee.floor_u256().and_then(|wei| u64::try_from(wei).ok()).unwrap_or(u64::MAX);
    if Rational::from(down) < *fee { down.saturating_add(1) } else { down }
}

/// Something charged, on its way to its client: dropped before it is delivered, it counts.
#[derive(Debug)]
pub struct Due {
    kind: Kind,
    fee: Rational,
    is_delivered: bool,
}

impl Due {
    /// A fee that is in the books.
    pub fn new(kind: Kind, fee: Rational) -> Self {
        Self { kind, fee, is_delivered: false }
    }

    /// Its client has it.
    pub fn delivered(mut self) {
        self.is_delivered = true;
    }

    /// It is delivered when the connection has taken all of the body.
    pub fn with(self, body: Body) -> Body {
        if body.is_end_stream() {
            // Nothing that could be taken: its head is all there is.
            self.delivered();
            return body;
        }
        Body::new(Watched { body, due: Some(self) })
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        if !self.is_delivered {
            undelivered(self.kind, &self.fee);
        }
    }
}

struct Watched {
    body: Body,
    due: Option<Due>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let is_all = match &frame {
            None => true,
            Some(Ok(_)) => this.body.is_end_stream(),
            Some(Err(_)) => false,
        };
        if is_all && let Some(due) = this.due.take() {
            due.delivered();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;

    #[test]
    fn wei_are_rounded_up_and_bounded() {
        let of = |text: &str| whole_wei(&text.parse().unwrap());
        assert_eq!([of("0"), of("1/3"), of("7"), of("22/3")], [0, 1, 7, 8]);
        assert_eq!(of("36893488147419103232"), u64::MAX);
    }

    #[tokio::test]
    async fn a_body_is_delivered_when_all_of_it_was_taken() {
        let due = || Due::new(Kind::Ai, Rational::ONE);
        let mut whole = due().with(Body::from("all of it")).into_data_stream();
        assert_eq!(whole.next().await.unwrap().unwrap(), "all of it");
        let empty = due().with(Body::empty());
        assert!(empty.is_end_stream());
        let pieces = ["a", "b"].map(Ok::<_, std::io::Error>);
        let mut watched =
            Watched { body: Body::from_stream(futures::stream::iter(pieces)), due: Some(due()) };
        let mut next = async || {
            std::future::poll_fn(|cx| Pin::new(&mut watched).poll_frame(cx)).await;
            watched.due.is_some()
        };
        assert!(next().await && next().await, "its end has not come");
        assert!(!next().await);
    }
}

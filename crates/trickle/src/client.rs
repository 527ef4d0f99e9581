//! Publisher and subscriber over HTTP, against this server or any other of the network (trickle.md
//! sections 8 and 9).
//!
//! Both keep one request ahead: a publisher the next segment's `POST`, a subscriber the next
//! segment's `GET`. Every wait has a deadline ([`Deadlines`]), every failure is a [`ClientError`]
//! that says whose fault it is and what to do next.

mod endpoint;
mod error;
mod get;
mod post;
mod publisher;
mod reader;
mod subscriber;
mod writer;

pub use error::{ClientError, Then, Wait};
pub use publisher::{Publisher, PublisherOptions, Start};
pub use reader::SegmentReader;
pub use subscriber::{Subscriber, SubscriberOptions};
pub use writer::SegmentWriter;

use penstock_clients::{BuildError, HttpOptions, Reach, Trust};
use std::time::Duration;

/// How long a wait may take. None of them limits how long a segment lasts.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a whole small call: create, next, delete.
    pub call: Duration,
    /// Until the transport takes a chunk (SDK: 5 s). Longer means that the server does not read.
    pub chunk: Duration,
    /// From a segment's last byte to the server's answer.
    pub finish: Duration,
    /// A `GET` whose segment has not begun is made anew after so long (Go node: 20 s), so that a
    /// connection that died in silence is noticed.
    pub refresh: Duration,
    /// Between two chunks of a segment that is read. Longer than servers keep idle channels: a
    /// publisher may be silent for that long.
    pub silence: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(30),
            chunk: Duration::from_secs(5),
            finish: Duration::from_secs(30),
            refresh: Duration::from_secs(20),
            silence: Duration::from_secs(6 * 60 + 30),
        }
    }
}

/// An HTTP client fit for trickle: HTTP/1.1, so that no number of open requests keeps another one
/// waiting, and no limit on how long an answer takes. Clone it freely: clones share connections.
///
/// The process must have installed its TLS provider.
pub fn http(trust: Trust, reach: Reach) -> Result<reqwest::Client, BuildError> {
    penstock_clients::http(&HttpOptions {
        trust,
        reach,
        http1_only: true,
        // Also counts while a publish waits for its answer, which comes with the segment's end.
        read_timeout: Duration::from_secs(24 * 3600),
        total_timeout: None,
        idle_timeout: Duration::from_secs(60),
        ..HttpOptions::default()
    })
}

//! Publishing and subscribing inside the process (trickle.md section 6).

mod publisher;
mod subscriber;
mod watch;

pub use publisher::{LocalPublisher, LocalSegment};
pub use subscriber::{LocalRead, LocalReader, LocalSubscriber};
pub use watch::ChannelWatch;

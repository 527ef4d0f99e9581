//! Events go from the ledger's outbox to the operator's sink: at least once, in order within a
//! payment session, by one replica at a time.
//!
//! An event is in the books with the payment it tells of, and stays there until the sink has it:
//! a sink that is down for an hour costs rows in the ledger, not memory and not events. The
//! dispatcher never stands in the way of payments.

pub mod args;
mod dispatcher;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "redis")]
mod redis;
mod report;
mod sink;
mod webhook;

pub use dispatcher::Dispatcher;
pub use report::EventsReport;
pub use sink::SinkError;

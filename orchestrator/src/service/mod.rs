//! What the orchestrator does, apart from how it is asked.

pub mod again;
pub mod cashier;
pub mod charges;
pub mod counted;
pub mod credentials;
pub mod deadline;
pub mod fetch;
pub mod funds;
pub mod hands;
pub mod holds;
pub mod offers;
#[cfg(test)]
mod poor_senders;
pub mod put_off;
pub mod redemption;
mod right;
pub mod segment;
pub mod sessions;
mod short;
pub mod stake;
mod taken_back;
pub mod terms;

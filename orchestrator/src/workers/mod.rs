//! Workers that registered, what they have to do, and who does it.

pub mod ai;
pub mod choose;
pub mod tasks;
pub mod transcoders;

//! Trickle: low-latency relay of a stream as numbered segments over plain HTTP (trickle.md).
//!
//! A **channel** is a name under which one publisher writes segments 0, 1, 2, … and any number of
//! subscribers read them while they are written. A publisher opens the next segment's `POST` before
//! it has a byte for it, a subscriber the next segment's `GET` before there is one; so a byte is on
//! its way to everybody the moment it arrives.
//!
//! - [`TrickleServer`]: channels in memory, an axum router for any prefix, and publishers and
//!   subscribers inside the process ([`LocalPublisher`], [`LocalSubscriber`]). Every list and byte is
//!   bounded by [`Limits`]; who may do what is decided by a [`Gate`].
//! - [`client`]: publisher and subscriber over HTTP.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod budget;
mod channel;
pub mod client;
mod error;
mod gate;
mod group;
mod leftovers;
mod local;
mod pages;
mod routes;
mod segment;
mod server;
mod settings;
mod stalls;
mod wire;

pub use channel::Attendance;
pub use error::Refusal;
pub use gate::{Access, Action, Denied, Gate, Open};
pub use group::Group;
pub use local::{
    ChannelWatch, LocalPublisher, LocalRead, LocalReader, LocalSegment, LocalSubscriber,
};
pub use segment::Gone;
pub use server::{TrickleServer, Usage};
pub use settings::{Limits, Settings, SettingsError};
pub use wire::{
    CLOSED, EXPECT_CONTENT, InvalidIndex, LATEST, Position, RESET, SEQ, STATUS_NO_SEGMENT, Seq,
};

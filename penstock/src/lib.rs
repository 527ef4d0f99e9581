//! The command line over a whole network: [`dev`] runs one on this machine, [`commands`] asks one.
//!
//! It starts the roles' binaries and talks to their sockets; it links none of them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod commands;
pub mod dev;

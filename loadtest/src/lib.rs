//! Drivers that put load on real role processes, break them, and count what came of it. Each is used
//! twice: short by the system tests, long by `cargo xtask`, which writes its figures to `docs/data`.
//!
//! - [`bench`]: what a payment costs the signer's process, against bare signatures on the same core.
//! - [`chaos`]: signer replicas and their database connections killed under load, and the verdict on
//!   the books afterwards.
//! - [`gateway_bench`]: what a gateway adds to a job, beside other proxies and none.
//! - [`gateway_chaos`]: gateways and what they lean on killed under load, and the verdict on playlists,
//!   jobs and books.
//! - [`orchestrator_bench`]: what tickets, segments and live channels cost an orchestrator, beside the
//!   curve, ffmpeg and a loopback copy.
//! - [`orchestrator_chaos`]: orchestrators on one ledger killed under paid work, and the verdict on the
//!   books of clients, ledger and chain.
//! - [`chain_chaos`]: a redeemer killed with winners on their way to a chain that misbehaves, and the verdict on ledger and
//!   contract.
//! - [`faults`]: every wire between two roles made bad in every way under paid work, and the verdict on what each
//!   cell promises and on the books.
//! - [`soak`]: two of everything at 70 % of what they can do, with bad wires now and then, and what each process needs in
//!   memory over the whole time.
//! - [`load`]: any node of the network under a load that a file describes, and its report.
//! - [`fleet`]: the deployment that gateways run in.
//!
//! A driver that cannot go on panics with what it lacks, as a test does.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support: a failure here is a failed run, and it must say where"
)]

pub mod bench;
pub mod chain_chaos;
pub mod chaos;
pub mod client;
pub mod cpu;
pub mod database;
pub mod draw;
pub mod faults;
pub mod fleet;
pub mod gateway_bench;
pub mod gateway_chaos;
pub mod load;
pub mod machine;
pub mod orchestrator_bench;
pub mod orchestrator_chaos;
pub mod payment;
pub mod rig;
pub mod samples;
pub mod soak;

//! The orchestrator: takes paid work from gateways, checks every ticket, hands the work to
//! workers, and redeems what it won.
//!
//! One port speaks gRPC, HTTP/1.1 and HTTP/2 ([`server`], [`grpc`], [`routes`]). Routes translate;
//! [`service`] decides and acts; [`workers`] is who does the work, [`ai`] what batch jobs are, [`live`]
//! what runs for as long as it is paid, [`pricing`] what work costs, [`byoc`] what others bring, [`runners`] applications that are
//! reached through here, [`redeemer`] a redemption that is not in this process; the books are
//! `penstock_ledger::orchestrator`. [`release`] has the reasons for which room is given back, [`delivery`] counts what was
//! charged and not delivered, [`error`] alone knows HTTP statuses.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod ai;
mod app;
mod auth_webhook;
mod background;
mod byoc;
mod chain_senders;
mod chain_view;
mod clock;
mod config;
mod delivery;
mod error;
mod grpc;
mod held;
mod limits;
mod live;
mod models_file;
mod node;
mod objects;
mod paid;
mod peers;
mod pricing;
mod private_places;
mod redeemer;
mod release;
mod routes;
mod runner_networks;
mod runners;
mod secrets;
mod server;
mod service;
mod signs;
pub mod simulated;
mod stake_args;
mod standing;
mod storage;
mod tls;
mod trace;
mod workers;

pub use app::{App, AppError, OpenChain};
pub use config::{Args, Network};
pub use redeemer::app::RedeemerApp;

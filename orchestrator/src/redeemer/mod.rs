//! Redemption by a process of its own, over the network's gRPC service `net.TicketRedeemer`
//! (payments.md section 14, on-chain.md section 13).
//!
//! An orchestrator with `--redeemer-addr` does not send its winners to the chain: it hands them over
//! ([`hand_over`]), is told max floats ([`floats`]), and knows whether the redeemer is there ([`remote`]).
//! With `--redeemer` this program is that process ([`app`]): it checks what it is brought ([`service`]),
//! tells max floats ([`watched`]), and redeems with the same code, chain and books as an orchestrator.

pub mod app;
pub mod args;
pub mod floats;
pub mod hand_over;
pub mod remote;
mod service;
mod watched;

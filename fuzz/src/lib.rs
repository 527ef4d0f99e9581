//! Every decoder that a stranger's bytes reach, as a function of bytes.
//!
//! A target takes any bytes. It may neither panic nor take memory out of proportion ([`most_bytes`]), and
//! where there is an encoder, what was read has to survive being written and read again. It says whether the
//! bytes were accepted, so that a corpus can be told from noise.
//!
//! `corpus/NAME/` has inputs for each target: some that are valid, and hostile ones, whose names say what is wrong
//! with them. The tests replay all of them, and `tests/alone` with their memory bounded; `cargo xtask fuzz` searches for more.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod documents;
mod headers;
mod media;
mod rtmp;
mod state;
mod trickle;

use cap::Cap;
use std::alloc::System;

/// Memory that a target has taken is counted here.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Memory that reading so many bytes may take at once: some room for what does not depend on them, and a
/// multiple of them. JSON's worst is about 40 times (a list of empty lists).
pub fn most_bytes(input: usize) -> usize {
    (4 << 20) + 128 * input
}

/// Longest input: longer than every limit on a header or a document, so that the limits are met too.
pub const MAX_INPUT: usize = 256 << 10;

/// One decoder.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Reads the bytes; whether they were accepted.
    read: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: [Target; 18] = [
    target("payment_header", headers::payment),
    target("segment_credential", headers::segment),
    target("orchestrator_offer", headers::offer),
    target("capabilities", headers::capabilities),
    target("byoc_header", headers::byoc),
    target("transcode_config", headers::transcode_config),
    target("signer_state", state::read),
    target("trickle_path", trickle::path),
    target("heartbeat", documents::heartbeat),
    target("payment_request", documents::payment_request),
    target("ai_request", documents::ai_request),
    target("discovery", documents::discovery),
    target("keystore", documents::keystore),
    target("settings_file", documents::settings_file),
    target("price_file", documents::price_file),
    target("playlist", media::playlist),
    target("media_file", media::file),
    target("rtmp_chunks", rtmp::chunks),
];

const fn target(name: &'static str, read: fn(&[u8]) -> bool) -> Target {
    Target { name, read }
}

/// The target of a name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

impl Target {
    /// Reads the bytes, without looking at the memory that it takes: others may take some at the same time. Whether
    /// they were accepted.
    ///
    /// # Panics
    /// If the target has a fault.
    pub fn run(&self, data: &[u8]) -> bool {
        let data = data.get(..MAX_INPUT).unwrap_or(data);
        (self.read)(data)
    }

    /// The same where nobody else in the process takes memory meanwhile. What is beyond [`most_bytes`] is not given,
    /// and whoever wants it ends the process.
    ///
    /// # Panics
    /// If the target has a fault.
    pub fn run_alone(&self, data: &[u8]) -> bool {
        let before = ALLOCATOR.allocated();
        let most = before.saturating_add(most_bytes(data.len()));
        let _ = ALLOCATOR.set_limit(most);
        let accepted = self.run(data);
        let _ = ALLOCATOR.set_limit(usize::MAX);
        accepted
    }
}

/// The bytes as text, or nothing.
fn text(data: &[u8]) -> Option<&str> {
    core::str::from_utf8(data).ok()
}

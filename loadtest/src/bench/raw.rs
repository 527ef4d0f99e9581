//! Bare signatures: recoverable ECDSA over secp256k1 by libsecp256k1, nothing else, in a process of
//! its own on the core that the signer uses.

use crate::cpu;
use secp256k1::{Message, Secp256k1, SecretKey};
use std::hint::black_box;

/// The subcommand of this crate's program that prints nanoseconds per signature.
pub const SUBCOMMAND: &str = "raw-signature-ns";
const SIGNATURES: u64 = 20_000;

/// Nanoseconds of processor time that a signature takes on this thread, which has to be the
/// process's first.
pub fn signature_ns() -> u64 {
    let context = Secp256k1::signing_only();
    let secret = SecretKey::from_byte_array([7; 32]).unwrap();
    let mut digest = [1_u8; 32];
    let mut round = |signatures: u64| {
        let before = cpu::own_ns();
        for n in 0..signatures {
            digest[..8].copy_from_slice(&n.to_le_bytes());
            let message = Message::from_digest(black_box(digest));
            black_box(context.sign_ecdsa_recoverable(message, &secret));
        }
        (cpu::own_ns() - before) / signatures
    };
    round(SIGNATURES / 10);
    round(SIGNATURES)
}

/// The same, by a child of ours on the core.
pub fn measure(core: Option<usize>) -> u64 {
    let program = std::env::current_exe().unwrap();
    let output = cpu::pinned(core, &program.display().to_string())
        .arg(SUBCOMMAND)
        .output()
        .expect("our own program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{SUBCOMMAND}: {output:?}"))
}

//! Bare curve operations by libsecp256k1, nothing else, in a process of its own on the core that the
//! orchestrator uses: recovery of the key that signed, and verification by a key that is known.

use super::Settings;
use crate::cpu;
use secp256k1::{
    Message, Secp256k1, SecretKey,
    ecdsa::{RecoverableSignature, Signature},
};
use serde::{Deserialize, Serialize};
use std::{hint::black_box, path::Path, time::Instant};

/// The subcommand of this crate's program that prints both figures.
pub const SUBCOMMAND: &str = "raw-recovery-ns";
const SIGNATURES: usize = 256;
const OPERATIONS: u64 = 10_000;

/// Nanoseconds of processor time of one operation, of each round and of the middle one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Curve {
    /// Each round: a recovery, a verification.
    pub rounds_ns: Vec<(u64, u64)>,
    /// A recovery, in the middle round.
    pub recovery_ns: u64,
    /// A verification, in the middle round.
    pub verification_ns: u64,
}

impl Curve {
    /// The faster of the two.
    pub fn fastest_ns(&self) -> u64 {
        self.recovery_ns.min(self.verification_ns)
    }
}

/// Rounds before, between and after loads.
#[derive(Debug, Default)]
pub(super) struct Rounds(Vec<(u64, u64)>);

impl Rounds {
    /// One more.
    pub(super) fn measure(&mut self, settings: &Settings) {
        self.0.push(match &settings.own {
            Some(own) => of_child(own, settings.core),
            None => {
                let began = Instant::now();
                operations(|| u64::try_from(began.elapsed().as_nanos()).unwrap(), OPERATIONS / 100)
            }
        });
    }

    /// What they came to.
    pub(super) fn result(self) -> Curve {
        let middle = |mut all: Vec<u64>| {
            all.sort_unstable();
            all[all.len() / 2]
        };
        Curve {
            recovery_ns: middle(self.0.iter().map(|round| round.0).collect()),
            verification_ns: middle(self.0.iter().map(|round| round.1).collect()),
            rounds_ns: self.0,
        }
    }
}

/// Nanoseconds of processor time that a recovery and a verification take on this thread, which has to be
/// the process's first.
pub fn of_this_thread() -> (u64, u64) {
    operations(cpu::own_ns, OPERATIONS)
}

fn of_child(own: &Path, core: Option<usize>) -> (u64, u64) {
    let output = cpu::pinned(core, &own.display().to_string()).arg(SUBCOMMAND).output();
    let output = output.expect("our own program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(recovery), Some(verification)) => (recovery, verification),
        _ => panic!("{SUBCOMMAND}: {output:?}"),
    }
}

fn operations(now_ns: impl Fn() -> u64, count: u64) -> (u64, u64) {
    let context = Secp256k1::new();
    let secret = SecretKey::from_byte_array([7; 32]).unwrap();
    let key = secret.public_key(&context);
    let signed: Vec<(Message, RecoverableSignature, Signature)> = (0..SIGNATURES)
        .map(|n| {
            let mut digest = [1_u8; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            let message = Message::from_digest(digest);
            let signature = context.sign_ecdsa_recoverable(message, &secret);
            (message, signature, signature.to_standard())
        })
        .collect();
    let each = |work: &dyn Fn(&(Message, RecoverableSignature, Signature))| {
        let round = |count: u64| {
            let before = now_ns();
            for one in signed.iter().cycle().take(usize::try_from(count).unwrap()) {
                work(black_box(one));
            }
            (now_ns() - before) / count.max(1)
        };
        round(count / 10);
        round(count)
    };
    let recovery = each(&|(message, signature, _)| {
        black_box(context.recover_ecdsa(*message, signature)).unwrap();
    });
    let verification = each(&|(message, _, signature)| {
        black_box(context.verify_ecdsa(*message, signature, &key)).unwrap();
    });
    (recovery, verification)
}

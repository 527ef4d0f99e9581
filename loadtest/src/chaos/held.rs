//! What the clients hold: every ticket that they were given, and whatever they saw that must not be.

use penstock_domain::{B256, Rational, U256, Wei};
use penstock_payments::ticket_ev;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Enough of them to see what is wrong.
const MAX_VIOLATIONS: usize = 100;

/// A payment by its nonces: hash, first, last.
pub type Nonces = (B256, u32, u32);

/// Everything that clients know, together.
#[derive(Debug, Default)]
pub struct Held {
    tickets: Mutex<Tickets>,
    payments: AtomicU64,
    ticket_count: AtomicU64,
    /// Requests sent again because an answer was lost or refused for the moment.
    pub retries: AtomicU64,
    /// Answered requests that were sent again on purpose.
    pub repeats: AtomicU64,
    /// Requests sent to two replicas at the same moment.
    pub twins: AtomicU64,
    /// Answers 480.
    pub refreshes: AtomicU64,
    /// Sessions begun.
    pub sessions: AtomicU64,
    /// Everything that a run has to break has been broken: its load may end.
    pub all_broken: AtomicBool,
    violations: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Tickets {
    payments: HashSet<Nonces>,
    digests: HashSet<B256>,
    nonces: HashMap<B256, HashSet<u32>>,
    /// How many tickets of each face value and win probability.
    kinds: BTreeMap<(U256, U256), u64>,
}

impl Held {
    /// A payment with the digests of its tickets in the order of their nonces.
    pub fn add(&self, nonces: Nonces, digests: &[B256], face_value: Wei, win_prob: U256) {
        let mut tickets = self.tickets.lock().unwrap();
        for nonce in nonces.1..=nonces.2 {
            if !tickets.nonces.entry(nonces.0).or_default().insert(nonce) {
                self.violation(format!("nonce {nonce} of {} was given twice", nonces.0));
            }
        }
        tickets.digests.extend(digests);
        tickets.payments.insert(nonces);
        *tickets.kinds.entry((face_value.0, win_prob)).or_default() += digests.len() as u64;
        self.payments.fetch_add(1, Ordering::SeqCst);
        self.ticket_count.fetch_add(digests.len() as u64, Ordering::SeqCst);
    }

    /// Something that must not be.
    pub fn violation(&self, what: String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < MAX_VIOLATIONS {
            violations.push(what);
        }
    }

    /// What was noted.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    /// Nothing was noted.
    pub fn is_sound(&self) -> bool {
        self.violations.lock().unwrap().is_empty()
    }

    /// Payments answered.
    pub fn payments(&self) -> u64 {
        self.payments.load(Ordering::SeqCst)
    }

    /// What clients should have done by now and have not.
    pub fn lacks(&self) -> Option<&'static str> {
        [
            (&self.retries, "no request was repeated for want of an answer"),
            (&self.repeats, "no answered request was repeated"),
            (&self.twins, "no request was sent to two signers"),
        ]
        .into_iter()
        .find_map(|(count, what)| (count.load(Ordering::SeqCst) == 0).then_some(what))
    }

    /// Tickets in them.
    pub fn tickets(&self) -> u64 {
        self.ticket_count.load(Ordering::SeqCst)
    }

    /// Worth of all tickets, exact wei.
    pub fn ev(&self) -> Rational {
        let tickets = self.tickets.lock().unwrap();
        tickets.kinds.iter().fold(Rational::ZERO, |sum, ((face_value, win_prob), count)| {
            let ev = ticket_ev(Wei(*face_value), *win_prob);
            &sum + &(&ev * &Rational::from(*count))
        })
    }

    /// Every payment by its nonces.
    pub fn nonces(&self) -> HashSet<Nonces> {
        self.tickets.lock().unwrap().payments.clone()
    }

    /// The digest of every ticket.
    pub fn digests(&self) -> HashSet<B256> {
        self.tickets.lock().unwrap().digests.clone()
    }
}

//! What a cell promises, and whether what was seen keeps it. Pure.
//!
//! In every cell, besides what it promises itself: the fault is met by whoever uses the wire (or the cell would say
//! nothing), each answer is 200 or one that says when to come again, each job is
//! answered in the end and charged, no job is charged twice but where its answer can be lost between who asks and who
//! works, everybody is ready again by himself when the fault is over, and the books agree to the wei.

use super::cell::{Kind, Role};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// So many are no accident: of requests that began after the fault.
const ENOUGH: u64 = 2;

/// Something that has to be seen while the fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    /// Such work is answered.
    GoesOn(Kind),
    /// Such work is refused with a time to come again.
    Refused(Kind),
    /// The application gets no answer.
    Lost,
    /// The other orchestrator does what this one cannot.
    Elsewhere,
    /// It says that it is not ready.
    Red(Role),
    /// The orchestrator is ready and says what it lacks.
    Degraded,
    /// Winners that wait at the redeemer are redeemed.
    Redeemed,
    /// The wire is used while it is bad, and that does something to its users. Of every cell, without being said.
    Met,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoesOn(kind) => write!(f, "{kind} go on"),
            Self::Refused(kind) => write!(f, "{kind} are refused, to come again"),
            Self::Lost => write!(f, "answers are lost"),
            Self::Elsewhere => write!(f, "the other orchestrator takes over"),
            Self::Red(role) => write!(f, "the {role} is not ready"),
            Self::Degraded => write!(f, "the orchestrator is ready and `degraded`"),
            Self::Redeemed => write!(f, "winners are redeemed"),
            Self::Met => write!(f, "the wire is used, and its fault is met"),
        }
    }
}

/// What was seen of requests that began while the fault was there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Answered with 200.
    pub answered: BTreeMap<Kind, u64>,
    /// Refused with a time to come again.
    pub refused: BTreeMap<Kind, u64>,
    /// No answer, or half of one.
    pub lost: u64,
    /// Work that the other orchestrator took.
    pub elsewhere: u64,
    /// Who was not ready.
    pub red: BTreeSet<Role>,
    /// Whether the orchestrator was ready and lacked something.
    pub degraded: bool,
    /// Winners that the redeemer redeemed. Older figures have none.
    #[serde(default)]
    pub redeemed: u64,
    /// How often the fault did something to who used the wire. Older figures have none.
    #[serde(default)]
    pub met: u64,
}

impl Sign {
    /// Whether it was seen.
    pub fn is_in(self, seen: &Seen) -> bool {
        let enough = |of: &BTreeMap<Kind, u64>, kind: Kind| of.get(&kind).copied() >= Some(ENOUGH);
        match self {
            Self::GoesOn(kind) => enough(&seen.answered, kind),
            Self::Refused(kind) => enough(&seen.refused, kind),
            Self::Lost => seen.lost >= ENOUGH,
            Self::Elsewhere => seen.elsewhere >= ENOUGH,
            Self::Red(role) => seen.red.contains(&role),
            Self::Degraded => seen.degraded,
            Self::Redeemed => seen.redeemed > 0,
            Self::Met => seen.met >= ENOUGH,
        }
    }
}

/// What is still missing, of what is promised and of what every cell needs.
pub fn missing(promise: &[Sign], seen: &Seen) -> Vec<Sign> {
    let all = promise.iter().copied().chain([Sign::Met]);
    all.filter(|sign| !sign.is_in(seen)).collect()
}

/// A promise in words.
pub fn words(promise: &[Sign]) -> String {
    let words: Vec<String> = promise.iter().map(ToString::to_string).collect();
    words.join("; ")
}

/// What an answer is to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200, whole.
    Done,
    /// Not now, and when to come again.
    NotNow,
    /// None, or half of one.
    Lost(String),
    /// Anything else, which nobody promised.
    Wrong(String),
}

/// What this status, with this code in its envelope, is (docs/errors.md).
pub fn answer(status: u16, retry_after: bool, body: &str) -> Answer {
    let code = |code: &str| body.contains(&format!("\"code\":\"{code}\""));
    match status {
        200 => Answer::Done,
        409 if code("idempotency_in_progress") && retry_after => Answer::NotNow,
        429 | 503 if retry_after => Answer::NotNow,
        // An encoder pushes it again at once; nobody has the capability just now.
        422 if code("attempts_exhausted") => Answer::NotNow,
        400 if code("nobody_has_it") => Answer::NotNow,
        status => Answer::Wrong(format!("{status} {body:.300}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_when_nothing_of_it_is_missing() {
        let promise =
            [Sign::GoesOn(Kind::Words), Sign::Refused(Kind::OwnWords), Sign::Red(Role::Signer)];
        assert_eq!(missing(&promise, &Seen::default()), [&promise[..], &[Sign::Met]].concat());
        let mut seen = Seen { met: ENOUGH, ..Seen::default() };
        assert_eq!(missing(&promise, &seen), promise);
        seen.answered.insert(Kind::Words, ENOUGH);
        seen.refused.insert(Kind::OwnWords, ENOUGH - 1);
        seen.red.insert(Role::Signer);
        assert_eq!(missing(&promise, &seen), [Sign::Refused(Kind::OwnWords)]);
        seen.refused.insert(Kind::OwnWords, ENOUGH);
        assert_eq!(missing(&promise, &seen), []);
        // Others' work is no sign.
        seen.answered.clear();
        seen.answered.insert(Kind::Brought, 9);
        assert_eq!(missing(&promise, &seen), [Sign::GoesOn(Kind::Words)]);
    }

    /// All that a slow wire promises is seen as well where nobody uses it.
    #[test]
    fn a_wire_that_nobody_uses_keeps_no_promise() {
        let answered = super::super::cell::KINDS.map(|kind| (kind, 9)).into();
        let mut seen = Seen { answered, met: ENOUGH - 1, ..Seen::default() };
        let promise = super::super::cell::KINDS.map(Sign::GoesOn);
        assert_eq!(missing(&promise, &seen), [Sign::Met]);
        seen.met = ENOUGH;
        assert_eq!(missing(&promise, &seen), []);
    }

    #[test]
    fn each_sign_has_its_own_words() {
        let signs = [Sign::Lost, Sign::Elsewhere, Sign::Degraded, Sign::Redeemed];
        let seen =
            Seen { lost: 2, elsewhere: 2, degraded: true, redeemed: 1, met: 2, ..Seen::default() };
        assert_eq!(missing(&signs, &seen), []);
        assert_eq!(missing(&signs, &Seen { met: 2, ..Seen::default() }), signs);
        let words = words(&[Sign::GoesOn(Kind::Segments), Sign::Red(Role::Gateway)]);
        assert_eq!(words, "segments go on; the gateway is not ready");
    }

    #[test]
    fn an_answer_says_when_to_come_again_or_is_wrong() {
        let coded = |code: &str| format!("{{\"error\":{{\"message\":\"m\",\"code\":\"{code}\"}}}}");
        assert_eq!(answer(200, false, ""), Answer::Done);
        assert_eq!(answer(503, true, &coded("store_unavailable")), Answer::NotNow);
        assert_eq!(answer(409, true, &coded("idempotency_in_progress")), Answer::NotNow);
        assert_eq!(answer(422, false, &coded("attempts_exhausted")), Answer::NotNow);
        for (status, retry_after, code) in [
            (503, false, "busy"),
            (500, true, "internal"),
            (502, true, "bad"),
            (422, false, "idempotency_key_reused"),
            (409, true, "idempotent_answer_gone"),
            (400, true, "bad_json"),
        ] {
            let said = answer(status, retry_after, &coded(code));
            assert!(matches!(said, Answer::Wrong(_)), "{status} {code}: {said:?}");
        }
    }
}

//! At what price work is charged: an account's pinned price while it holds, or our own; and how accounts and books name
//! work.

use crate::pricing::list::NoEther;
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_ledger::orchestrator::Account;

/// An account that nobody touched for so long gets its price anew (payments.md section 12).
pub const PRICE_STALE_AFTER_MS: i64 = 10 * 60 * 1000;

/// What work costs, and what a pinned price has to be to hold for it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Our own price now, wei per unit, before overhead.
    pub own: Result<Rational, NoEther>,
    /// The lowest price that an offer for it may carry; `None` where nothing is offered for other work that could be
    /// meant for it, so that only an offer that says its name pins a price.
    pub floor: Option<Rational>,
    /// What the work is called; `None` for terms of its own.
    pub work: Option<String>,
}

impl Terms {
    /// What this work is charged at: the account's pinned price while that is not stale and was pinned
    /// for this work, else our own. A key may stand for work of several kinds. Where the work has no name, a pin below
    /// the lowest offer for it was made for something cheaper.
    pub fn agreed(&self, account: Option<&Account>, now_ms: i64) -> Result<Rational, NoEther> {
        self.pinned(account, now_ms).map_or_else(|| self.own.clone(), |pinned| Ok(pinned.clone()))
    }

    /// The account's pinned price, if it holds for this work.
    pub fn pinned<'a>(&self, account: Option<&'a Account>, now_ms: i64) -> Option<&'a Rational> {
        account
            .filter(|a| a.updated_ms >= now_ms.saturating_sub(PRICE_STALE_AFTER_MS))
            .and_then(|a| Some((a, a.pinned()?)))
            .filter(|(account, pinned)| match &self.work {
                Some(_) => account.pin_work == self.work,
                None => self.floor.as_ref().is_some_and(|floor| *pinned >= floor),
            })
            .map(|(_, pinned)| pinned)
    }
}

/// What the books call it: the models, or nothing for transcoding.
pub fn work_name(work: Option<&Capabilities>) -> String {
    let models = work.into_iter().flat_map(|work| &work.models);
    let names: Vec<_> = models
        .flat_map(|(number, models)| models.keys().map(move |model| format!("{number}_{model}")))
        .collect();
    names.join(" ")
}

/// An account's session for the log. That of live video is the name of its channels, and whoever
/// knows it may use them: its begin is enough there.
pub fn shown(session: &str) -> &str {
    if work_of(session).is_some() { session } else { session.get(..8).unwrap_or(session) }
}

/// The work that a balance key stands for: `{capability}_{model}` is that model, everything else
/// (a session, a manifest) is transcoding.
pub fn work_of(session: &str) -> Option<Capabilities> {
    let (number, model) = session.split_once('_')?;
    let capability = Capability::from_number(number.parse().ok()?)?;
    (capability.is_ai() && !model.is_empty())
        .then(|| Capabilities::ai_job(capability, model, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Address;
    use penstock_ledger::orchestrator::AccountKey;

    #[test]
    fn a_pin_holds_for_its_work_until_it_is_stale() {
        let int = |n: i128| Rational::from_int(n);
        let account = |work: Option<&str>| Account {
            key: AccountKey::new(Address::repeat_byte(1), "s").unwrap(),
            credited: Rational::ZERO,
            debited: Rational::ZERO,
            tickets: 1,
            folded_credits: Rational::ZERO,
            folded_debits: Rational::ZERO,
            fixed_price: Some(int(3)),
            pin_floor: None,
            pin_work: work.map(str::to_owned),
            updated_ms: 1_000,
        };
        let terms = |own, floor, work: Option<&str>| Terms {
            own: Ok(int(own)),
            floor: Some(int(floor)),
            work: work.map(str::to_owned),
        };
        let named = terms(7, 7, Some("31_a"));
        let fresh = 1_000 + PRICE_STALE_AFTER_MS;
        assert_eq!(
            named.agreed(Some(&account(Some("31_a"))), fresh),
            Ok(int(3)),
            "a price that rose"
        );
        assert_eq!(named.agreed(Some(&account(Some("31_a"))), fresh + 1), Ok(int(7)), "stale");
        assert_eq!(named.agreed(Some(&account(Some(""))), 0), Ok(int(7)), "made for other work");
        assert_eq!(named.agreed(Some(&account(None)), 0), Ok(int(7)));
        assert_eq!(
            terms(7, 7, None).agreed(Some(&account(Some(""))), 0),
            Ok(int(7)),
            "for cheaper"
        );
        assert_eq!(terms(7, 2, None).agreed(Some(&account(Some(""))), 0), Ok(int(3)), "for dearer");
        assert_eq!(terms(7, 2, None).agreed(None, 0), Ok(int(7)));
        let unknown = Terms { own: Err(NoEther), ..terms(0, 0, Some("")) };
        assert_eq!(unknown.agreed(None, 0), Err(NoEther));
        assert_eq!(unknown.agreed(Some(&account(Some(""))), 0), Ok(int(3)), "agreed is agreed");
    }

    #[test]
    fn work_has_a_name() {
        assert_eq!(work_name(None), "");
        assert_eq!(work_name(Some(&Capabilities::default())), "");
        let mut work = Capabilities::ai_job(Capability::Llm, "m", true);
        assert_eq!(work_name(Some(&work)), "33_m");
        work.models.insert(31, [("n".to_owned(), Default::default())].into());
        assert_eq!(work_name(Some(&work)), "31_n 33_m");
    }

    #[test]
    fn the_log_has_no_names_of_channels() {
        assert_eq!(shown("0123456789abcdef0123456789abcdef"), "01234567");
        assert_eq!(shown("31_openai/whisper-tiny.en"), "31_openai/whisper-tiny.en");
        assert_eq!(shown("flux"), "flux");
    }

    #[test]
    fn keys_name_their_work() {
        let work = work_of("31_openai/whisper-tiny.en").unwrap();
        assert!(work.model(Capability::AudioToText, "openai/whisper-tiny.en").is_some());
        for plain in ["a1b2c3d4", "31_", "13_x", "0_x", "99_x", "x_y", ""] {
            assert!(work_of(plain).is_none(), "{plain}");
        }
    }
}

//! Adds up again what accounts were charged, and compares it with the counters that budgets are held
//! against.
//!
//! Every payment is charged to its account by day and by month. A payment that names a subject of
//! another account may be charged to that one too: whether it was depends on what was known of
//! accounts then, so that for those there is a least and a most. A counter that moves while this
//! reads is left out and counted. What is kept grows with accounts and periods, not with payments.

use super::{Findings, PAGE};
use crate::auth::client_of;
use penstock_domain::{U256, Wei};
use penstock_ledger::signer::{
    ChargedPayment, CounterKey, Day, Hour, LedgerError, Month, PrunedLine, SignerLedger,
};
use std::collections::BTreeMap;

type Amounts = BTreeMap<CounterKey, U256>;

/// Bounds of what is charged to one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bounds {
    least: U256,
    most: U256,
}

/// What was found of the counters.
#[derive(Debug, Default)]
struct Compared {
    counters: u64,
    in_use: u64,
    faults: Vec<String>,
}

/// How often it begins anew when payments were pruned meanwhile.
const TRIES: usize = 3;

/// Compares all counters that are always kept.
pub(super) async fn compare(
    ledger: &dyn SignerLedger,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    for _ in 0..TRIES {
        let pruned = ledger.pruned().await?;
        let compared = compare_once(ledger, pruned.before_ms).await?;
        if ledger.pruned().await? != pruned {
            findings.counters_in_use = compared.counters.saturating_add(compared.in_use);
            continue;
        }
        (findings.counters, findings.counters_in_use) = (compared.counters, compared.in_use);
        compared.faults.into_iter().for_each(|fault| findings.fault(fault));
        break;
    }
    Ok(())
}

/// Counters of periods that were over before `pruned_ms` may be gone, and are left out.
async fn compare_once(ledger: &dyn SignerLedger, pruned_ms: i64) -> Result<Compared, LedgerError> {
    let mut compared = Compared::default();
    let (charged, open) = (counters(ledger).await?, open(ledger).await?);
    let mut sums = add_up(ledger, pruned_ms).await?;
    let (open_after, charged_after) = (self::open(ledger).await?, counters(ledger).await?);
    let held = |open: &Amounts, key| open.get(key).copied().unwrap_or_default();
    for (key, now) in charged_after.iter().filter(|(key, _)| !key.ended_before(pruned_ms)) {
        let bounds = sums.remove(key).unwrap_or_default();
        let waiting = held(&open_after, key);
        if charged.get(key) != Some(now) || held(&open, key) != waiting {
            compared.in_use = compared.in_use.saturating_add(1);
            continue;
        }
        compared.counters = compared.counters.saturating_add(1);
        compared.faults.extend(difference(key, *now, waiting, bounds));
    }
    for (key, bounds) in sums {
        // A counter of hours is only there while a limit needs it.
        if !bounds.least.is_zero() {
            let fault = format!("counter {key} is missing: {} wei were charged", bounds.least);
            compared.faults.push(fault);
        }
    }
    Ok(compared)
}

/// What is wrong with a counter, in words.
fn difference(key: &CounterKey, charged: U256, open: U256, bounds: Bounds) -> Option<String> {
    let least = bounds.least.saturating_add(open);
    let most = bounds.most.saturating_add(open);
    if charged < least {
        let missing = least.saturating_sub(charged);
        return Some(format!(
            "counter {key} holds {charged} wei, {missing} less than its payments and open reservations"
        ));
    }
    (charged > most).then(|| {
        let extra = charged.saturating_sub(most);
        format!("counter {key} holds {charged} wei, {extra} more than its payments and open reservations")
    })
}

/// Counters by account, and of all spending by hour. Those of subjects and orchestrators are kept
/// only while they have a cap.
fn is_added_up(key: &CounterKey) -> bool {
    key.as_str().starts_with("a/") || key.as_str().starts_with("g/")
}

async fn counters(ledger: &dyn SignerLedger) -> Result<Amounts, LedgerError> {
    let (mut all, mut after) = (Amounts::new(), String::new());
    loop {
        let page = ledger.counters_after(&after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        last.as_str().clone_into(&mut after);
        let kept = page.into_iter().filter(|(key, _)| is_added_up(key));
        all.extend(kept.map(|(key, Wei(charged))| (key, charged)));
    }
}

async fn open(ledger: &dyn SignerLedger) -> Result<Amounts, LedgerError> {
    let (mut all, mut after) = (Amounts::new(), None);
    loop {
        let page = ledger.open_reservations(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.id);
        for held in page {
            for key in held.counters.into_iter().filter(is_added_up) {
                let sum = all.entry(key).or_default();
                *sum = sum.saturating_add(held.amount_wei.0);
            }
        }
    }
}

type Sums = BTreeMap<CounterKey, Bounds>;

async fn add_up(ledger: &dyn SignerLedger, pruned_ms: i64) -> Result<Sums, LedgerError> {
    let (mut sums, mut after) = (BTreeMap::new(), 0);
    loop {
        let page = ledger.pruned_after(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.n;
        for line in page {
            let PrunedLine { n, account, auth_id, day_ms, charged_wei } = line;
            let created_at_ms = day_ms;
            let all = ChargedPayment { n, account, auth_id, charged_wei, created_at_ms };
            add(&mut sums, &all, pruned_ms);
        }
    }
    after = 0;
    loop {
        let page = ledger.charged_after(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(sums) };
        after = last.n;
        page.iter().for_each(|payment| add(&mut sums, payment, pruned_ms));
    }
}

fn add(sums: &mut Sums, payment: &ChargedPayment, pruned_ms: i64) {
    let (Wei(charged), now_ms) = (payment.charged_wei, payment.created_at_ms);
    let (day, month) = (Day::of_ms(now_ms), Month::of_ms(now_ms));
    let mut add = |key: CounterKey, surely| {
        if key.ended_before(pruned_ms) {
            return;
        }
        let bounds: &mut Bounds = sums.entry(key).or_default();
        bounds.most = bounds.most.saturating_add(charged);
        if surely {
            bounds.least = bounds.least.saturating_add(charged);
        }
    };
    add(CounterKey::account_day(&payment.account, day), true);
    add(CounterKey::account_month(&payment.account, month), true);
    add(CounterKey::global_hour(Hour::of_ms(now_ms)), false);
    let client = payment.auth_id.as_ref().map(client_of);
    if let Some(client) = client.filter(|client| *client != payment.account) {
        add(CounterKey::account_day(client, day), false);
        add(CounterKey::account_month(client, month), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::AuthId;

    fn payment(account: &str, auth_id: Option<&str>, charged: u64, at_ms: i64) -> ChargedPayment {
        ChargedPayment {
            n: 1,
            account: account.into(),
            auth_id: auth_id.map(|id| AuthId::new(id).unwrap()),
            charged_wei: Wei::from_u64(charged),
            created_at_ms: at_ms,
        }
    }

    #[test]
    fn what_is_charged_is_between_its_own_and_what_others_did_for_it() {
        const DAY_MS: i64 = 86_400_000;
        let mut sums = BTreeMap::new();
        for paid in [
            payment("gw", Some("tenant:bob"), 5, 1),
            payment("gw", Some("gw:bob"), 7, 1),
            payment("tenant", None, 11, 1),
            payment("tenant", None, 13, DAY_MS),
        ] {
            add(&mut sums, &paid, 0);
        }
        let of = |key: CounterKey| {
            let Bounds { least, most } = sums[&key];
            (least.to::<u64>(), most.to::<u64>())
        };
        let (first, second) = (Day::of_ms(0), Day::of_ms(DAY_MS));
        assert_eq!(of(CounterKey::account_day("gw", first)), (12, 12));
        assert_eq!(of(CounterKey::account_day("tenant", first)), (11, 16));
        assert_eq!(of(CounterKey::account_day("tenant", second)), (13, 13));
        assert_eq!(of(CounterKey::account_month("tenant", Month::of_ms(0))), (24, 29));
        assert_eq!(of(CounterKey::global_hour(Hour::of_ms(0))), (0, 23));
        // Of what may be gone nothing is added up.
        let mut sums = BTreeMap::new();
        add(&mut sums, &payment("a", None, 1, 1), DAY_MS);
        let month = CounterKey::account_month("a", Month::of_ms(0));
        assert_eq!(sums.keys().collect::<Vec<_>>(), [&month]);
    }

    #[test]
    fn a_counter_is_wrong_beyond_its_bounds() {
        let key = CounterKey::account_day("a", Day::of_ms(0));
        let n = U256::from::<u64>;
        let bounds = Bounds { least: n(10), most: n(20) };
        for good in [13, 14, 23] {
            assert_eq!(difference(&key, n(good), n(3), bounds), None);
        }
        let low = difference(&key, n(12), n(3), bounds).unwrap();
        assert!(low.contains("holds 12 wei, 1 less"), "{low}");
        let high = difference(&key, n(25), n(3), bounds).unwrap();
        assert!(high.contains("holds 25 wei, 2 more"), "{high}");
    }
}

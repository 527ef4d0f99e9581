//! Random histories: whatever happens in whichever order, the books add up, to the last fraction.

use super::*;

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Pay { session: u8, offer: u8, nonces: Vec<(u32, bool)> },
    Debit { session: u8, job: u8, units: u32, price: (u32, u32) },
    Carry { to: u8 },
    Forget { block: u8 },
    Fold { limit: u8 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let ratio = || (0..1_000u32, 1..1_000u32);
    prop_oneof![
        4 => (0..3u8, 0..4u8, prop::collection::vec((0..12u32, any::<bool>()), 0..6))
            .prop_map(|(session, offer, nonces)| Step::Pay { session, offer, nonces }),
        3 => (0..3u8, 0..20u8, 0..5_000u32, ratio())
            .prop_map(|(session, job, units, price)| Step::Debit { session, job, units, price }),
        1 => (0..3u8).prop_map(|to| Step::Carry { to }),
        1 => (30..75u8).prop_map(|block| Step::Forget { block }),
        1 => (1..9u8).prop_map(|limit| Step::Fold { limit }),
        1 => Just(Step::Reopen),
    ]
}

/// What the books must say, kept in plain maps.
#[derive(Default)]
struct Model {
    credited: BTreeMap<u8, Rational>,
    debited: BTreeMap<u8, Rational>,
    nonces: HashSet<(u8, u32)>,
    /// Offers that were paid on and are not forgotten.
    offers: HashSet<u8>,
    jobs: HashSet<u8>,
    /// Sessions that were paid since their account was emptied.
    starts: HashSet<u8>,
}

impl Model {
    /// What is left of the others goes to this one, if there is such an account. Empty ones are forgotten.
    fn carry(&mut self, to: u8) -> Rational {
        let mut came = Rational::ZERO;
        if !self.credited.contains_key(&to) && !self.debited.contains_key(&to) {
            return came;
        }
        for session in (0..3).filter(|session| *session != to) {
            if !self.starts.contains(&session) {
                continue;
            }
            let Some(credited) = self.credited.get_mut(&session) else { continue };
            let left = &*credited - &self.debited.get(&session).cloned().unwrap_or_default();
            if left.is_positive() {
                *credited -= &left;
                came += &left;
                self.starts.remove(&session);
            }
        }
        if came.is_positive() {
            *self.credited.entry(to).or_default() += &came;
        }
        came
    }
}

/// Offer `n` expires at block 40 + 10 n.
fn expiry(offer: u8) -> u64 {
    40 + 10 * u64::from(offer)
}

async fn run_history(books: &impl Books, steps: Vec<Step>) {
    let mut ledger = books.open().await;
    let mut model = Model::default();
    let mut horizon = 0u64;
    for step in steps {
        match step {
            Step::Pay { session, offer: n, nonces } => {
                let price = Rational::ONE;
                let offer = offer(n, expiry(n), 3 + u64::from(n), &price);
                let ev = offer.ev().clone();
                let tickets = nonces
                    .iter()
                    .map(|(nonce, good)| if *good { signed(*nonce) } else { forged(*nonce) })
                    .collect();
                let start = Start { account: key(&format!("s{session}")), attempt: Uuid::nil() };
                let receipt = PaymentReceipt {
                    last_seen_block: 0,
                    for_start: Some(start.attempt),
                    ..receipt_for(&format!("s{session}"), offer, price, tickets)
                };
                let taken = ledger.receive_payment(&receipt).await.unwrap();
                let (mut refused, mut credited) = (false, 0);
                for (nonce, good) in nonces {
                    let unseen = good && model.nonces.insert((n, nonce));
                    if unseen {
                        // Also of an offer that is over: its nonces are known until they are forgotten.
                        model.offers.insert(n);
                    }
                    let fresh = unseen && expiry(n) > horizon;
                    refused |= !fresh;
                    if !refused {
                        credited += 1;
                        *model.credited.entry(session).or_default() += &ev;
                    }
                }
                assert_eq!(taken.credited_tickets, credited);
                if credited > 0 {
                    model.starts.insert(session);
                }
                ledger.end_start(&start).await.unwrap();
            }
            Step::Carry { to } => {
                let to_key = key(&format!("s{to}"));
                let came = ledger.carry_over(&to_key, i64::MIN, 1_000).await.unwrap();
                assert_eq!(came, model.carry(to));
            }
            Step::Debit { session, job, units, price } => {
                let price = Rational::new(price.0.into(), price.1.into()).unwrap();
                let fee = price.times(units.into());
                let first = model.jobs.insert(job);
                let debit = Debit {
                    account: key(&format!("s{session}")),
                    job_id: format!("j{job}"),
                    units: units.into(),
                    price,
                    began_ms: 0,
                    price_stale_before_ms: 0,
                    now_ms: 1,
                    covered: false,
                    hold: None,
                };
                let before = ledger.debit(&debit).await.unwrap() == Booked::Before;
                assert_eq!(before, !first);
                if first {
                    *model.debited.entry(session).or_default() += &fee;
                }
            }
            Step::Forget { block } => {
                let over = |n: &u8| expiry(*n) <= u64::from(block);
                let ends = model.offers.iter().copied().filter(over).map(expiry);
                horizon = ends.fold(horizon, u64::max);
                let gone = ledger.forget_nonces(block.into()).await.unwrap();
                let before = model.offers.len();
                model.offers.retain(|n| !over(n));
                // A ticket of a forgotten offer is refused for its age, and its nonce known once more.
                model.nonces.retain(|(n, _)| !over(n));
                assert_eq!(usize::try_from(gone).unwrap(), before - model.offers.len());
            }
            Step::Fold { limit } => {
                // Fees are folded, payments are not yet: job ids are forgotten with their lines.
                for job in books.column(&oldest_debits(limit)).await {
                    model.jobs.remove(&job.trim_start_matches('j').parse().unwrap());
                }
                ledger.fold(2, limit.into()).await.unwrap();
            }
            Step::Reopen => {
                ledger.close().await;
                ledger = books.open().await;
            }
        }
        assert_conserved(books, &ledger, &model).await;
    }
}

/// credits − debits = balance, to the last fraction, account by account and in total; and the
/// journals add up to the accounts.
async fn assert_conserved(books: &impl Books, ledger: &Ledger, model: &Model) {
    let (mut credited, mut debited) = (Rational::ZERO, Rational::ZERO);
    for session in 0..3u8 {
        let account = ledger.account(&key(&format!("s{session}"))).await.unwrap();
        let (in_, out) = (
            model.credited.get(&session).cloned().unwrap_or_default(),
            model.debited.get(&session).cloned().unwrap_or_default(),
        );
        let balance = account.as_ref().map(|a| a.balance()).unwrap_or_default();
        assert_invoiced(ledger, &format!("s{session}"), account).await;
        assert_eq!(balance, &in_ - &out);
        credited += &in_;
        debited += &out;
    }
    let totals = ledger.totals().await.unwrap();
    assert_eq!(totals.balance(), &credited - &debited);
    for (sql, sum) in [
        ("SELECT amount FROM credits UNION ALL SELECT folded_credits FROM accounts", credited),
        ("SELECT amount FROM debits UNION ALL SELECT folded_debits FROM accounts", debited),
    ] {
        let mut journal = Rational::ZERO;
        for amount in books.column(sql).await {
            journal += &amount.parse().unwrap();
        }
        assert_eq!(journal, sum, "{sql}");
    }
}

/// An invoice's lines add up to its account, but for those that have gone, and each fee is
/// units × price.
async fn assert_invoiced(ledger: &Ledger, session: &str, account: Option<Account>) {
    let query = InvoiceQuery { session: session.into(), sender: None, limit: 100 };
    let invoices = ledger.invoices(&query).await.unwrap();
    assert_eq!(invoices.first().map(|i| &i.account), account.as_ref());
    for Invoice { account, credits, debits, is_whole } in invoices {
        assert_eq!(is_whole, account.folded_debits.is_zero());
        let mut sum = account.folded_credits;
        credits.iter().for_each(|line| sum += &line.amount);
        assert_eq!(sum, account.credited);
        let mut sum = account.folded_debits;
        for line in &debits {
            let (units, price) = line.work.as_ref().unwrap();
            assert_eq!(price.times(*units), line.amount);
            sum += &line.amount;
        }
        assert_eq!(sum, account.debited);
    }
}

/// The lines that go first.
fn oldest_debits(limit: u8) -> String {
    format!(
        "SELECT job_id FROM debits WHERE created_ms < 2 ORDER BY created_ms, job_id LIMIT {limit}"
    )
}

/// What chance finds seldom: tickets of an offer that is over and forgotten come again, and again.
pub async fn tickets_of_forgotten_offers_come_again(books: &impl Books) {
    let pay = || Step::Pay { session: 0, offer: 0, nonces: vec![(0, true)] };
    let forget = || Step::Forget { block: 45 };
    run_history(books, vec![pay(), forget(), pay(), pay(), forget(), pay()]).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn credits_minus_debits_is_the_balance(steps in prop::collection::vec(step(), 1..40)) {
        block_on(async { run_history(&SqliteBooks::new().await, steps).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn credits_minus_debits_is_the_balance_in_postgres(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        block_on(async { run_history(&PostgresBooks::new().await, steps).await });
    }
}

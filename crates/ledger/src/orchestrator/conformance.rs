//! The suite that every implementation of [`OrchestratorLedger`] passes. Each case gets an opener
//! that yields the *same* books again, as after a restart.

use super::{
    AccountKey, CheckedTicket, Debit, LedgerError, OrchestratorLedger, PaymentReceipt,
    SqliteOrchestratorLedger, TicketOutcome, WinnerStatus, WinningTicket,
};
use penstock_domain::{Address, B256, Rational, U256, Wei};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// Books that can be closed and opened again.
struct Books {
    folder: tempfile::TempDir,
}

impl Books {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn open(&self) -> SqliteOrchestratorLedger {
        let url = format!("sqlite://{}/o.db", self.folder.path().display());
        SqliteOrchestratorLedger::open(&url).await.unwrap()
    }
}

fn key(session: &str) -> AccountKey {
    AccountKey::new(Address::repeat_byte(7), session).unwrap()
}

fn winner(n: u8) -> WinningTicket {
    WinningTicket {
        ticket_hash: B256::repeat_byte(n),
        sender: Address::repeat_byte(7),
        recipient: Address::repeat_byte(9),
        face_value: Wei(U256::MAX >> 2),
        win_prob: U256::MAX,
        sender_nonce: u32::MAX,
        recipient_rand_hash: B256::repeat_byte(1),
        creation_round: 5,
        creation_round_block_hash: B256::repeat_byte(3),
        sig: vec![n; 65],
        recipient_rand: U256::from(n),
        params_expiration_block: 50,
    }
}

fn signed(nonce: u32) -> CheckedTicket {
    CheckedTicket::Signed { nonce, winner: None }
}

fn winning(nonce: u32, n: u8) -> CheckedTicket {
    CheckedTicket::Signed { nonce, winner: Some(Box::new(winner(n))) }
}

fn receipt(session: &str, tickets: Vec<CheckedTicket>) -> PaymentReceipt {
    PaymentReceipt {
        account: key(session),
        recipient_rand_hash: B256::repeat_byte(1),
        params_expiration_block: 50,
        last_seen_block: 10,
        price: Rational::new(3, 2).unwrap(),
        price_stale_before_ms: 0,
        ticket_ev: Rational::new(7, 3).unwrap(),
        tickets,
        now_ms: 1_000,
    }
}

#[tokio::test]
async fn credits_once_and_survives_a_restart() {
    let books = Books::new();
    let ledger = books.open().await;
    let paid = ledger.receive_payment(&receipt("a", vec![signed(1), winning(9, 1)])).await.unwrap();
    assert_eq!(paid.tickets, [TicketOutcome::Credited, TicketOutcome::Credited]);
    assert_eq!(paid.credited.to_string(), "14/3");
    assert_eq!(paid.new_winners, 1);
    ledger.close().await;

    let ledger = books.open().await;
    let again =
        ledger.receive_payment(&receipt("a", vec![signed(1), winning(9, 1)])).await.unwrap();
    assert_eq!(
        again.tickets,
        [TicketOutcome::NonceSeen { nonce: 1 }, TicketOutcome::NonceSeen { nonce: 9 }]
    );
    assert_eq!(again.new_winners, 0);
    let account = ledger.account(&key("a")).await.unwrap().unwrap();
    assert_eq!(account.balance().to_string(), "14/3");
    assert_eq!(account.tickets, 2);
    let kept = ledger.winners(10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].ticket, winner(1));
    assert_eq!(kept[0].status, WinnerStatus::Queued);
}

#[tokio::test]
async fn after_the_first_refused_ticket_nothing_more_is_credited() {
    let ledger = Books::new();
    let ledger = ledger.open().await;
    let tickets =
        vec![signed(1), CheckedTicket::BadSignature { nonce: 2 }, winning(3, 1), signed(1)];
    let paid = ledger.receive_payment(&receipt("a", tickets)).await.unwrap();
    assert_eq!(
        paid.tickets,
        [
            TicketOutcome::Credited,
            TicketOutcome::BadSignature { nonce: 2 },
            TicketOutcome::Withheld,
            TicketOutcome::NonceSeen { nonce: 1 },
        ]
    );
    assert_eq!(paid.credited.to_string(), "7/3");
    assert_eq!(paid.new_winners, 1);
    // A bad signature leaves its nonce free; a withheld ticket has used its own.
    let next = ledger.receive_payment(&receipt("a", vec![signed(2), signed(3)])).await.unwrap();
    assert_eq!(next.tickets, [TicketOutcome::Credited, TicketOutcome::NonceSeen { nonce: 3 }]);
}

#[tokio::test]
async fn a_refused_payment_opens_no_account() {
    let books = Books::new();
    let ledger = books.open().await;
    let bad = receipt("a", vec![CheckedTicket::BadSignature { nonce: 1 }]);
    assert!(ledger.receive_payment(&bad).await.unwrap().account.is_none());
    assert!(ledger.account(&key("a")).await.unwrap().is_none());
    assert!(ledger.accounts(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn expired_tickets_record_their_nonce_and_keep_their_winner() {
    let books = Books::new();
    let ledger = books.open().await;
    let late = PaymentReceipt { last_seen_block: 50, ..receipt("a", vec![winning(1, 1)]) };
    let paid = ledger.receive_payment(&late).await.unwrap();
    assert_eq!(paid.tickets, [TicketOutcome::Expired]);
    assert_eq!(paid.new_winners, 1);
    assert!(!paid.credited.is_positive());
    let retry = ledger.receive_payment(&receipt("a", vec![signed(1)])).await.unwrap();
    assert_eq!(retry.tickets, [TicketOutcome::NonceSeen { nonce: 1 }]);
}

#[tokio::test]
async fn six_hundred_nonces_and_no_more() {
    let books = Books::new();
    let ledger = books.open().await;
    let most = receipt("a", (0..600).map(signed).collect());
    let paid = ledger.receive_payment(&most).await.unwrap();
    assert!(paid.tickets.iter().all(|t| *t == TicketOutcome::Credited));
    let more = ledger.receive_payment(&receipt("a", vec![signed(600), signed(5)])).await.unwrap();
    assert_eq!(
        more.tickets,
        [TicketOutcome::TooManyNonces { nonce: 600 }, TicketOutcome::NonceSeen { nonce: 5 }]
    );
    let other = PaymentReceipt {
        recipient_rand_hash: B256::repeat_byte(2),
        ..receipt("a", vec![signed(600)])
    };
    assert_eq!(ledger.receive_payment(&other).await.unwrap().tickets, [TicketOutcome::Credited]);
}

#[tokio::test]
async fn forgotten_offers_stay_refused_when_blocks_go_backwards() {
    let books = Books::new();
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", vec![signed(1)])).await.unwrap();
    assert_eq!(ledger.forget_nonces(49).await.unwrap(), 0);
    assert_eq!(ledger.forget_nonces(50).await.unwrap(), 1);
    ledger.forget_nonces(20).await.unwrap();
    let replay = ledger.receive_payment(&receipt("a", vec![signed(1)])).await.unwrap();
    assert_eq!(replay.tickets, [TicketOutcome::Expired]);
}

#[tokio::test]
async fn the_first_payment_pins_the_price_until_the_account_is_stale() {
    let books = Books::new();
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", vec![signed(1)])).await.unwrap();
    let dearer = PaymentReceipt { price: Rational::from_int(9), ..receipt("a", vec![signed(2)]) };
    let kept = ledger.receive_payment(&dearer).await.unwrap().account.unwrap();
    assert_eq!(kept.fixed_price.unwrap().to_string(), "3/2");
    let later = PaymentReceipt {
        price: Rational::from_int(9),
        price_stale_before_ms: 1_001,
        ..receipt("a", vec![signed(3)])
    };
    let renewed = ledger.receive_payment(&later).await.unwrap().account.unwrap();
    assert_eq!(renewed.fixed_price.unwrap().to_string(), "9");
}

#[tokio::test]
async fn a_job_is_debited_once() {
    let books = Books::new();
    let ledger = books.open().await;
    let fee = Debit {
        account: key("a"),
        job_id: "job".into(),
        fee: Rational::new(5, 2).unwrap(),
        now_ms: 5,
    };
    let account = ledger.debit(&fee).await.unwrap().unwrap();
    assert_eq!(account.balance().to_string(), "-5/2");
    ledger.close().await;
    let ledger = books.open().await;
    assert!(ledger.debit(&fee).await.unwrap().is_none());
    assert_eq!(ledger.totals().await.unwrap().debited.to_string(), "5/2");
}

#[tokio::test]
async fn winners_walk_their_statuses() {
    let books = Books::new();
    let ledger = books.open().await;
    let tickets = vec![winning(1, 1), winning(2, 2), winning(3, 3)];
    ledger.receive_payment(&receipt("a", tickets)).await.unwrap();
    assert!(ledger.winners_due(49, 10).await.unwrap().is_empty());
    assert_eq!(ledger.winners_due(50, 10).await.unwrap().len(), 3);
    assert_eq!(ledger.winners_due(50, 2).await.unwrap().len(), 2);

    let [one, two, three] = [1, 2, 3].map(B256::repeat_byte);
    assert!(ledger.begin_redemption(one, 2).await.unwrap());
    assert!(!ledger.begin_redemption(one, 2).await.unwrap(), "already in flight");
    assert_eq!(
        ledger.pending_face_value(Address::repeat_byte(7)).await.unwrap(),
        winner(1).face_value
    );
    ledger.close().await;

    // What a crash left open is found again, and is not due a second time.
    let ledger = books.open().await;
    let open = ledger.winners_with(WinnerStatus::Redeeming, 10).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].attempts, 1);
    assert_eq!(ledger.winners_due(50, 10).await.unwrap().len(), 2);

    ledger.mark_redeemed(one, Some(B256::repeat_byte(8)), 3).await.unwrap();
    ledger.mark_failed(one, "late news", 4).await.unwrap();
    ledger.begin_redemption(two, 3).await.unwrap();
    ledger.requeue(two, "chain away", 3).await.unwrap();
    ledger.mark_failed(three, &"é".repeat(9_000), 3).await.unwrap();
    let shown: BTreeMap<_, _> =
        ledger.winners(10).await.unwrap().into_iter().map(|w| (w.ticket.ticket_hash, w)).collect();
    assert_eq!(shown[&one].status, WinnerStatus::Redeemed, "redeemed is final");
    assert_eq!(shown[&one].tx_hash, Some(B256::repeat_byte(8)));
    assert_eq!(shown[&two].status, WinnerStatus::Queued);
    assert_eq!(shown[&two].reason.as_deref(), Some("chain away"));
    assert_eq!(shown[&three].reason.as_ref().unwrap().chars().count(), 500);
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.winners, totals.redeemed), (3, 1));
    assert_eq!(totals.redeemed_face_value, winner(1).face_value);
    assert_eq!(ledger.winners_due(50, 10).await.unwrap()[0].ticket.ticket_hash, two);
}

#[tokio::test]
async fn concurrent_payments_share_no_nonce() {
    let books = Books::new();
    let ledger = books.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            ledger
                .receive_payment(&receipt("a", (0..10).map(signed).collect()))
                .await
                .unwrap()
                .credited
        });
    }
    let mut credited = Rational::ZERO;
    while let Some(amount) = tasks.join_next().await {
        credited += &amount.unwrap();
    }
    assert_eq!(credited.to_string(), "70/3", "ten tickets, whoever came first");
    assert_eq!(ledger.totals().await.unwrap().credited, credited);
}

#[tokio::test]
async fn an_unreadable_amount_is_corrupt_not_zero() {
    let books = Books::new();
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", vec![signed(1)])).await.unwrap();
    sqlx::query("UPDATE accounts SET credited = 'many'").execute(ledger.db.writer()).await.unwrap();
    let refused = ledger.account(&key("a")).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Corrupt { what: "credited" }), "{refused}");
    let refused = ledger.receive_payment(&receipt("a", vec![signed(2)])).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Corrupt { .. }));
    let nonces: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM nonces")
        .fetch_one(ledger.db.writer())
        .await
        .unwrap();
    assert_eq!(nonces, 1, "the refused payment was rolled back whole");
}

#[test]
fn keys_are_bounded() {
    assert!(AccountKey::new(Address::ZERO, "31_openai/whisper-tiny.en").is_ok());
    for bad in ["".to_owned(), "a".repeat(193), "a\nb".into(), "é".into()] {
        assert!(AccountKey::new(Address::ZERO, bad).is_err());
    }
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Pay { session: u8, offer: u8, nonces: Vec<(u32, bool)>, ev: (u32, u32) },
    Debit { session: u8, job: u8, fee: (u32, u32) },
    Forget { block: u8 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let ratio = || (0..1_000u32, 1..1_000u32);
    prop_oneof![
        4 => (0..3u8, 0..4u8, prop::collection::vec((0..12u32, any::<bool>()), 0..6), ratio())
            .prop_map(|(session, offer, nonces, ev)| Step::Pay { session, offer, nonces, ev }),
        3 => (0..3u8, 0..20u8, ratio()).prop_map(|(session, job, fee)| Step::Debit { session, job, fee }),
        1 => (0..60u8).prop_map(|block| Step::Forget { block }),
        1 => Just(Step::Reopen),
    ]
}

/// What the books must say, kept in plain maps.
#[derive(Default)]
struct Model {
    credited: BTreeMap<u8, Rational>,
    debited: BTreeMap<u8, Rational>,
    nonces: HashSet<(u8, u32)>,
    jobs: HashSet<u8>,
}

/// Offer `n` expires at block 10 + 10 n.
fn expiry(offer: u8) -> u64 {
    10 + 10 * u64::from(offer)
}

async fn run_history(steps: Vec<Step>) {
    let books = Books::new();
    let mut ledger = books.open().await;
    let mut model = Model::default();
    let mut horizon = 0u64;
    for step in steps {
        match step {
            Step::Pay { session, offer, nonces, ev } => {
                let ticket_ev = Rational::new(ev.0.into(), ev.1.into()).unwrap();
                let tickets =
                    nonces
                        .iter()
                        .map(|(n, good)| {
                            if *good {
                                signed(*n)
                            } else {
                                CheckedTicket::BadSignature { nonce: *n }
                            }
                        })
                        .collect();
                let receipt = PaymentReceipt {
                    account: key(&format!("s{session}")),
                    recipient_rand_hash: B256::repeat_byte(offer),
                    params_expiration_block: expiry(offer),
                    last_seen_block: horizon,
                    ticket_ev: ticket_ev.clone(),
                    ..receipt("s", tickets)
                };
                let paid = ledger.receive_payment(&receipt).await.unwrap();
                let mut refused = false;
                for ((nonce, good), outcome) in nonces.iter().zip(&paid.tickets) {
                    let live = expiry(offer) > horizon;
                    let fresh = *good && live && model.nonces.insert((offer, *nonce));
                    let expected = fresh && !refused;
                    assert_eq!(*outcome == TicketOutcome::Credited, expected, "{outcome:?}");
                    refused |= !fresh;
                    if expected {
                        *model.credited.entry(session).or_default() += &ticket_ev;
                    }
                }
            }
            Step::Debit { session, job, fee } => {
                let fee = Rational::new(fee.0.into(), fee.1.into()).unwrap();
                let first = model.jobs.insert(job);
                let debit = Debit {
                    account: key(&format!("s{session}")),
                    job_id: format!("j{job}"),
                    fee: fee.clone(),
                    now_ms: 1,
                };
                assert_eq!(ledger.debit(&debit).await.unwrap().is_some(), first);
                if first {
                    *model.debited.entry(session).or_default() += &fee;
                }
            }
            Step::Forget { block } => {
                horizon = horizon.max(block.into());
                ledger.forget_nonces(block.into()).await.unwrap();
            }
            Step::Reopen => {
                ledger.close().await;
                ledger = books.open().await;
            }
        }
        assert_conserved(&ledger, &model).await;
    }
}

/// credits − debits = balance, to the last fraction, account by account and in total; and the
/// journals add up to the accounts.
async fn assert_conserved(ledger: &SqliteOrchestratorLedger, model: &Model) {
    let (mut credited, mut debited) = (Rational::ZERO, Rational::ZERO);
    for session in 0..3u8 {
        let account = ledger.account(&key(&format!("s{session}"))).await.unwrap();
        let (in_, out) = (
            model.credited.get(&session).cloned().unwrap_or_default(),
            model.debited.get(&session).cloned().unwrap_or_default(),
        );
        let balance = account.map(|a| a.balance()).unwrap_or_default();
        assert_eq!(balance, &in_ - &out);
        credited += &in_;
        debited += &out;
    }
    let totals = ledger.totals().await.unwrap();
    assert_eq!(totals.balance(), &credited - &debited);
    assert_eq!(journal(ledger, "SELECT amount FROM credits").await, credited);
    assert_eq!(journal(ledger, "SELECT amount FROM debits").await, debited);
}

async fn journal(ledger: &SqliteOrchestratorLedger, sql: &'static str) -> Rational {
    let amounts: Vec<String> =
        sqlx::query_scalar(sql).fetch_all(ledger.db.readers()).await.unwrap();
    let mut sum = Rational::ZERO;
    for amount in amounts {
        sum += &amount.parse().unwrap();
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn credits_minus_debits_is_the_balance(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
            .block_on(run_history(steps));
    }
}

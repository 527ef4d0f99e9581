//! The suite that every implementation of [`OrchestratorLedger`] passes. Each case gets books that it
//! can close and open again, as after a restart. What only several processes can do is in `races` and
//! `leases`.

mod deaths;
mod fees;
mod histories;
mod leases;
mod queue;
mod races;
mod silence;
mod starts;

use super::*;
use penstock_domain::{Address, B256, Rational, U256, Wei};
use penstock_payments::{
    NonceError, OfferClaim, OfferConfig, OfferRequest, RecipientContext, RecipientSecret,
    RoundView, Signature, SignatureError, TicketError, VerifiedOffer, VerifiedPayment,
    VerifiedTicket, make_offer, verify_offer,
};
use proptest::prelude::*;
use sqlx::AssertSqlSafe;
use starts::{
    an_account_is_in_one_attempts_hands, the_most_that_is_left_is_next_and_at_its_own_price,
    what_a_job_holds_is_not_carried_over, what_is_left_is_carried_over_once_and_no_price_is,
    what_is_said_late_of_a_start_changes_nothing, what_is_spent_is_not_there_for_the_next,
    what_was_paid_for_a_start_is_there_for_the_next,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

use fees::{
    a_covered_fee_leaves_others_what_they_hold, a_fee_that_must_be_covered_is_or_is_not_booked,
    a_fee_whose_hold_is_gone_needs_it_anew, a_job_is_debited_once,
    what_jobs_hold_is_not_there_for_others,
};
use histories::tickets_of_forgotten_offers_come_again;
use queue::{
    a_redemption_that_was_taken_back_waits_again,
    a_winner_that_was_handed_over_is_not_redeemed_here, one_that_floods_holds_up_no_other,
    what_is_brought_is_stored_once_and_within_limits, what_is_put_off_was_tried,
    winners_are_due_in_the_order_of_policy,
};

type Ledger = Arc<dyn OrchestratorLedger>;

/// Long enough never to lapse in a test.
const LONG: LeaseTime = LeaseTime(Duration::from_secs(3600));

/// Books that can be closed and opened again.
trait Books {
    async fn open(&self) -> Ledger;
    /// Runs SQL behind the ledger's back.
    async fn meddle(&self, sql: &str);
    /// A column of text.
    async fn column(&self, sql: &str) -> Vec<String>;
}

struct SqliteBooks(tempfile::TempDir);

impl SqliteBooks {
    async fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn url(&self) -> String {
        format!("sqlite://{}/o.db", self.0.path().display())
    }
}

impl Books for SqliteBooks {
    async fn open(&self) -> Ledger {
        super::open(&self.url(), LONG).await.unwrap()
    }

    async fn meddle(&self, sql: &str) {
        let other = crate::sqlite::Sqlite::open(&self.url(), &MIGRATIONS).await.unwrap();
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(other.writer()).await.unwrap();
        other.close().await;
    }

    async fn column(&self, sql: &str) -> Vec<String> {
        let other = crate::sqlite::Sqlite::open(&self.url(), &MIGRATIONS).await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        let found = sqlx::query_scalar(sql).fetch_all(other.readers()).await.unwrap();
        other.close().await;
        found
    }
}

struct PostgresBooks(penstock_testkit::postgres::Database);

impl PostgresBooks {
    async fn new() -> Self {
        Self(penstock_testkit::postgres::database().await)
    }

    async fn connect(&self) -> sqlx::PgConnection {
        use sqlx::Connection as _;
        sqlx::PgConnection::connect(self.0.url()).await.unwrap()
    }
}

impl Books for PostgresBooks {
    async fn open(&self) -> Ledger {
        super::open(self.0.url(), LONG).await.unwrap()
    }

    async fn meddle(&self, sql: &str) {
        use sqlx::Executor as _;
        self.connect().await.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    async fn column(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_all(&mut self.connect().await).await.unwrap()
    }
}

/// Nobody can meddle with these: the parts of the suite that do are for databases.
#[derive(Default)]
struct MemoryBooks(crate::memory::Disk<memory::Rows>);

impl Books for MemoryBooks {
    async fn open(&self) -> Ledger {
        Arc::new(memory::MemoryOrchestratorLedger::open(&self.0))
    }

    async fn meddle(&self, _: &str) {
        panic!("books in memory have no SQL");
    }

    async fn column(&self, _: &str) -> Vec<String> {
        panic!("books in memory have no SQL");
    }
}

/// What books in memory, whose answers simulations rest on, do like the databases.
macro_rules! memory_suite {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::MemoryBooks::default()).await;
            })*
        }
    };
}

memory_suite! {
    credits_once_and_survives_a_restart,
    after_the_first_refused_ticket_nothing_more_is_credited,
    a_refused_payment_opens_no_account,
    expired_tickets_record_their_nonce_and_keep_their_winner,
    six_hundred_nonces_and_no_more,
    forgotten_offers_stay_refused_when_blocks_go_backwards,
    a_block_far_too_high_ends_no_offer_to_come,
    the_first_payment_pins_the_price_until_the_account_is_stale,
    a_price_for_cheaper_work_is_credited_and_does_not_hold,
    a_job_is_debited_once,
    a_fee_that_must_be_covered_is_or_is_not_booked,
    what_jobs_hold_is_not_there_for_others,
    a_covered_fee_leaves_others_what_they_hold,
    a_fee_whose_hold_is_gone_needs_it_anew,
    winners_walk_their_statuses,
    an_old_fence_changes_nothing,
    a_winner_that_was_handed_over_is_not_redeemed_here,
    a_redemption_that_was_taken_back_waits_again,
    what_is_put_off_was_tried,
    what_is_brought_is_stored_once_and_within_limits,
    one_that_floods_holds_up_no_other,
    winners_are_due_in_the_order_of_policy,
    marks_are_compared,
    an_invoice_shows_one_payer_and_no_more_lines_than_asked,
    concurrent_payments_share_no_nonce,
    what_was_paid_for_a_start_is_there_for_the_next,
    what_is_spent_is_not_there_for_the_next,
    what_is_said_late_of_a_start_changes_nothing,
    the_most_that_is_left_is_next_and_at_its_own_price,
    what_is_left_is_carried_over_once_and_no_price_is,
    what_a_job_holds_is_not_carried_over,
    an_account_is_in_one_attempts_hands,
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::SqliteBooks::new().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::PostgresBooks::new().await).await;
            })*
        }
    };
}

suite! {
    credits_once_and_survives_a_restart,
    after_the_first_refused_ticket_nothing_more_is_credited,
    a_refused_payment_opens_no_account,
    expired_tickets_record_their_nonce_and_keep_their_winner,
    six_hundred_nonces_and_no_more,
    forgotten_offers_stay_refused_when_blocks_go_backwards,
    a_block_far_too_high_ends_no_offer_to_come,
    the_first_payment_pins_the_price_until_the_account_is_stale,
    a_price_for_cheaper_work_is_credited_and_does_not_hold,
    a_job_is_debited_once,
    a_fee_that_must_be_covered_is_or_is_not_booked,
    what_jobs_hold_is_not_there_for_others,
    a_covered_fee_leaves_others_what_they_hold,
    a_fee_whose_hold_is_gone_needs_it_anew,
    what_was_paid_for_a_start_is_there_for_the_next,
    what_is_spent_is_not_there_for_the_next,
    what_is_said_late_of_a_start_changes_nothing,
    the_most_that_is_left_is_next_and_at_its_own_price,
    what_is_left_is_carried_over_once_and_no_price_is,
    what_a_job_holds_is_not_carried_over,
    an_account_is_in_one_attempts_hands,
    winners_walk_their_statuses,
    an_old_fence_changes_nothing,
    a_winner_that_was_handed_over_is_not_redeemed_here,
    a_redemption_that_was_taken_back_waits_again,
    what_is_put_off_was_tried,
    what_is_brought_is_stored_once_and_within_limits,
    one_that_floods_holds_up_no_other,
    winners_are_due_in_the_order_of_policy,
    marks_are_compared,
    old_lines_of_the_journals_go_and_their_sums_stay,
    an_invoice_shows_one_payer_and_no_more_lines_than_asked,
    tickets_of_forgotten_offers_come_again,
    concurrent_payments_share_no_nonce,
    an_unreadable_amount_is_corrupt_not_zero,
}

// Here it sees the macros.
mod trainings;

const SENDER: Address = Address::repeat_byte(7);
const RECIPIENT: Address = Address::repeat_byte(9);

fn key(session: &str) -> AccountKey {
    AccountKey::new(SENDER, session).unwrap()
}

/// A real offer of this recipient, number `n`, that ends at block `expiry`. One ticket is worth
/// `ev` wei, give or take the rounding of the probability.
fn offer(n: u8, expiry: u64, ev: u64, price: &Rational) -> VerifiedOffer {
    let secret = RecipientSecret::new([1; 32]);
    let config =
        OfferConfig { ticket_ev: Wei::from_u64(ev), redeem_gas: 1, max_face_value: Wei::ZERO };
    let float = Rational::from_int(1_000_000_007);
    let request = OfferRequest {
        recipient: RECIPIENT,
        sender: SENDER,
        price,
        gas_price: Wei::ZERO,
        max_float: &float,
        rounds: RoundView {
            last_initialized_round: 5,
            l1_block_hash: B256::repeat_byte(3),
            previous_round_l1_block_hash: B256::ZERO,
            last_seen_l1_block: expiry - 40,
        },
        seed: U256::from(n),
    };
    let params = make_offer(&config, &secret, &request).unwrap();
    let context = RecipientContext {
        recipient: RECIPIENT,
        secret: &secret,
        withdraw_round: Ok(0),
        last_initialized_round: 5,
    };
    let claim = OfferClaim {
        sender: SENDER,
        params: &params,
        expiration_params: params.expiration_params,
        price,
    };
    verify_offer(&context, &claim).unwrap()
}

fn signed(nonce: u32) -> VerifiedTicket {
    let signature = Ok(Signature::from_bytes([27; 65]));
    VerifiedTicket { sender_nonce: nonce, signature, won: false }
}

fn winning(nonce: u32) -> VerifiedTicket {
    VerifiedTicket { won: true, ..signed(nonce) }
}

fn forged(nonce: u32) -> VerifiedTicket {
    VerifiedTicket { signature: Err(SignatureError::WrongSigner), ..signed(nonce) }
}

/// A payment with tickets of offer `n`, worth 7 wei each or a little more, at 3/2 wei a unit.
fn receipt(session: &str, n: u8, tickets: Vec<VerifiedTicket>) -> PaymentReceipt {
    let price = Rational::new(3, 2).unwrap();
    receipt_for(session, offer(n, 50, 7, &price), price, tickets)
}

fn receipt_for(
    session: &str,
    offer: VerifiedOffer,
    price: Rational,
    tickets: Vec<VerifiedTicket>,
) -> PaymentReceipt {
    PaymentReceipt {
        account: key(session),
        verified: VerifiedPayment::Tickets { offer: Box::new(offer), price, tickets },
        own_price: Rational::ONE,
        pin_floor: Rational::ONE,
        work: Some("work".into()),
        last_seen_block: 10,
        price_stale_before_ms: 0,
        for_start: None,
        now_ms: 1_000,
    }
}

fn fee_of(session: &str, job_id: &str, fee: Rational) -> Debit {
    Debit {
        account: key(session),
        job_id: job_id.into(),
        units: 1,
        price: fee,
        began_ms: 900,
        price_stale_before_ms: 0,
        now_ms: 1_000,
        covered: false,
        hold: None,
    }
}

fn hold(session: &str, amount: &Rational, least: &Rational) -> HoldRequest {
    HoldRequest {
        id: HoldId(Uuid::new_v4()),
        account: key(session),
        amount: amount.clone(),
        least: least.clone(),
    }
}

/// A fee out of this hold.
fn spent(hold: &HoldRequest, ends: bool) -> Option<HoldSpent> {
    Some(HoldSpent { id: hold.id, ends, least: hold.least.clone() })
}

fn booked(outcome: Booked) -> Account {
    match outcome {
        Booked::Now(account) => *account,
        other => panic!("not booked: {other:?}"),
    }
}

fn ev() -> Rational {
    offer(1, 50, 7, &Rational::ONE).ev().clone()
}

fn times(n: i128, amount: &Rational) -> Rational {
    &Rational::from_int(n) * amount
}

fn seen(nonce: u32) -> Option<TicketError> {
    Some(TicketError::Nonce { reason: NonceError::AlreadySeen, sender: SENDER, nonce })
}

async fn credits_once_and_survives_a_restart(books: &impl Books) {
    let ledger = books.open().await;
    let paid = receipt("a", 1, vec![signed(1), winning(9)]);
    let taken = ledger.receive_payment(&paid).await.unwrap();
    assert_eq!((taken.credited_tickets, taken.new_winners), (2, 1));
    assert_eq!(taken.credited, times(2, &ev()));
    assert_eq!(taken.error, None);
    ledger.close().await;

    let ledger = books.open().await;
    let again = ledger.receive_payment(&paid).await.unwrap();
    assert_eq!((again.credited_tickets, again.new_winners), (0, 0));
    assert_eq!(again.error, seen(9), "the last ticket's error");
    let account = ledger.account(&key("a")).await.unwrap().unwrap();
    assert_eq!((account.balance(), account.tickets), (times(2, &ev()), 2));
    let kept = ledger.winners(10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].status, WinnerStatus::Queued);
    let price = Rational::new(3, 2).unwrap();
    let original = offer(1, 50, 7, &price);
    assert_eq!(kept[0].winner.ticket, original.ticket(9));
    assert_eq!(kept[0].winner.recipient_rand, original.recipient_rand());
    assert_eq!(kept[0].winner.params_expiration_block, U256::from(50));
}

async fn after_the_first_refused_ticket_nothing_more_is_credited(books: &impl Books) {
    let ledger = books.open().await;
    let tickets = vec![signed(1), forged(2), winning(3), signed(1)];
    let taken = ledger.receive_payment(&receipt("a", 1, tickets)).await.unwrap();
    assert_eq!((taken.credited_tickets, taken.new_winners), (1, 1));
    assert_eq!(taken.credited, ev());
    assert_eq!(taken.error, seen(1));
    // A bad signature leaves its nonce free; a ticket that was not credited has used its own.
    let next = ledger.receive_payment(&receipt("a", 1, vec![signed(2), signed(3)])).await.unwrap();
    assert_eq!((next.credited_tickets, next.error), (1, seen(3)));
}

async fn a_refused_payment_opens_no_account(books: &impl Books) {
    let ledger = books.open().await;
    let taken = ledger.receive_payment(&receipt("a", 1, vec![forged(1)])).await.unwrap();
    assert!(taken.account.is_none());
    let nothing = PaymentReceipt { verified: VerifiedPayment::Nothing, ..receipt("a", 1, vec![]) };
    assert!(ledger.receive_payment(&nothing).await.unwrap().account.is_none());
    assert!(ledger.accounts(9).await.unwrap().is_empty());
}

async fn expired_tickets_record_their_nonce_and_keep_their_winner(books: &impl Books) {
    let ledger = books.open().await;
    let late = PaymentReceipt { last_seen_block: 50, ..receipt("a", 1, vec![winning(1)]) };
    let taken = ledger.receive_payment(&late).await.unwrap();
    assert_eq!((taken.credited_tickets, taken.new_winners), (0, 1));
    assert_eq!(taken.error, Some(TicketError::Expired));
    let retry = ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    assert_eq!(retry.error, seen(1));
}

async fn six_hundred_nonces_and_no_more(books: &impl Books) {
    let ledger = books.open().await;
    let most = receipt("a", 1, (0..600).map(signed).collect());
    assert_eq!(ledger.receive_payment(&most).await.unwrap().credited_tickets, 600);
    let more =
        ledger.receive_payment(&receipt("a", 1, vec![signed(5), signed(600)])).await.unwrap();
    assert_eq!(
        more.error,
        Some(TicketError::Nonce { reason: NonceError::TooMany, sender: SENDER, nonce: 600 })
    );
    let other = ledger.receive_payment(&receipt("a", 2, vec![signed(600)])).await.unwrap();
    assert_eq!(other.credited_tickets, 1, "another offer has its own nonces");
}

async fn forgotten_offers_stay_refused_when_blocks_go_backwards(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    assert_eq!(ledger.forget_nonces(49).await.unwrap(), 0);
    assert_eq!(ledger.forget_nonces(50).await.unwrap(), 1);
    ledger.forget_nonces(20).await.unwrap();
    let replay = ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    assert_eq!((replay.credited_tickets, replay.error), (0, Some(TicketError::Expired)));
}

async fn a_block_far_too_high_ends_no_offer_to_come(books: &impl Books) {
    let ledger = books.open().await;
    assert_eq!(ledger.forget_nonces(1 << 40).await.unwrap(), 0);
    let taken = ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    assert_eq!((taken.credited_tickets, taken.error), (1, None), "it expires at block 50");
    assert_eq!(ledger.forget_nonces(1 << 40).await.unwrap(), 1);
    let replay = ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    assert_eq!((replay.credited_tickets, replay.error), (0, Some(TicketError::Expired)));
    let price = Rational::new(3, 2).unwrap();
    let later = receipt_for("a", offer(2, 51, 7, &price), price, vec![signed(1)]);
    let taken = ledger.receive_payment(&later).await.unwrap();
    assert_eq!((taken.credited_tickets, taken.error), (1, None), "it expires one block later");
}

async fn the_first_payment_pins_the_price_until_the_account_is_stale(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    let nine = Rational::from_int(9);
    let dearer =
        |nonce| receipt_for("a", offer(3, 50, 7, &nine), nine.clone(), vec![signed(nonce)]);
    let pinned = |taken: PaymentTaken| taken.account.unwrap().fixed_price.unwrap().to_string();
    assert_eq!(pinned(ledger.receive_payment(&dearer(1)).await.unwrap()), "3/2");
    let later = PaymentReceipt { price_stale_before_ms: 1_001, ..dearer(2) };
    assert_eq!(pinned(ledger.receive_payment(&later).await.unwrap()), "9");
    // A fee touches the account. In time it keeps the pin alive, too late it does not revive it.
    let fee = |job_id: &str, price_stale_before_ms| Debit {
        account: key("a"),
        job_id: job_id.into(),
        units: 1,
        price: Rational::ONE,
        began_ms: 4_000,
        price_stale_before_ms,
        now_ms: 5_000,
        covered: false,
        hold: None,
    };
    let kept = booked(ledger.debit(&fee("in time", 1_000)).await.unwrap());
    assert_eq!(kept.pinned(), Some(&nine));
    let unpinned = booked(ledger.debit(&fee("too late", 5_001)).await.unwrap());
    assert_eq!((unpinned.fixed_price.as_ref(), unpinned.pin_floor.as_ref()), (None, None));
    // A price of nobody's in particular gives way to one that was offered for a work, which then stays.
    let nobodys = |n, nonce| PaymentReceipt { work: None, ..receipt("b", n, vec![signed(nonce)]) };
    assert_eq!(pinned(ledger.receive_payment(&nobodys(4, 1)).await.unwrap()), "3/2");
    let offered = receipt_for("b", offer(5, 50, 7, &nine), nine.clone(), vec![signed(1)]);
    let now = ledger.receive_payment(&offered).await.unwrap().account.unwrap();
    assert_eq!((now.fixed_price, now.pin_work.as_deref()), (Some(nine), Some("work")));
    assert_eq!(pinned(ledger.receive_payment(&nobodys(4, 2)).await.unwrap()), "9");
    assert_eq!(ledger.account(&key("a")).await.unwrap().unwrap(), unpinned);
}

async fn a_price_for_cheaper_work_is_credited_and_does_not_hold(books: &impl Books) {
    let ledger = books.open().await;
    let floor = |n: i128| PaymentReceipt {
        pin_floor: Rational::from_int(n),
        ..receipt(&format!("a{n}"), n.try_into().unwrap(), vec![signed(1)])
    };
    let holds = ledger.receive_payment(&floor(1)).await.unwrap().account.unwrap();
    assert_eq!(holds.pinned().unwrap().to_string(), "3/2");
    let cheap = ledger.receive_payment(&floor(2)).await.unwrap().account.unwrap();
    assert_eq!(cheap.credited, ev());
    assert_eq!(cheap.pinned(), None);
    assert_eq!(ledger.account(&key("a2")).await.unwrap().unwrap(), cheap);
}

async fn winners_walk_their_statuses(books: &impl Books) {
    let ledger = books.open().await;
    let tickets = vec![winning(1), winning(2), winning(3)];
    ledger.receive_payment(&receipt("a", 1, tickets)).await.unwrap();
    assert!(ledger.winners_due(49, 10).await.unwrap().is_empty());
    let fence = ledger.redeemer().await.unwrap().unwrap();
    assert_eq!(ledger.redeemer().await.unwrap(), Some(fence), "it is kept");
    let due = ledger.winners_due(50, 10).await.unwrap();
    assert_eq!(due.len(), 3);
    assert_eq!(ledger.winners_due(50, 2).await.unwrap().len(), 2);
    let [one, two, three] = [0, 1, 2].map(|at: usize| due[at].winner.ticket_hash);
    let face_value = due[0].winner.ticket.face_value;

    assert!(ledger.begin_redemption(one, fence, 2).await.unwrap());
    assert!(!ledger.begin_redemption(one, fence, 2).await.unwrap(), "already in flight");
    assert_eq!(ledger.pending_face_value(SENDER).await.unwrap(), face_value);
    ledger.close().await;

    // What a crash left open is found again, and is not due a second time.
    let ledger = books.open().await;
    let later = ledger.redeemer().await.unwrap().unwrap();
    assert!(later > fence);
    let fence = later;
    let open = ledger.winners_with(WinnerStatus::Redeeming, 10).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].attempts, 1);
    assert_eq!(ledger.winners_due(50, 10).await.unwrap().len(), 2);

    ledger.mark_redeemed(one, Some(B256::repeat_byte(8)), None, None, 3).await.unwrap();
    ledger.mark_failed(one, fence, "late news", 4).await.unwrap();
    ledger.begin_redemption(two, fence, 3).await.unwrap();
    ledger.requeue(two, fence, "chain away", 60, 3).await.unwrap();
    ledger.mark_failed(three, fence, &"é".repeat(9_000), 3).await.unwrap();
    let shown: BTreeMap<_, _> =
        ledger.winners(10).await.unwrap().into_iter().map(|w| (w.winner.ticket_hash, w)).collect();
    assert_eq!(shown[&one].status, WinnerStatus::Redeemed, "redeemed is final");
    assert_eq!(shown[&one].tx_hash, Some(B256::repeat_byte(8)));
    assert_eq!(shown[&two].status, WinnerStatus::Queued);
    assert_eq!(shown[&two].reason.as_deref(), Some("chain away"));
    assert_eq!(shown[&three].reason.as_ref().unwrap().chars().count(), 500);
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.winners, totals.redeemed), (3, 1));
    assert_eq!(totals.redeemed_face_value, face_value);
    assert!(ledger.winners_due(59, 10).await.unwrap().is_empty(), "it waits");
    assert_eq!(ledger.winners_due(60, 10).await.unwrap()[0].winner.ticket_hash, two);
}

/// Of two that want the right one after the other, the first can do nothing any more but state facts.
async fn an_old_fence_changes_nothing(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![winning(1), winning(2)])).await.unwrap();
    let due = ledger.winners_due(50, 10).await.unwrap();
    let [one, two] = [0, 1].map(|at: usize| due[at].winner.ticket_hash);
    let old = ledger.redeemer().await.unwrap().unwrap();
    assert!(ledger.begin_redemption(one, old, 1).await.unwrap());
    ledger.close().await;
    let ledger = books.open().await;
    let new = ledger.redeemer().await.unwrap().unwrap();
    assert!(!ledger.begin_redemption(two, old, 2).await.unwrap());
    ledger.requeue(one, old, "too late", 99, 2).await.unwrap();
    ledger.mark_failed(two, old, "too late", 2).await.unwrap();
    let redeeming = ledger.winners_with(WinnerStatus::Redeeming, 9).await.unwrap();
    assert_eq!(redeeming.len(), 1);
    assert_eq!(ledger.winners_with(WinnerStatus::Queued, 9).await.unwrap().len(), 1);
    ledger.requeue(one, new, "interrupted", 50, 3).await.unwrap();
    ledger.mark_redeemed(one, None, None, None, 4).await.unwrap();
    assert_eq!(ledger.totals().await.unwrap().redeemed, 1);
    ledger.close().await;
}

async fn marks_are_compared(books: &impl Books) {
    let mark = |name, mark: &str| Mark { name, mark: mark.into() };
    let ledger = books.open().await;
    let ours = [mark("--a", "1"), mark("--b", "2")];
    assert!(ledger.claim(&ours, false).await.unwrap().is_empty());
    ledger.close().await;
    let ledger = books.open().await;
    assert!(ledger.claim(&ours, false).await.unwrap().is_empty());
    let others = [mark("--a", "1"), mark("--b", "3"), mark("--c", "4")];
    assert_eq!(ledger.claim(&others, false).await.unwrap(), ["--b"]);
    assert!(ledger.claim(&others, true).await.unwrap().is_empty());
    assert_eq!(ledger.claim(&ours, false).await.unwrap(), ["--b"]);
    ledger.close().await;
}

async fn old_lines_of_the_journals_go_and_their_sums_stay(books: &impl Books) {
    let ledger = books.open().await;
    for (n, session) in ["a", "a", "b"].into_iter().enumerate() {
        let nonce = u32::try_from(n).unwrap();
        let now_ms = 1_000 + 100 * i64::from(nonce);
        let paid = PaymentReceipt { now_ms, ..receipt(session, 1, vec![signed(nonce)]) };
        ledger.receive_payment(&paid).await.unwrap();
        let fee = Debit { now_ms, ..fee_of(session, &format!("j{n}"), Rational::ONE) };
        booked(ledger.debit(&fee).await.unwrap());
    }
    let before = ledger.totals().await.unwrap();
    assert_eq!(ledger.fold(1_000, 10).await.unwrap(), 0, "nothing is that old");
    assert_eq!(ledger.fold(1_200, 1).await.unwrap(), 2, "one of each kind");
    assert_eq!(ledger.fold(1_200, 10).await.unwrap(), 2);
    assert_eq!(ledger.fold(1_200, 10).await.unwrap(), 0);
    let account = ledger.account(&key("a")).await.unwrap().unwrap();
    assert_eq!(account.folded_credits, times(2, &ev()));
    assert_eq!(account.folded_debits, Rational::from_int(2));
    assert_eq!(ledger.totals().await.unwrap(), before);
    // What has not gone is still known, and an account goes on.
    let again = ledger.debit(&fee_of("b", "j2", Rational::ONE)).await.unwrap();
    assert_eq!(again, Booked::Before);
    ledger.receive_payment(&receipt("a", 1, vec![signed(7)])).await.unwrap();
    let account = ledger.account(&key("a")).await.unwrap().unwrap();
    assert_eq!(account.folded_credits, times(2, &ev()));
    assert_eq!(books.column("SELECT amount FROM credits").await.len(), 2);
    assert_eq!(books.column("SELECT amount FROM debits").await.len(), 1);
    ledger.close().await;
}

async fn concurrent_payments_share_no_nonce(books: &impl Books) {
    let ledger = books.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let ledger = ledger.clone();
        let paid = receipt("a", 1, (0..10).map(signed).collect());
        tasks.spawn(async move { ledger.receive_payment(&paid).await.unwrap().credited });
    }
    let mut credited = Rational::ZERO;
    while let Some(amount) = tasks.join_next().await {
        credited += &amount.unwrap();
    }
    assert_eq!(credited, times(10, &ev()), "ten tickets, whoever came first");
    assert_eq!(ledger.totals().await.unwrap().credited, credited);
}

async fn an_unreadable_amount_is_corrupt_not_zero(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![winning(1)])).await.unwrap();
    books.meddle("UPDATE accounts SET credited = 'many'").await;
    let refused = ledger.account(&key("a")).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Corrupt { what: "credited" }), "{refused}");
    let next = receipt("a", 1, vec![signed(2)]);
    let refused = ledger.receive_payment(&next).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Corrupt { .. }));
    // The refused payment was rolled back whole: its nonce is free.
    books.meddle("UPDATE accounts SET credited = '7'").await;
    assert_eq!(ledger.receive_payment(&next).await.unwrap().credited_tickets, 1);
    books.meddle("UPDATE winners SET face_value = '1'").await;
    let refused = ledger.winners(1).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Corrupt { what: "ticket" }), "{refused}");
}

#[test]
fn keys_are_bounded() {
    assert!(AccountKey::new(Address::ZERO, "31_openai/whisper-tiny.en").is_ok());
    for bad in ["".to_owned(), "a".repeat(193), "a\nb".into(), "é".into()] {
        assert!(AccountKey::new(Address::ZERO, bad).is_err());
    }
}

async fn an_invoice_shows_one_payer_and_no_more_lines_than_asked(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1), signed(2)])).await.unwrap();
    let fee = |n: u8| Debit {
        units: n.into(),
        began_ms: 7,
        now_ms: 10 + i64::from(n),
        ..fee_of("a", &format!("job/{n}"), Rational::new(1, 3).unwrap())
    };
    for n in 1..=3 {
        ledger.debit(&fee(n)).await.unwrap();
    }
    let other = AccountKey::new(RECIPIENT, "a").unwrap();
    ledger.debit(&Debit { account: other, job_id: "other".into(), ..fee(9) }).await.unwrap();
    let ask = async |sender, limit| {
        let query = InvoiceQuery { session: "a".into(), sender, limit };
        ledger.invoices(&query).await.unwrap()
    };
    assert_eq!(ask(None, 10).await.len(), 2);
    assert!(ask(Some(Address::ZERO), 10).await.is_empty());
    let [invoice] = &ask(Some(SENDER), 2).await[..] else { panic!() };
    assert!(!invoice.is_whole, "a third fee is not shown");
    let jobs: Vec<_> = invoice.debits.iter().map(|d| (d.job_id.as_str(), d.to_ms)).collect();
    assert_eq!(jobs, [("job/3", 13), ("job/2", 12)]);
    assert_eq!(invoice.debits[0].from_ms, Some(7));
    assert_eq!(invoice.account.debited, Rational::from_int(2), "the sums are of everything");
    assert_eq!(invoice.account.pin_work.as_deref(), Some("work"));
    assert_eq!((invoice.credits.len(), invoice.credits[0].tickets), (1, 2));
    ledger.close().await;
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

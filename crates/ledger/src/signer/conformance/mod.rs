//! What every implementation of the signer's ledger must do: one suite, run over both databases.
//! An implementation supplies a place to keep books, a way to open them again, and a way to meddle
//! with their rows; the suite does the rest.

mod audit;
mod budgets;
mod events;
mod failures;
mod histories;
mod payments;
mod races;
mod retention;
mod silence;
mod usage;

use super::*;
use penstock_domain::{Address, AuthId, B256, ManifestId, PriceInfo, Rational, StateId, U256, Wei};
use penstock_payments::{BillingType, ticket_ev};
use std::{collections::HashSet, sync::Arc};

pub type Ledger = Arc<dyn SignerLedger>;

/// Books that can be closed and opened again, by several at once.
pub trait Books {
    async fn open(&self, replica: &str) -> Ledger;
    /// Runs SQL behind the ledger's back.
    async fn meddle(&self, sql: &str);
}

pub struct SqliteBooks(pub tempfile::TempDir);

impl SqliteBooks {
    pub async fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}/signer.db", self.0.path().display())
    }
}

impl Books for SqliteBooks {
    async fn open(&self, replica: &str) -> Ledger {
        super::open(&self.url(), replica).await.unwrap()
    }

    async fn meddle(&self, sql: &str) {
        let other = crate::sqlite::Sqlite::open(&self.url(), &MIGRATIONS).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(other.writer()).await.unwrap();
        other.close().await;
    }
}

pub struct PostgresBooks(pub penstock_testkit::postgres::Database);

impl PostgresBooks {
    pub async fn new() -> Self {
        Self(penstock_testkit::postgres::database().await)
    }
}

impl Books for PostgresBooks {
    async fn open(&self, replica: &str) -> Ledger {
        super::open(self.0.url(), replica).await.unwrap()
    }

    async fn meddle(&self, sql: &str) {
        use sqlx::{Connection, Executor};
        let mut other = sqlx::PgConnection::connect(self.0.url()).await.unwrap();
        other.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
        other.close().await.unwrap();
    }
}

/// Nobody can meddle with these: the parts of the suite that do are for databases.
#[derive(Default)]
pub struct MemoryBooks(crate::memory::Disk<super::memory::Rows>);

impl Books for MemoryBooks {
    async fn open(&self, replica: &str) -> Ledger {
        super::memory::open(&self.0, replica)
    }

    async fn meddle(&self, _: &str) {
        panic!("books in memory have no SQL");
    }
}

/// What books in memory, whose answers simulations rest on, do like the databases.
macro_rules! memory_suite {
    ($($part:ident: $($name:ident),* $(,)?;)*) => {
        mod memory {
            $($(#[tokio::test]
            async fn $name() {
                super::$part::$name(&super::MemoryBooks::default()).await;
            })*)*
        }
    };
}

memory_suite! {
    payments:
        nonces_grow_per_hash_and_never_come_back,
        a_hash_runs_out,
        a_fence_uses_up_every_known_hash,
        concurrent_reservations_are_disjoint,
        a_payment_is_stored_once,
        states_that_do_not_fit_get_nothing,
        only_reserved_nonces_are_stored,
        bindings_cannot_drift,
        an_idempotency_key_opens_one_session,
        lists_and_totals_survive_a_restart,
        unstorable_text_is_refused_alone;
    budgets:
        a_cap_holds_and_a_refusal_takes_nothing,
        every_counter_of_a_request_is_charged_or_none,
        what_comes_to_nothing_is_given_back,
        a_payment_that_came_second_is_given_back,
        expired_reservations_are_not_stored,
        a_charge_is_what_was_reserved,
        amounts_may_be_as_large_as_money_gets;
    audit:
        every_signature_is_on_record_before_it_is_made,
        other_signatures_are_recorded_in_order,
        chains_see_each_other;
    events:
        events_come_with_their_payments_and_in_order,
        one_deliverer_at_a_time;
    failures:
        a_repeated_commit_gets_its_own_answer,
        old_memories_decide_nothing,
        a_reservation_name_used_twice_fails_alone;
    races:
        one_hash,
        one_session,
        one_cap,
        one_idempotency_key,
        one_state_id,
        many_payments_of_two_replicas_add_up;
    usage:
        usage_is_exact,
        everything_is_read_back_in_pages;
    retention:
        answers_shrink_and_payments_stay,
        old_payments_become_lines_and_nothing_is_lost_of_the_sums,
        what_safety_needs_stays,
        a_session_that_lives_outlives_its_old_payments,
        counters_of_the_past_go;
}

macro_rules! suite {
    ($($part:ident: $($name:ident),* $(,)?;)*) => {
        mod sqlite {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$part::$name(&super::SqliteBooks::new().await).await;
            })*)*
        }
        mod postgres {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$part::$name(&super::PostgresBooks::new().await).await;
            })*)*
        }
    };
}

suite! {
    payments:
        nonces_grow_per_hash_and_never_come_back,
        a_hash_runs_out,
        a_fence_uses_up_every_known_hash,
        concurrent_reservations_are_disjoint,
        a_payment_is_stored_once,
        states_that_do_not_fit_get_nothing,
        only_reserved_nonces_are_stored,
        bindings_cannot_drift,
        an_idempotency_key_opens_one_session,
        lists_and_totals_survive_a_restart,
        unstorable_text_is_refused_alone;
    budgets:
        a_cap_holds_and_a_refusal_takes_nothing,
        every_counter_of_a_request_is_charged_or_none,
        what_comes_to_nothing_is_given_back,
        a_payment_that_came_second_is_given_back,
        expired_reservations_are_not_stored,
        a_charge_is_what_was_reserved,
        amounts_may_be_as_large_as_money_gets;
    audit:
        every_signature_is_on_record_before_it_is_made,
        other_signatures_are_recorded_in_order,
        chains_see_each_other,
        meddling_shows,
        without_audit_nothing_is_signed;
    events:
        events_come_with_their_payments_and_in_order,
        one_deliverer_at_a_time;
    failures:
        a_failed_write_is_said_and_changes_nothing,
        a_head_that_moved_is_read_again,
        a_repeated_commit_gets_its_own_answer,
        old_memories_decide_nothing,
        a_reservation_name_used_twice_fails_alone;
    races:
        one_hash,
        one_session,
        one_cap,
        one_idempotency_key,
        one_state_id,
        many_payments_of_two_replicas_add_up;
    usage:
        usage_is_exact,
        everything_is_read_back_in_pages,
        sums_over_endless_prices_are_bounded_and_say_so,
        totals_do_not_grow_with_payments;
    retention:
        answers_shrink_and_payments_stay,
        old_payments_become_lines_and_nothing_is_lost_of_the_sums,
        what_safety_needs_stays,
        a_session_that_lives_outlives_its_old_payments,
        one_replica_at_a_time,
        counters_of_the_past_go;
}

pub fn id(n: u32) -> StateId {
    StateId::new(format!("{n:08x}")).unwrap()
}

pub fn hash(n: u8) -> B256 {
    B256::repeat_byte(n)
}

pub fn counter(name: &str) -> CounterKey {
    CounterKey::account_day(name, Day::of_ms(0))
}

pub fn charge(name: &str, cap: Option<u64>) -> Charge {
    Charge { counter: counter(name), cap_wei: cap.map(Wei::from_u64) }
}

/// Worth of a test ticket: 35 wei, exactly.
pub const EV: u64 = 35;

pub fn ask(state: u32, sequence: u64, h: u8, count: u32) -> ReserveRequest {
    ReserveRequest {
        id: ReservationId(rand::random()),
        state_id: id(state),
        sequence,
        account: "gateway".into(),
        auth_id: Some(AuthId::new("client:subject").unwrap()),
        tickets: TicketTemplate {
            recipient: Address::repeat_byte(7),
            sender: Address::repeat_byte(8),
            face_value: Wei::from_u64(EV),
            win_prob: U256::MAX,
            recipient_rand_hash: hash(h),
            expiration_params: Default::default(),
        },
        count,
        max_nonce: 600,
        also_signs: Vec::new(),
        amount_wei: Wei::from_u64(EV * u64::from(count)),
        charges: Vec::new(),
        now_ms: 1,
        expires_at_ms: 1_000,
    }
}

pub fn charged(mut request: ReserveRequest, charges: &[Charge]) -> ReserveRequest {
    request.charges = charges.to_vec();
    request
}

pub async fn hold(ledger: &Ledger, request: ReserveRequest) -> Reservation {
    match ledger.reserve(request).await.unwrap() {
        Reserved::Nonces(held) => held,
        other => panic!("no nonces: {other:?}"),
    }
}

pub fn binding() -> Binding {
    Binding {
        account: "gateway".into(),
        auth_id: Some(AuthId::new("client:subject").unwrap()),
        orchestrator: Address::repeat_byte(7),
        app: "app \"quoted\" \\ \u{1}".into(),
        job_type: BillingType::Lv2v,
        manifest: ManifestBinding { id: ManifestId::new("m\"1\\").unwrap(), named: true },
    }
}

pub fn payment(state: u32, sequence: u64, reservation: Reservation) -> NewPayment {
    let count = u64::from(reservation.nonces.count());
    NewPayment {
        state_id: id(state),
        sequence,
        new_session: (sequence == 0).then(|| NewSession {
            initial_price: PriceInfo::new(150, 175).unwrap(),
            idempotency_key: None,
        }),
        binding: binding(),
        reservation,
        charged_wei: Wei::from_u64(EV * count),
        face_value: Wei::from_u64(EV),
        win_prob: U256::MAX,
        ticket_ev_wei: ticket_ev(Wei::from_u64(EV), U256::MAX),
        units: 1000,
        fee_wei: "6000/7".parse().unwrap(),
        answer: format!("answer {state} {sequence} {}\0", reservation.nonces.first).into_bytes(),
        auth_expiry: 9,
        event: None,
        now_ns: 5_000_000_000,
    }
}

pub async fn pay(ledger: &Ledger, state: u32, sequence: u64, h: u8, count: u32) -> Rational {
    let held = hold(ledger, ask(state, sequence, h, count)).await;
    match ledger.commit(payment(state, sequence, held)).await.unwrap() {
        Committed::Stored(balance) => balance,
        other => panic!("not stored: {other:?}"),
    }
}

/// What one counter holds.
pub async fn spent(ledger: &Ledger, name: &str) -> Wei {
    ledger.counters(&[counter(name)]).await.unwrap()[0]
}

/// All records of all chains.
pub async fn records(ledger: &Ledger) -> Vec<AuditRecord> {
    let mut all = Vec::new();
    for chain in ledger.audit_chains().await.unwrap() {
        all.extend(ledger.audit_records(&chain.name, 1, 1_000_000).await.unwrap());
    }
    all
}

pub async fn verified(ledger: &Ledger) -> AuditReport {
    super::audit::verify_ledger(&**ledger).await.unwrap()
}

//! What every implementation of the signer's ledger must do. An implementation supplies a place
//! to keep books and a way to open them again; the suite does the rest.

use super::*;
use penstock_domain::{Address, AuthId, B256, ManifestId, PriceInfo, Rational, StateId, U256, Wei};
use penstock_payments::BillingType;
use proptest::prelude::*;
use std::{collections::HashSet, sync::Arc};

/// Books that can be closed and opened again.
trait Books {
    async fn open(&self) -> Arc<dyn SignerLedger>;
}

struct SqliteBooks(tempfile::TempDir);

impl SqliteBooks {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Books for SqliteBooks {
    async fn open(&self) -> Arc<dyn SignerLedger> {
        let url = format!("sqlite://{}/signer.db", self.0.path().display());
        super::open(&url, "test").await.unwrap()
    }
}

fn id(n: u32) -> StateId {
    StateId::new(format!("{n:08x}")).unwrap()
}

fn some_id() -> ReservationId {
    ReservationId(rand::random())
}

fn hash(n: u8) -> B256 {
    B256::repeat_byte(n)
}

fn ask(state: u32, sequence: u64, h: u8, count: u32) -> ReserveRequest {
    ReserveRequest {
        id: some_id(),
        state_id: id(state),
        sequence,
        account: "gateway".into(),
        auth_id: None,
        tickets: TicketTemplate {
            recipient: Address::repeat_byte(7),
            sender: Address::repeat_byte(8),
            face_value: Wei::from_u64(100),
            win_prob: U256::MAX,
            recipient_rand_hash: hash(h),
            expiration_params: Default::default(),
        },
        count,
        max_nonce: 600,
        also_signs: Vec::new(),
        amount_wei: Wei::from_u64(35 * u64::from(count)),
        charges: Vec::new(),
        now_ms: 1,
        expires_at_ms: 1_000,
    }
}

async fn nonces(ledger: &Arc<dyn SignerLedger>, request: ReserveRequest) -> Reservation {
    match ledger.reserve(request).await.unwrap() {
        Reserved::Nonces(held) => held,
        other => panic!("no nonces: {other:?}"),
    }
}

fn binding() -> Binding {
    Binding {
        account: "gateway".into(),
        auth_id: Some(AuthId::new("client:subject").unwrap()),
        orchestrator: Address::repeat_byte(7),
        app: "app".into(),
        job_type: BillingType::Lv2v,
        manifest: ManifestBinding { id: ManifestId::new("m1").unwrap(), named: true },
    }
}

fn payment(state: u32, sequence: u64, reservation: Reservation) -> NewPayment {
    NewPayment {
        state_id: id(state),
        sequence,
        new_session: (sequence == 0).then(|| NewSession {
            initial_price: PriceInfo::new(150, 175).unwrap(),
            idempotency_key: None,
        }),
        binding: binding(),
        reservation,
        charged_wei: Wei::from_u64(35 * u64::from(reservation.nonces.count())),
        face_value: Wei::from_u64(100),
        win_prob: U256::MAX,
        ticket_ev_wei: "35".parse().unwrap(),
        units: 1000,
        fee_wei: "6000/7".parse().unwrap(),
        answer: format!("answer {state} {sequence} {}", reservation.nonces.first).into_bytes(),
        auth_expiry: 9,
        event: None,
        now_ns: 5_000_000_000,
    }
}

async fn pay(
    ledger: &Arc<dyn SignerLedger>,
    state: u32,
    sequence: u64,
    h: u8,
    count: u32,
) -> Rational {
    let range = nonces(ledger, ask(state, sequence, h, count)).await;
    match ledger.commit(payment(state, sequence, range)).await.unwrap() {
        Committed::Stored(balance) => balance,
        other => panic!("not stored: {other:?}"),
    }
}

async fn nonces_grow_per_hash_and_never_come_back(books: impl Books) {
    let ledger = books.open().await;
    let a = nonces(&ledger, ask(1, 0, 1, 3)).await;
    let b = nonces(&ledger, ask(2, 0, 1, 2)).await;
    let other = nonces(&ledger, ask(3, 0, 2, 1)).await;
    assert_eq!((a.nonces.first, a.nonces.last, b.nonces.first, b.nonces.last), (1, 3, 4, 5));
    assert_eq!((other.nonces.first, other.nonces.last), (1, 1), "each hash counts for itself");
    ledger.close().await;
    // Reserved and never stored: skipped after a restart, not handed out again.
    let ledger = books.open().await;
    let c = nonces(&ledger, ask(1, 0, 1, 1)).await;
    assert_eq!((c.nonces.first, c.nonces.last), (6, 6));
    ledger.close().await;
}

async fn a_hash_runs_out(books: impl Books) {
    let ledger = books.open().await;
    assert_eq!(nonces(&ledger, ask(1, 0, 1, 599)).await.nonces.last, 599);
    assert_eq!(ledger.reserve(ask(2, 0, 1, 2)).await.unwrap(), Reserved::Exhausted);
    assert_eq!(nonces(&ledger, ask(2, 0, 1, 1)).await.nonces.first, 600, "a refusal takes nothing");
    assert_eq!(ledger.reserve(ask(3, 0, 1, 1)).await.unwrap(), Reserved::Exhausted);
    assert!(matches!(
        ledger.reserve(ask(3, 0, 2, MAX_TICKETS + 1)).await,
        Err(LedgerError::Misuse(_))
    ));
    assert!(matches!(ledger.reserve(ask(4, 0, 3, 0)).await, Err(LedgerError::Misuse(_))));
    ledger.close().await;
}

async fn a_fence_uses_up_every_known_hash(books: impl Books) {
    let ledger = books.open().await;
    nonces(&ledger, ask(1, 0, 1, 1)).await;
    nonces(&ledger, ask(2, 0, 2, 1)).await;
    assert_eq!(ledger.fence().await.unwrap(), 2);
    for h in [1, 2] {
        let mut endless = ask(3, 0, h, 1);
        endless.max_nonce = u32::MAX;
        assert_eq!(ledger.reserve(endless).await.unwrap(), Reserved::Exhausted);
    }
    assert_eq!(nonces(&ledger, ask(3, 0, 3, 1)).await.nonces.first, 1, "a new hash is not fenced");
    ledger.close().await;
}

async fn concurrent_reservations_are_disjoint(books: impl Books) {
    let ledger = books.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move { nonces(&ledger, ask(n, 0, 1, 2)).await });
    }
    let mut seen = HashSet::new();
    while let Some(range) = tasks.join_next().await {
        let range = range.unwrap();
        assert_eq!(range.nonces.last, range.nonces.first + 1);
        for nonce in range.nonces.first..=range.nonces.last {
            assert!(seen.insert(nonce), "nonce {nonce} twice");
        }
    }
    assert_eq!(seen.len(), 200);
    ledger.close().await;
}

async fn a_payment_is_stored_once(books: impl Books) {
    let ledger = books.open().await;
    let balance = pay(&ledger, 1, 0, 1, 25).await;
    assert_eq!(balance, "125/7".parse().unwrap(), "25 × 35 − 6000/7");
    // Two signers hold nonces for the same place; the first commit wins, the second gets its answer.
    let first = nonces(&ledger, ask(1, 1, 1, 1)).await;
    let second = nonces(&ledger, ask(1, 1, 1, 1)).await;
    let stored = ledger.commit(payment(1, 1, first)).await.unwrap();
    assert!(matches!(stored, Committed::Stored(_)));
    let Committed::Superseded(winner) = ledger.commit(payment(1, 1, second)).await.unwrap() else {
        panic!("a place was given twice");
    };
    assert_eq!(winner.answer, payment(1, 1, first).answer);
    // Asking again does not even reserve.
    let before = nonces(&ledger, ask(9, 0, 1, 1)).await.nonces.last;
    let Reserved::Answered(again) = ledger.reserve(ask(1, 1, 1, 5)).await.unwrap() else {
        panic!("reserved for an answered request");
    };
    assert_eq!(again, winner);
    assert_eq!(nonces(&ledger, ask(9, 0, 1, 1)).await.nonces.first, before + 1);
    assert_eq!(ledger.payment(&id(1), 1).await.unwrap(), Some(winner));
    assert_eq!(ledger.payment(&id(1), 2).await.unwrap(), None);
    assert_eq!(ledger.summary().await.unwrap().payments, 2);
    ledger.close().await;
}

async fn states_that_do_not_fit_get_nothing(books: impl Books) {
    let ledger = books.open().await;
    pay(&ledger, 1, 0, 1, 1).await;
    assert_eq!(ledger.reserve(ask(1, 0, 1, 1)).await.unwrap(), Reserved::StateIdTaken);
    assert_eq!(ledger.reserve(ask(1, 2, 1, 1)).await.unwrap(), Reserved::UnknownState, "ahead");
    assert_eq!(
        ledger.reserve(ask(2, 1, 1, 1)).await.unwrap(),
        Reserved::UnknownState,
        "never seen"
    );
    assert!(matches!(
        ledger.reserve(ask(1, u64::MAX, 1, 1)).await.unwrap(),
        Reserved::UnknownState
    ));
    assert_eq!(nonces(&ledger, ask(1, 1, 1, 1)).await.nonces.first, 2, "refusals took no nonce");
    ledger.close().await;
}

fn with(reservation: Reservation, nonces: NonceRange) -> Reservation {
    Reservation { nonces, ..reservation }
}

async fn only_reserved_nonces_are_stored(books: impl Books) {
    let ledger = books.open().await;
    let range = nonces(&ledger, ask(1, 0, 1, 2)).await;
    for stolen in [
        payment(2, 0, range),
        payment(1, 0, with(range, NonceRange { last: range.nonces.last + 1, ..range.nonces })),
        payment(1, 0, with(range, NonceRange { recipient_rand_hash: hash(2), ..range.nonces })),
        payment(1, 0, with(range, NonceRange { first: 2, last: 1, ..range.nonces })),
        payment(1, 1, range),
    ] {
        assert!(matches!(ledger.commit(stolen).await, Err(LedgerError::Misuse(_))));
    }
    let mut no_session = payment(1, 0, range);
    no_session.new_session = None;
    assert!(matches!(ledger.commit(no_session).await, Err(LedgerError::Misuse(_))));
    assert_eq!(ledger.summary().await.unwrap(), Summary::default(), "refusals changed nothing");
    ledger.commit(payment(1, 0, range)).await.unwrap();
    // The same reservation cannot serve a second place.
    let mut twice = payment(1, 1, range);
    twice.answer = vec![1];
    assert_eq!(ledger.commit(twice).await.unwrap(), Committed::Expired);
    ledger.close().await;
}

async fn bindings_cannot_drift(books: impl Books) {
    let ledger = books.open().await;
    pay(&ledger, 1, 0, 1, 1).await;
    let range = nonces(&ledger, ask(1, 1, 1, 1)).await;
    let mut other = payment(1, 1, range);
    other.binding.account = "someone else".into();
    assert!(matches!(ledger.commit(other).await, Err(LedgerError::Misuse(_))));
    let mut other = payment(1, 1, range);
    other.binding.orchestrator = Address::ZERO;
    assert!(matches!(ledger.commit(other).await, Err(LedgerError::Misuse(_))));
    let mut renamed = payment(1, 1, range);
    renamed.binding.manifest.id = ManifestId::new("m2").unwrap();
    renamed.binding.auth_id = None;
    ledger.commit(renamed.clone()).await.unwrap();
    let session = ledger.session(&id(1)).await.unwrap().unwrap();
    assert_eq!(session.binding, renamed.binding);
    assert_eq!(ledger.payment(&id(1), 0).await.unwrap().unwrap().binding, binding());
    assert_eq!(ledger.session(&id(2)).await.unwrap(), None);
    ledger.close().await;
}

async fn an_idempotency_key_opens_one_session(books: impl Books) {
    let ledger = books.open().await;
    let keyed = |state: u32, range| {
        let mut p = payment(state, 0, range);
        p.new_session.as_mut().unwrap().idempotency_key = Some("key".into());
        p
    };
    assert_eq!(ledger.first_payment("gateway", "key").await.unwrap(), None);
    let a = nonces(&ledger, ask(1, 0, 1, 1)).await;
    let b = nonces(&ledger, ask(2, 0, 1, 1)).await;
    ledger.commit(keyed(1, a)).await.unwrap();
    let Committed::Superseded(first) = ledger.commit(keyed(2, b)).await.unwrap() else {
        panic!("one key opened two sessions");
    };
    assert_eq!(first.state_id, id(1));
    assert_eq!(ledger.first_payment("gateway", "key").await.unwrap(), Some(first));
    assert_eq!(ledger.first_payment("other", "key").await.unwrap(), None);
    assert_eq!(ledger.summary().await.unwrap().payments, 1);
    let mut ask_other = ask(3, 0, 1, 1);
    ask_other.account = "other".into();
    let c = nonces(&ledger, ask_other).await;
    let mut other = keyed(3, c);
    other.binding.account = "other".into();
    assert!(matches!(ledger.commit(other).await.unwrap(), Committed::Stored(_)));
    ledger.close().await;
}

async fn lists_and_totals_survive_a_restart(books: impl Books) {
    let ledger = books.open().await;
    pay(&ledger, 1, 0, 1, 25).await;
    pay(&ledger, 2, 0, 2, 1).await;
    pay(&ledger, 1, 1, 3, 24).await;
    let before = (
        ledger.payments(10).await.unwrap(),
        ledger.sessions(10).await.unwrap(),
        ledger.summary().await.unwrap(),
        ledger.payment(&id(1), 0).await.unwrap(),
    );
    ledger.close().await;
    assert!(matches!(ledger.reserve(ask(1, 2, 1, 1)).await, Err(LedgerError::Closed)));
    assert!(ledger.ping().await.is_err());
    let ledger = books.open().await;
    ledger.ping().await.unwrap();
    let after = (
        ledger.payments(10).await.unwrap(),
        ledger.sessions(10).await.unwrap(),
        ledger.summary().await.unwrap(),
        ledger.payment(&id(1), 0).await.unwrap(),
    );
    assert_eq!(before, after);
    let (payments, sessions, total, _) = after;
    let order: Vec<_> = payments.iter().map(|p| (p.state_id.clone(), p.sequence)).collect();
    assert_eq!(order, [(id(1), 1), (id(2), 0), (id(1), 0)], "newest first");
    assert_eq!(ledger.payments(1).await.unwrap().len(), 1);
    assert_eq!(payments[0].num_tickets, 24);
    assert_eq!(payments[0].win_prob, U256::MAX);
    assert_eq!(payments[0].recipient_rand_hash, hash(3));
    assert_eq!(sessions[0].state_id, id(2));
    assert_eq!(sessions[1].balance_wei, payments[0].balance_wei);
    assert_eq!(total.tickets, 50);
    assert_eq!(&total.ticket_ev_total_wei - &total.fee_total_wei, total.balance_total_wei);
    ledger.close().await;
}

/// One step of a random history: which session, which hash, how many tickets, whether to lose the
/// signed tickets (a crash between sign and commit), whether to restart.
type Step = (u32, u8, u32, bool, bool);

async fn random_histories_conserve(books: impl Books, steps: Vec<Step>) {
    let mut ledger = books.open().await;
    let mut seen = HashSet::new();
    for (session, h, count, lose, restart) in steps {
        let sequence = ledger.session(&id(session)).await.unwrap().map_or(0, |s| s.sequence + 1);
        if let Reserved::Nonces(range) =
            ledger.reserve(ask(session, sequence, h, count)).await.unwrap()
        {
            for nonce in range.nonces.first..=range.nonces.last {
                assert!(seen.insert((h, nonce)), "nonce {nonce} of hash {h} twice");
            }
            if !lose {
                ledger.commit(payment(session, sequence, range)).await.unwrap();
            }
        }
        if restart {
            ledger.close().await;
            ledger = books.open().await;
        }
        let total = ledger.summary().await.unwrap();
        assert_eq!(&total.ticket_ev_total_wei - &total.fee_total_wei, total.balance_total_wei);
    }
    // The sums over payments say the same as the totals kept in the sessions.
    let total = ledger.summary().await.unwrap();
    let mut credit = Rational::ZERO;
    let mut fees = Rational::ZERO;
    for p in ledger.payments(u32::MAX).await.unwrap() {
        credit += &(Rational::from_int(p.num_tickets.into()) * p.ticket_ev_wei);
        fees += &p.fee_wei;
    }
    assert_eq!(credit, total.ticket_ev_total_wei);
    assert_eq!(fees, total.fee_total_wei);
    ledger.close().await;
}

macro_rules! suite {
    ($books:expr => $($name:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            super::$name($books).await;
        })*
    };
}

mod sqlite {
    use super::*;

    suite!(SqliteBooks::new() =>
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
    );

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn random_histories_conserve(
            steps in prop::collection::vec((0u32..3, 0u8..2, 1u32..120, any::<bool>(), prop::bool::weighted(0.1)), 1..25)
        ) {
            tokio::runtime::Runtime::new().unwrap()
                .block_on(super::random_histories_conserve(SqliteBooks::new(), steps));
        }
    }

    #[tokio::test]
    async fn a_failed_write_is_said_and_changes_nothing() {
        let books = SqliteBooks::new();
        let ledger = books.open().await;
        pay(&ledger, 1, 0, 1, 1).await;
        let before = ledger.summary().await.unwrap();
        // The table is taken away under the running service: every later write must fail as
        // "not available", and nothing half-done may stay behind.
        let url = format!("sqlite://{}/signer.db", books.0.path().display());
        let other = crate::sqlite::Sqlite::open(&url, &MIGRATIONS).await.unwrap();
        sqlx::query("ALTER TABLE payments RENAME TO away").execute(other.writer()).await.unwrap();
        let range = nonces(&ledger, ask(2, 0, 1, 1)).await;
        assert!(matches!(
            ledger.commit(payment(2, 0, range)).await,
            Err(LedgerError::Unavailable(_))
        ));
        sqlx::query("ALTER TABLE away RENAME TO payments").execute(other.writer()).await.unwrap();
        other.close().await;
        assert_eq!(ledger.summary().await.unwrap(), before);
        assert_eq!(ledger.session(&id(2)).await.unwrap(), None, "the session was rolled back too");
        ledger.close().await;
    }
}

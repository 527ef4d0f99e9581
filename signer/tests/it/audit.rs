//! The audit agrees with what was signed, and `audit verify` sees when it no longer does.

use crate::{
    attack::on_both_books,
    world::{Books, World, request},
};
use penstock_domain::{B256, StateId, U256, Wei};
use penstock_ledger::signer::{
    AuditKind, Charge, CounterKey, Day, ReservationId, ReserveRequest, Reserved, SignerLedger,
    TicketTemplate,
};
use penstock_signer::audit_command::{Until, parse_heads, verify, verify_until};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};
use std::{path::Path, process::Command};

on_both_books!(
    every_signature_is_recorded_once,
    what_was_taken_out_of_the_books_is_missed,
    what_operators_change_is_recorded,
);

/// Two sessions of some payments, a job, and a payment that failed.
async fn busy(world: &World) {
    let offer = world.offer(1, 1, 10);
    for manifest in ["m1", "m2"] {
        let mut state = Value::Null;
        for _ in 0..3 {
            let ask = json!({"inPixels": 30, "ManifestID": manifest, "state": state});
            state = world.pay(&request(&offer, ask)).await.state();
        }
    }
    let refused = world.pay(&request(&offer, json!({"inPixels": 0}))).await;
    assert_eq!(refused.status, 400);
    let job = json!({"id": "1", "capability": "c", "request": "{}", "timeout_seconds": 1});
    assert_eq!(world.post("/sign-byoc-job", job.to_string(), &[]).await.status, 200);
}

async fn every_signature_is_recorded_once(books: Books) {
    let world = World::on(books, &[]).await;
    let twin = world.twin().await;
    busy(&world).await;
    let ask = request(&world.offer(1, 1, 10), json!({"inPixels": 30}));
    assert_eq!(crate::attack::pay_at(&world, &twin, &ask, &[]).await.status, 200);
    let ledger = world.signer().ledger.as_ref();
    let now_ms = world.now_s() * 1_000;
    let found = verify(ledger, &[], now_ms).await.unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!((found.handed_out, found.withheld), (6 * 3 + 3, 0));
    // The own address twice, a credential for each manifest id, the job.
    assert_eq!(found.audit.signatures, 21 + 2 + 3 + 1);
    assert_eq!(found.audit.chains, 2);
    // Heads that somebody kept hold later too, and show a chain that was rewritten.
    ledger.anchor(now_ms).await.unwrap();
    let chains = ledger.audit_chains().await.unwrap();
    let kept = |edit: fn(u64) -> u64| {
        let lines = chains.iter().map(|c| format!("{} {} {:#x}\n", c.name, edit(c.seq), c.hash));
        parse_heads(&lines.collect::<String>()).unwrap()
    };
    busy(&world).await;
    assert!(verify(ledger, &kept(|seq| seq), now_ms).await.unwrap().faults.is_empty());
    let faults = verify(ledger, &kept(|seq| seq - 1), now_ms).await.unwrap().faults;
    assert!(faults[0].contains("is not the one of the kept head"), "{faults:?}");
    let faults = verify(ledger, &kept(|seq| seq + 1_000), now_ms).await.unwrap().faults;
    assert!(faults[0].contains("of the kept head is missing"), "{faults:?}");
}

pub async fn change(books: Books, url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    let changed = match books {
        Books::Sqlite => {
            let mut db = sqlx::SqliteConnection::connect(url).await.unwrap();
            let done = db.execute(sql).await.unwrap().rows_affected();
            db.close().await.unwrap();
            done
        }
        Books::Postgres => {
            let mut db = sqlx::PgConnection::connect(url).await.unwrap();
            let done = db.execute(sql).await.unwrap().rows_affected();
            db.close().await.unwrap();
            done
        }
    };
    assert!(changed > 0, "nothing was changed");
}

fn run(folder: &Path, ledger: &str, words: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_penstock-signer"))
        .args(words)
        .args(["--ledger", ledger, "--data-dir", &folder.display().to_string()])
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn what_was_taken_out_of_the_books_is_missed(books: Books) {
    let folder = tempfile::tempdir().unwrap();
    for (sql, text) in [
        ("DELETE FROM audit WHERE seq = 5", "record 5 is missing"),
        ("UPDATE audit SET account = 'other' WHERE seq = 4", "record 4 was edited"),
        ("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)", "are missing, the head is"),
        ("DELETE FROM payments WHERE sequence = 2", "its payment is not in the books"),
        ("UPDATE counters SET charged = '150' WHERE key LIKE 'a/local/d/%'", "30 less than"),
        ("UPDATE counters SET charged = '181' WHERE key LIKE 'a/local/m/%'", "1 more than"),
        ("DELETE FROM counters", "is missing: 180 wei were charged"),
    ] {
        let world = World::on(books, &[]).await;
        busy(&world).await;
        let ledger = world.ledger_url().to_owned();
        let (code, said) = run(folder.path(), &ledger, &["audit", "verify"]);
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("18 tickets handed out, 0 withheld, 0 kept heads, 0 faults"),
            "{said}"
        );
        assert!(said.contains("2 counters of charges compared, 0 moved"), "{said}");
        change(books, &ledger, sql).await;
        // An open reservation explains a missing payment for some minutes.
        let now_ms = (world.now_s() + 3_600) * 1_000;
        let faults = verify(world.signer().ledger.as_ref(), &[], now_ms).await.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.contains(text)), "{sql}: {faults:?}");
        let (code, said) = run(folder.path(), &ledger, &["audit", "verify"]);
        assert_eq!(code, 1, "{sql}: {said}");
        assert!(said.contains("FAULT "), "{said}");
    }
}

#[tokio::test]
async fn the_program_fences_either_kind_of_books() {
    for books in [Books::Sqlite, Books::Postgres] {
        let world = World::on(books, &[]).await;
        let offer = world.offer(1, 1, 10);
        let ask = json!({"inPixels": 30, "ManifestID": "m"});
        let first = world.pay(&request(&offer, ask)).await;
        let (code, _) = run(world.folder.path(), world.ledger_url(), &["fence"]);
        assert_eq!(code, 0);
        let next = json!({"inPixels": 30, "ManifestID": "m", "state": first.state()});
        assert_eq!(world.pay(&request(&offer, next.clone())).await.status, 480);
        let fresh = world.offer(1, 1, 10);
        assert_eq!(world.pay(&request(&fresh, next)).await.status, 200);
    }
}

#[tokio::test]
async fn books_that_are_not_there_are_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("typo.db");
    let ledger = format!("sqlite://{}", file.display());
    for words in [&["audit", "verify"][..], &["fence"], &["fence", "--force"]] {
        assert_eq!(run(folder.path(), &ledger, words).0, 1, "{words:?}");
        assert!(!file.exists(), "{words:?} made books");
    }
    // A file without books, then books without a chain.
    std::fs::write(&file, "").unwrap();
    assert_eq!(run(folder.path(), &ledger, &["audit", "verify"]).0, 1);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
    assert_eq!(run(folder.path(), &ledger, &["migrate"]).0, 0);
    let (code, said) = run(folder.path(), &ledger, &["audit", "verify"]);
    assert_eq!(code, 1);
    assert!(said.contains("FAULT there is no chain"), "{said}");
    assert_eq!(run(folder.path(), &ledger, &["fence"]).0, 1);
    assert_eq!(run(folder.path(), &ledger, &["fence", "--force"]).0, 0);
}

#[tokio::test]
async fn a_reading_ends_where_the_books_ended_when_it_began() {
    let world = World::new().await;
    busy(&world).await;
    let ledger = world.signer().ledger.as_ref();
    let until = Until::now(ledger).await.unwrap();
    busy(&world).await;
    let now_ms = world.now_s() * 1_000;
    let found = verify_until(ledger, &until, &[], now_ms).await.unwrap();
    assert_eq!((found.handed_out, found.faults), (18, vec![]));
    assert_eq!(verify(ledger, &[], now_ms).await.unwrap().handed_out, 36);
}

#[tokio::test]
async fn a_job_that_the_key_did_not_sign_is_void() {
    let world = World::new().await;
    let job = json!({"id": "1", "capability": "c", "request": "{}", "timeout_seconds": 1});
    world.key_is_away.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.post("/sign-byoc-job", job.to_string(), &[]).await.status, 500);
    let ledger = world.signer().ledger.as_ref();
    let found = verify(ledger, &[], world.now_s() * 1_000).await.unwrap();
    assert_eq!((found.audit.voids, found.faults), (1, vec![]));
    let chain = ledger.audit_chains().await.unwrap().remove(0);
    let mut records = ledger.audit_records(&chain.name, chain.seq - 1, 2).await.unwrap();
    let (void, signed) = (records.remove(1).entry, records.remove(0).entry);
    assert_eq!((void.digest, &void.reference), (signed.digest, &signed.reference));
}

/// The client is gone before the key says that it cannot: the record gets its `void` all the same.
#[tokio::test]
async fn a_client_that_hangs_up_leaves_no_record_without_its_end() {
    let world = World::new().await;
    let ledger = world.signer().ledger.as_ref();
    let paid = world.pay(&request(&world.offer(1, 1, 10), json!({"inPixels": 30}))).await;
    let seg_data = penstock_wire::net::SegData {
        manifest_id: paid.seg_data().manifest_id,
        seq: 7,
        hash: vec![1; 32],
        ..Default::default()
    };
    let segment = crate::world::b64(prost::Message::encode_to_vec(&seg_data));
    let job = json!({"id": "1", "capability": "c", "request": "{}", "timeout_seconds": 1});
    let credential = json!({"state": paid.state(), "segment": segment});
    for (path, body) in [("/sign-byoc-job", job), ("/sign-segment-credentials", credential)] {
        let (records, voids) = (counted(ledger, None).await, counted(ledger, VOID).await);
        let slow = world.key_waits.write().await;
        let url = format!("{}{path}", world.http);
        let asked = tokio::spawn(world.client.post(url).body(body.to_string()).send());
        penstock_testkit::until("the signature is on record", || async {
            counted(ledger, None).await > records
        })
        .await;
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        world.key_is_away.store(true, std::sync::atomic::Ordering::SeqCst);
        drop(slow);
        penstock_testkit::until("the record has its void", || async {
            counted(ledger, VOID).await > voids
        })
        .await;
        world.key_is_away.store(false, std::sync::atomic::Ordering::SeqCst);
    }
}

const VOID: Option<AuditKind> = Some(AuditKind::Void);

/// Records of a kind, or all.
async fn counted(ledger: &dyn SignerLedger, kind: Option<AuditKind>) -> usize {
    let mut count = 0;
    for chain in ledger.audit_chains().await.unwrap() {
        let records = ledger.audit_records(&chain.name, 1, 1_000).await.unwrap();
        count += records.iter().filter(|r| kind.is_none_or(|kind| r.entry.kind == kind)).count();
    }
    count
}

/// Every signer died with a reservation open, and none has started since.
#[tokio::test]
async fn an_open_reservation_of_long_ago_is_no_lost_ticket() {
    let world = World::new().await;
    busy(&world).await;
    let ledger = world.signer().ledger.as_ref();
    let now_ms = world.now_s() * 1_000;
    let request = ReserveRequest {
        id: ReservationId([7; 16]),
        state_id: StateId::new("0badcafe").unwrap(),
        sequence: 0,
        account: "local".into(),
        auth_id: None,
        tickets: TicketTemplate {
            recipient: world.recipient,
            sender: world.account,
            face_value: Wei::from_u64(10),
            win_prob: U256::MAX,
            recipient_rand_hash: B256::repeat_byte(0x77),
            expiration_params: Default::default(),
        },
        count: 3,
        max_nonce: 600,
        also_signs: Vec::new(),
        amount_wei: Wei::from_u64(30),
        charges: vec![Charge {
            counter: CounterKey::account_day("local", Day::of_ms(now_ms)),
            cap_wei: None,
        }],
        now_ms,
        expires_at_ms: now_ms + 120_000,
    };
    assert!(matches!(ledger.reserve(request).await.unwrap(), Reserved::Nonces(_)));
    let later_ms = now_ms + 3_600_000;
    let found = verify(ledger, &[], later_ms).await.unwrap();
    assert_eq!((found.waiting, found.withheld, found.faults), (3, 0, vec![]));
    assert!(found.counters >= 2, "day and month of `local`");
    // The next signer ends it: its charge is given back, its tickets are void.
    assert_eq!(ledger.expire_reservations(later_ms, 10).await.unwrap(), 1);
    let found = verify(ledger, &[], later_ms).await.unwrap();
    assert_eq!((found.waiting, found.withheld, found.faults), (0, 3, vec![]));
}

async fn what_operators_change_is_recorded(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let change = async |method: http::Method, path: &str, body: Value| {
        let asked = world.client.request(method, format!("{}{path}", world.admin));
        crate::world::reply(asked.body(body.to_string())).await
    };
    let made = json!({"name": "acme", "policy": {"budget_day": "7 wei"}});
    assert_eq!(change(http::Method::POST, "/v1/accounts", made.clone()).await.status, 201);
    let key = change(http::Method::POST, "/v1/accounts/acme/keys", json!({})).await.json();
    let blocked = json!({"state": "blocked"});
    assert_eq!(change(http::Method::PATCH, "/v1/accounts/acme", blocked).await.status, 200);
    assert_eq!(change(http::Method::POST, "/v1/accounts", made).await.status, 409);
    let (code, _) = run(world.folder.path(), world.ledger_url(), &["fence", "--force"]);
    assert_eq!(code, 0);

    let ledger = world.signer().ledger.as_ref();
    let mut said = Vec::new();
    for chain in ledger.audit_chains().await.unwrap() {
        for record in ledger.audit_records(&chain.name, 1, 1_000).await.unwrap() {
            if record.entry.kind == AuditKind::Operator {
                said.push((record.entry.account, record.entry.reference));
            }
        }
    }
    let acme = |what: &str| ("acme".to_owned(), format!("admin: {what}"));
    let created =
        "account acme created: blocked false, tier none, policy {\"budget_day\":\"7 wei\"}";
    let secret = key["key"].as_str().unwrap();
    let id = &secret[..12];
    let expected = [
        acme(created),
        acme(&format!("key {id} created: expires never")),
        acme(&created.replace("created: blocked false", "changed from version 1: blocked true")),
        acme(created),
        acme(&format!("not done: {created}")),
        (String::new(), "command line: fence".to_owned()),
    ];
    assert_eq!(said, expected);
    assert!(said.iter().all(|(_, reference)| !reference.contains(&secret[13..])));
    let found = verify(ledger, &[], world.now_s() * 1_000).await.unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
}

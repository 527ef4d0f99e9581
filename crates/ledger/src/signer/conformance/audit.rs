//! The audit: whatever is signed is on record first, and meddling shows.

use super::*;

fn segment(n: u8) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::Segment,
        digest: hash(n),
        account: "gateway".into(),
        auth_id: None,
        reference: format!("m1/{n}"),
    }
}

pub async fn every_signature_is_on_record_before_it_is_made(books: &impl Books) {
    let ledger = books.open("one").await;
    let mut request = ask(1, 0, 1, 3);
    request.also_signs = vec![segment(9)];
    request.now_ms = 77;
    let template = request.tickets.clone();
    let held = hold(&ledger, request).await;
    let all = records(&ledger).await;
    let signed: Vec<_> = all.iter().filter(|r| r.entry.kind.is_signature()).collect();
    let mut expected: Vec<_> =
        (held.nonces.first..=held.nonces.last).map(|n| template.ticket(n).digest()).collect();
    expected.push(hash(9));
    assert_eq!(signed.iter().map(|r| r.entry.digest).collect::<Vec<_>>(), expected);
    assert_eq!(signed[1].entry.reference, format!("{}/0/2", id(1)));
    assert_eq!(signed[1].entry.auth_id, Some(AuthId::new("client:subject").unwrap()));
    assert!(signed.iter().all(|r| r.at_ms == 77 && r.entry.account == "gateway"));
    assert_eq!(all[0].entry.kind, AuditKind::Open);
    assert!(all[0].chain.starts_with("one-"));
    let report = verified(&ledger).await;
    assert_eq!((report.faults, report.signatures, report.chains), (vec![], 4, 1));
    ledger.close().await;
}

pub async fn other_signatures_are_recorded_in_order(books: &impl Books) {
    let ledger = books.open("one").await;
    assert_eq!(ledger.audit_chains().await.unwrap(), [], "opening alone writes nothing");
    for n in 1..=5 {
        ledger.record_signatures(vec![segment(n), segment(n + 100)], n.into()).await.unwrap();
    }
    let mut not_signed = segment(9);
    not_signed.kind = AuditKind::Anchor;
    let refused = ledger.record_signatures(vec![not_signed], 9).await;
    assert!(matches!(refused, Err(LedgerError::Misuse(_))), "anchors are the ledger's own");
    let all = records(&ledger).await;
    let signed: Vec<_> =
        all.iter().filter(|r| r.entry.kind.is_signature()).map(|r| r.entry.digest).collect();
    let expected: Vec<_> = (1..=5).flat_map(|n| [hash(n), hash(n + 100)]).collect();
    assert_eq!(signed, expected);
    let chain = ledger.audit_chains().await.unwrap().remove(0);
    assert_eq!(super::super::audit::verify_chain(&chain, &all), Ok(vec![]));
    let page = ledger.audit_records(&chain.name, 3, 2).await.unwrap();
    assert_eq!(page.iter().map(|r| r.seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(ledger.audit_records("no such chain", 1, 9).await.unwrap(), []);
    ledger.close().await;
}

pub async fn chains_see_each_other(books: &impl Books) {
    let one = books.open("one").await;
    one.record_signatures(vec![segment(1)], 1).await.unwrap();
    let two = books.open("two").await;
    two.record_signatures(vec![segment(2)], 2).await.unwrap();
    one.record_signatures(vec![segment(3)], 3).await.unwrap();
    one.anchor(4).await.unwrap();
    two.anchor(5).await.unwrap();
    two.anchor(6).await.unwrap();
    let all = records(&one).await;
    let anchors: Vec<_> = all
        .iter()
        .filter(|r| r.entry.kind == AuditKind::Anchor)
        .map(|r| {
            let seen_in = r.chain.split('-').next().unwrap();
            let seen = r.entry.reference.split('-').next().unwrap();
            let (_, seq) = r.entry.reference.rsplit_once('/').unwrap();
            (seen_in, seen, seq.parse::<u64>().unwrap(), r.at_ms)
        })
        .collect();
    // The first record of two, then each when it was told to; heads that stood still are not
    // written again.
    assert_eq!(anchors, [("one", "two", 3, 4), ("two", "one", 2, 2), ("two", "one", 4, 5)]);
    one.close().await;
    two.close().await;
    let three = books.open("three").await;
    three.anchor(7).await.unwrap();
    let report = verified(&three).await;
    assert_eq!((report.chains, report.signatures, report.faults), (3, 3, vec![]));
    let closed = records(&three).await;
    let closed = closed.iter().filter(|r| r.entry.kind == AuditKind::Close).count();
    assert_eq!(closed, 2);
    three.close().await;
}

pub async fn meddling_shows(books: &impl Books) {
    let one = books.open("one").await;
    for n in 1..=9 {
        one.record_signatures(vec![segment(n)], n.into()).await.unwrap();
    }
    one.close().await;
    let two = books.open("two").await;
    two.record_signatures(vec![segment(20)], 20).await.unwrap();
    assert_eq!(verified(&two).await.faults, []);
    let first = "chain_id = (SELECT min(id) FROM audit_chains)";
    let faults = async |sql: &str, undo: &str| {
        books.meddle(sql).await;
        let faults = verified(&two).await.faults;
        books.meddle(undo).await;
        assert_eq!(verified(&two).await.faults, [], "undone: {undo}");
        faults
    };
    // An edit.
    let edit = |text| format!("UPDATE audit SET account = '{text}' WHERE seq = 4 AND {first}");
    let found = faults(&edit("other"), &edit("gateway")).await;
    assert!(matches!(&found[..], [AuditFault::Edited { seq: 4, .. }]), "{found:?}");
    // A gap.
    let gap = |from, to| format!("UPDATE audit SET seq = {to} WHERE seq = {from} AND {first}");
    let found = faults(&gap(5, 500), &gap(500, 5)).await;
    assert!(matches!(&found[..], [AuditFault::Gap { expected: 5, found: 6, .. }]), "{found:?}");
    // The tail is cut off; then the head is set back as well, and the other chain knows better.
    let found = faults(&gap(11, 1_100), &gap(1_100, 11)).await;
    assert!(
        matches!(&found[..], [AuditFault::Truncated { last: 10, head: 11, .. }, ..]),
        "{found:?}"
    );
    books.meddle(&format!("DELETE FROM audit WHERE seq = 11 AND {first}")).await;
    books
        .meddle(
            "UPDATE audit_chains SET seq = 10, hash = (SELECT hash FROM audit WHERE seq = 10 AND \
             chain_id = audit_chains.id) WHERE id = (SELECT min(id) FROM audit_chains)",
        )
        .await;
    let found = verified(&two).await.faults;
    assert!(matches!(&found[..], [AuditFault::AnchorMismatch { seq: 11, .. }]), "{found:?}");
    // The chain is gone.
    books.meddle(&format!("DELETE FROM audit WHERE {first}")).await;
    books.meddle(&format!("DELETE FROM audit_anchored WHERE {first}")).await;
    books.meddle("DELETE FROM audit_chains WHERE id = (SELECT min(id) FROM audit_chains)").await;
    let found = verified(&two).await.faults;
    assert!(matches!(&found[..], [AuditFault::MissingChain { seq: 11, .. }]), "{found:?}");
    two.close().await;
}

pub async fn without_audit_nothing_is_signed(books: &impl Books) {
    let ledger = books.open("one").await;
    hold(&ledger, charged(ask(1, 0, 1, 1), &[charge("a", None)])).await;
    books.meddle("ALTER TABLE audit RENAME TO away").await;
    let refused = ledger.reserve(charged(ask(2, 0, 1, 1), &[charge("a", None)])).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    let refused = ledger.record_signatures(vec![segment(1)], 1).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    books.meddle("ALTER TABLE away RENAME TO audit").await;
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(35), "the refused took nothing");
    assert_eq!(hold(&ledger, ask(3, 0, 1, 1)).await.nonces.first, 2);
    let report = verified(&ledger).await;
    assert_eq!((report.signatures, report.faults), (2, vec![]));
    ledger.close().await;
}

//! Whatever is done to a chain shows.

use super::*;
use crate::signer::plan::Head;
use proptest::prelude::*;

fn chain_of(references: &[String]) -> (AuditChain, Vec<AuditRecord>) {
    let name = "one-1-ab".to_owned();
    let mut head = Head { chain_id: 1, name: name.clone(), seq: 0, hash: GENESIS };
    let records = references.iter().enumerate().map(|(n, reference)| {
        let entry = AuditEntry {
            kind: if n == 0 { AuditKind::Open } else { AuditKind::Ticket },
            digest: B256::repeat_byte(n as u8),
            account: "a".into(),
            auth_id: None,
            reference: reference.clone(),
        };
        let row = head.append(n as i64, entry);
        AuditRecord {
            chain: name.clone(),
            seq: row.seq,
            at_ms: row.at_ms,
            entry: row.entry,
            hash: row.hash,
        }
    });
    let records = records.collect();
    (AuditChain { name, started_at_ms: 0, seq: head.seq, hash: head.hash }, records)
}

/// What somebody does to the records; each changes something.
fn meddle(records: &mut Vec<AuditRecord>, how: u8, at: usize) {
    let last = records.len() - 1;
    let record = &mut records[at];
    match how {
        0 => record.entry.account.push('b'),
        1 => record.entry.reference.push('1'),
        2 => record.at_ms += 1,
        3 => record.entry.digest = B256::repeat_byte(0xfe),
        4 => record.entry.kind = AuditKind::Byoc,
        5 => record.entry.auth_id = AuthId::new("x").ok(),
        6 => record.hash = B256::repeat_byte(0xfd),
        7 => record.seq += 1,
        8 => drop(records.remove(at)),
        9 => records.truncate(at),
        10 => record.chain.push('x'),
        // Text moved from one field into the next.
        11 => (record.entry.account, record.entry.reference) = ("a1".into(), String::new()),
        _ if at == last => drop(records.pop()),
        _ => records.swap(at, last),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn a_chain_verifies_until_somebody_meddles(
        references in prop::collection::vec("[0-9a-f/]{1,12}", 1..12),
        how in 0_u8..13,
        at in any::<prop::sample::Index>(),
    ) {
        let (chain, mut records) = chain_of(&references);
        prop_assert_eq!(verify_chain(&chain, &records), Ok(vec![]));
        let at = at.index(records.len());
        meddle(&mut records, how, at);
        prop_assert!(verify_chain(&chain, &records).is_err(), "{} at {}", how, at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]
    #[test]
    fn anchors_read_back(name in any::<u64>(), seq in any::<u64>(), junk in any::<[u8; 7]>()) {
        let chain = format!("one.{name:x}");
        let reference = verify::AnchorReference { chain: &chain, seq }.to_string();
        prop_assert_eq!(verify::read_anchor(&reference), Some((chain.as_str(), seq)));
        // Anything else is read without a panic, and only behind a bar.
        let junk = junk.map(|b| char::from(b % 16 + b'+')).iter().collect::<String>();
        if let Some((chain, _)) = verify::read_anchor(&junk) {
            prop_assert!(junk[chain.len()..].starts_with('/'));
        }
    }
}

#[test]
fn kinds_read_back() {
    for (kind, text) in AuditKind::ALL {
        assert_eq!((kind.as_str(), text.parse()), (text, Ok(kind)));
    }
    assert_eq!("tickets".parse::<AuditKind>(), Err(()));
}

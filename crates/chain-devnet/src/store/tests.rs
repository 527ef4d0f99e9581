//! The store gives back what it was given, to one process at a time.

use super::*;
use crate::state::{Funder, Mining, fund, mine, register};
use penstock_domain::{Address, Wei};

fn genesis() -> Genesis {
    Genesis { chain_id: random_chain_id(), round_length: 5 }
}

async fn step(store: &Store, state: &mut State, changes: Vec<Change>) {
    store.commit(&changes).await.unwrap();
    state.apply_all(&changes);
}

#[tokio::test]
async fn a_state_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut state) = Store::open(dir.path(), genesis()).await.unwrap();
    let who = Address::repeat_byte(3);
    let max = Wei(penstock_domain::U256::MAX);
    let changes = fund(&state, who, max, Wei::ZERO, Funder::Owner).unwrap();
    step(&store, &mut state, changes).await;
    let changes = register(&state, who, "https://é:1").unwrap();
    step(&store, &mut state, changes).await;
    let changes = mine(&state, Mining::Blocks(17), true).unwrap();
    step(&store, &mut state, changes).await;
    let redemption = Redemption {
        ticket_hash: B256::repeat_byte(1),
        tx_hash: B256::repeat_byte(2),
        l1_block: 3,
        round: 4,
        block: None,
        sender: who,
        recipient: Address::repeat_byte(5),
        face_value: max,
        paid_from_deposit: Wei::from_u64(6),
        paid_from_reserve: Wei::from_u64(7),
    };
    step(&store, &mut state, vec![Change::Redemption(redemption)]).await;
    store.close().await;

    let new = Genesis { chain_id: random_chain_id(), ..state.genesis };
    let (store, again) = Store::open(dir.path(), new).await.unwrap();
    assert_eq!(again, state);
    assert_eq!(store.redemptions(10).await.unwrap(), [redemption]);
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = Store::open(dir.path(), genesis()).await.unwrap();
    let mut changes =
        fund(&state, Address::repeat_byte(3), Wei::from_u64(1), Wei::ZERO, Funder::Owner).unwrap();
    // Round 1 has a hash already; the table refuses another.
    changes.push(Change::Round(1, B256::ZERO));
    store.commit(&changes).await.unwrap_err();
    assert_eq!(store.load().await.unwrap().unwrap(), state);
}

#[tokio::test]
async fn other_rounds_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), genesis()).await.unwrap();
    store.close().await;
    let other = Genesis { round_length: 6, ..genesis() };
    let error = Store::open(dir.path(), other).await.unwrap_err();
    assert!(error.to_string().starts_with("--round-length"), "{error}");
}

#[tokio::test]
async fn damage_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), genesis()).await.unwrap();
    store.execute("UPDATE chain SET funded_wei = 'x'").await;
    let error = store.load().await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { what: "funded_wei" }), "{error}");
}

#[tokio::test]
async fn commits_are_durable_and_the_file_is_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = Store::open(dir.path(), genesis()).await.unwrap();
    let (mode, synchronous): (String, i64) = (
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap(),
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.pool).await.unwrap(),
    );
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    let error = Store::open(dir.path(), state.genesis).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    store.close().await;
    Store::open(dir.path(), state.genesis).await.unwrap();
}

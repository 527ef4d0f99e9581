//! A store that fails, a queue that is full, an asker that goes away.

use super::*;
use penstock_domain::Address;
use std::{
    pin::pin,
    task::{Context, Waker},
};

const WHO: Address = Address::repeat_byte(1);

fn fund(wei: u64) -> Request {
    Request::Fund { account: WHO, deposit: Wei::from_u64(wei), reserve: Wei::ZERO }
}

async fn node(folder: &tempfile::TempDir) -> Node {
    Node::open(folder.path(), 10, Wei::ZERO).await.unwrap()
}

#[tokio::test]
async fn a_failed_commit_changes_nothing_and_the_next_one_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.submit(fund(1)).await.unwrap();
    node.store.execute("ALTER TABLE senders RENAME TO away").await;
    let error = node.submit(fund(2)).await.unwrap_err();
    assert!(matches!(error, NodeError::Store(_)), "{error}");
    assert!(!node.is_healthy());
    assert_eq!(node.read(|state| state.sender(WHO).deposit), Wei::from_u64(1));
    // Still away: the state cannot be read back either.
    node.submit(fund(2)).await.unwrap_err();
    node.store.execute("ALTER TABLE away RENAME TO senders").await;
    node.submit(fund(4)).await.unwrap();
    assert!(node.is_healthy());
    assert_eq!(node.read(|state| state.sender(WHO).deposit), Wei::from_u64(5));
}

#[tokio::test]
async fn what_the_disk_has_after_a_doubtful_commit_is_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    // As if a commit had reached the disk and its answer had not: memory is behind.
    node.store.execute("UPDATE chain SET l1_block = 15").await;
    node.shared.healthy.store(false, Ordering::Relaxed);
    node.submit(fund(1)).await.unwrap();
    assert_eq!(node.status().l1_block, 15);
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    // On this one thread the writer does not run while the requests are sent.
    let mut waiting = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..QUEUE {
        let node = node.clone();
        let mut asked = Box::pin(async move { node.submit(fund(1)).await });
        assert!(asked.as_mut().poll(&mut context).is_pending());
        waiting.push(asked);
    }
    let error = node.submit(fund(1)).await.unwrap_err();
    assert!(matches!(error, NodeError::Busy), "{error}");
    for asked in waiting {
        asked.await.unwrap();
    }
    let all = u64::try_from(QUEUE).unwrap();
    assert_eq!(node.read(|state| state.sender(WHO).deposit), Wei::from_u64(all));
}

#[tokio::test]
async fn what_was_sent_is_done_though_the_asker_left() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    {
        let mut asked = pin!(node.submit(fund(7)));
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    // The queue is in order: when this one is answered, that one was performed.
    node.submit(fund(0)).await.unwrap();
    assert_eq!(node.read(|state| state.sender(WHO).deposit), Wei::from_u64(7));
}

//! The ring against trickle.md's tables, and against a model under any sequence of requests.

use super::*;
use crate::{group::Requests, leftovers::Leftovers, settings::Settings};
use bytes::Bytes;
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::atomic::AtomicUsize};

fn channel_with(change: impl FnOnce(&mut Settings)) -> Arc<Channel> {
    let mut settings = Settings::default();
    change(&mut settings);
    let shared = Shared {
        budget: Arc::new(Budget::new(settings.limits.total_bytes)),
        leftovers: Leftovers::default(),
        stalls: crate::stalls::Stalls::default(),
        requests: Requests::new(&settings.limits),
        waiting: AtomicUsize::new(0),
        settings,
    };
    let group = shared.requests.group(&shared.settings.limits);
    Channel::new(1, None, false, Arc::new(shared), group, Instant::now())
}

fn channel() -> Arc<Channel> {
    channel_with(|_| {})
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn claim(channel: &Arc<Channel>, at: Position) -> Claim {
    channel.write(at, false, Instant::now()).unwrap().unwrap()
}

fn publish(channel: &Arc<Channel>, at: Position) -> Seq {
    let mut claim = claim(channel, at);
    claim.append(Bytes::from_static(b"x"), Instant::now()).unwrap();
    let seq = claim.seq();
    claim.finish();
    seq
}

/// The number of the segment found, or what `Latest` is when there is none.
fn find(channel: &Channel, at: Position) -> Result<u64, u64> {
    match channel.read(at, Instant::now()).unwrap() {
        Found::Segment { reader, .. } => Ok(reader.seq().get()),
        Found::Missing { latest, .. } => Err(latest),
    }
}

#[test]
fn a_segment_begins_with_its_first_byte_and_not_with_its_request() {
    let channel = channel();
    let mut claim = claim(&channel, Position::Next);
    assert_eq!(channel.standing().next_write, 0);
    claim.append(Bytes::new(), Instant::now()).unwrap();
    assert_eq!(channel.standing().next_write, 0);
    claim.append(Bytes::from_static(b"x"), Instant::now()).unwrap();
    assert_eq!(channel.standing().next_write, 1);
}

#[test]
fn positions_of_readers() {
    let channel = channel();
    // Before anything was written: 0 is next and current, 1 may be waited for, 2 may not.
    assert_eq!(find(&channel, Position::Next), Ok(0));
    assert_eq!(find(&channel, Position::Current), Ok(0));
    assert_eq!(find(&channel, seq(1).into()), Ok(1));
    assert_eq!(find(&channel, seq(2).into()), Err(0));
    for _ in 0..6 {
        publish(&channel, Position::Next);
    }
    assert_eq!(find(&channel, Position::Current), Ok(5));
    assert_eq!(find(&channel, seq(0).into()), Err(6), "overwritten");
    assert_eq!(find(&channel, seq(2).into()), Ok(2));
    assert_eq!(find(&channel, seq(7).into()), Err(6), "too far ahead");
    assert_eq!(find(&channel, Position::Next), Ok(6));
    assert_eq!(find(&channel, seq(1).into()), Err(6), "its slot is 6's now");
}

#[test]
fn numbers_may_jump_and_go_back() {
    let channel = channel();
    assert_eq!(publish(&channel, seq(1000).into()).get(), 1000);
    assert_eq!(channel.standing().next_write, 1001);
    publish(&channel, seq(3).into());
    assert_eq!(channel.standing().next_write, 4);
    publish(&channel, Seq::MAX.into());
    assert_eq!(channel.standing().next_write, i64::MAX as u64);
    let past = channel.write(Position::Next, false, Instant::now());
    assert_eq!(past.unwrap_err(), Refusal::InvalidIndex);
    assert_eq!(channel.read(Position::Next, Instant::now()).unwrap_err(), Refusal::InvalidIndex);
    assert_eq!(find(&channel, Position::Current), Ok(Seq::MAX.get()));
    let current = channel.write(Position::Current, false, Instant::now());
    assert_eq!(current.unwrap_err(), Refusal::InvalidIndex);
}

#[test]
fn a_write_evicts_and_closes_and_a_read_only_displaces() {
    let channel = channel();
    let first = claim(&channel, seq(0).into());
    publish(&channel, seq(5).into());
    assert!(first.segment.is_closed(), "evicted by a write");

    let mut sixth = claim(&channel, seq(6).into());
    sixth.append(Bytes::from_static(b"x"), Instant::now()).unwrap();
    publish(&channel, seq(10).into());
    assert_eq!(find(&channel, seq(11).into()), Ok(11));
    assert_eq!(find(&channel, seq(6).into()), Err(11), "displaced by a reader");
    let displaced = Arc::clone(&sixth.segment);
    assert!(!displaced.is_closed());
    drop(sixth);
    assert!(displaced.is_closed(), "nobody can write it any more");
}

#[test]
fn reset_closes_what_is_before_it_and_nothing_else() {
    let channel = channel();
    let claims: Vec<_> = (0..5).map(|n| claim(&channel, seq(n).into())).collect();
    let reset = channel.write(seq(2).into(), true, Instant::now()).unwrap().unwrap();
    let closed: Vec<_> = claims.iter().map(|c| c.segment.is_closed()).collect();
    assert_eq!(closed, [true, true, false, false, false]);
    assert!(!reset.segment.is_closed());
}

#[test]
fn a_closed_channel_takes_nobody_and_ends_everybody() {
    let channel = channel();
    let mut displaced = claim(&channel, seq(0).into());
    displaced.append(Bytes::from_static(b"x"), Instant::now()).unwrap();
    let mut four = claim(&channel, seq(4).into());
    four.append(Bytes::from_static(b"x"), Instant::now()).unwrap();
    assert_eq!(find(&channel, Position::Next), Ok(5));
    assert!(!displaced.segment.is_closed());
    channel.close(Instant::now());
    assert!(displaced.segment.is_closed() && four.segment.is_closed());
    assert!(channel.write(Position::Next, false, Instant::now()).unwrap().is_none());
    let found = channel.read(Position::Next, Instant::now()).unwrap();
    assert!(matches!(found, Found::Missing { latest: 5, closed: true }), "{found:?}");
    let held = channel.budget.held();
    four.append(Bytes::from(vec![0; 9000]), Instant::now()).unwrap();
    assert_eq!(channel.budget.held(), held, "nobody could read it");
    assert!(four.finish_empty(Instant::now()));
}

#[test]
fn places_are_bounded_and_come_back() {
    let channel = channel_with(|s| {
        s.limits.publishers_per_channel = 1;
        s.limits.subscribers_per_channel = 1;
    });
    let (writer, reader) = (claim(&channel, Position::Next), channel.subscribe().unwrap());
    let refused = channel.write(Position::Next, false, Instant::now()).unwrap_err();
    assert_eq!(refused, Refusal::TooManyPublishers);
    assert_eq!(channel.subscribe().unwrap_err(), Refusal::TooManySubscribers);
    drop((writer, reader));
    drop((claim(&channel, Position::Next), channel.subscribe().unwrap()));
}

#[test]
fn readers_that_lag_pay_for_memory_and_not_the_writer() {
    let channel = channel_with(|s| {
        s.limits.segment_bytes = 128 << 10;
        s.limits.channel_bytes = 512 << 10;
    });
    let mut laggards = Vec::new();
    for n in 0..60 {
        let mut claim = claim(&channel, seq(n).into());
        claim.append(Bytes::from(vec![0; 60 << 10]), Instant::now()).unwrap();
        claim.finish();
        let Found::Segment { reader, .. } = channel.read(seq(n).into(), Instant::now()).unwrap()
        else {
            panic!("just written")
        };
        laggards.push(reader);
        assert!(channel.budget.held() <= 512 << 10);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u64, bool),
    Empty(u64),
    Read(i64),
    Delete(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..14, any::<bool>()).prop_map(|(n, reset)| Step::Publish(n, reset)),
        (0u64..14).prop_map(Step::Empty),
        (-2i64..14).prop_map(Step::Read),
        (0u64..14).prop_map(Step::Delete),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// The model is trickle.md's: a map from slot to number, and `nextWrite`.
    #[test]
    fn any_sequence_of_requests_finds_what_the_document_says(steps in steps()) {
        let channel = channel();
        let (mut ring, mut next) = (BTreeMap::<u64, u64>::new(), 0u64);
        for step in steps {
            match step {
                Step::Publish(n, reset) => {
                    let mut claim =
                        channel.write(seq(n).into(), reset, Instant::now()).unwrap().unwrap();
                    claim.append(Bytes::from_static(b"x"), Instant::now()).unwrap();
                    claim.finish();
                    ring.insert(n % 5, n);
                    next = n + 1;
                }
                Step::Empty(n) => {
                    let closed = claim(&channel, seq(n).into()).finish_empty(Instant::now());
                    prop_assert!(!closed);
                    ring.insert(n % 5, n);
                    next = n + 1;
                }
                Step::Read(at) => {
                    let position: Position = at.to_string().parse().unwrap();
                    let wanted = match at {
                        -1 => next,
                        -2 => next.saturating_sub(1),
                        n => u64::try_from(n).unwrap(),
                    };
                    let there = ring.get(&(wanted % 5)) == Some(&wanted);
                    let made = wanted == next || (next == 0 && wanted == 1);
                    let expected = if there || made { Ok(wanted) } else { Err(next) };
                    prop_assert_eq!(find(&channel, position), expected);
                    if !there && made {
                        ring.insert(wanted % 5, wanted);
                    }
                }
                Step::Delete(n) => {
                    let there = ring.get(&(n % 5)) == Some(&n);
                    prop_assert_eq!(channel.close_segment(seq(n)).is_ok(), there);
                }
            }
            prop_assert_eq!(channel.standing().next_write, next);
        }
    }
}

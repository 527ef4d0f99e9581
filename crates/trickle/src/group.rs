//! Channels that belong together share what they may have of readers and writers, so that nobody takes more
//! than his part of the server by having many channels, or many readers of one.

use crate::{
    budget::{Bound, Budget},
    error::Refusal,
    settings::Limits,
};
use std::sync::Arc;

/// Channels that belong together, as those of one session do. Clones are the same group.
#[derive(Debug, Clone)]
pub struct Group {
    subscribers: Arc<Budget>,
    publishers: Arc<Budget>,
}

/// Readers and writers of all groups.
#[derive(Debug)]
pub(crate) struct Requests {
    /// All of them.
    all: Arc<Budget>,
    /// Some room is left for writers: whatever readers do, media comes in.
    subscribers: Arc<Budget>,
    publishers: Arc<Budget>,
}

impl Requests {
    pub fn new(limits: &Limits) -> Self {
        let most = count(limits.requests);
        let all = Arc::new(Budget::new(most));
        let part = |max| Arc::new(Budget::part_of(Arc::clone(&all), max));
        let room = count(limits.publisher_room).min(most / 2);
        Self { subscribers: part(most - room), publishers: part(most), all }
    }

    /// A group without channels.
    pub fn group(&self, limits: &Limits) -> Group {
        let part = |of: &Arc<Budget>, max| Arc::new(Budget::part_of(Arc::clone(of), count(max)));
        Group {
            subscribers: part(&self.subscribers, limits.subscribers_per_group),
            publishers: part(&self.publishers, limits.publishers_per_group),
        }
    }

    pub fn is_full(&self) -> bool {
        self.all.is_full()
    }

    pub fn subscribers(&self) -> usize {
        usize::try_from(self.subscribers.held()).unwrap_or(usize::MAX)
    }

    pub fn publishers(&self) -> usize {
        usize::try_from(self.publishers.held()).unwrap_or(usize::MAX)
    }
}

impl Group {
    /// One more reader.
    pub(crate) fn subscriber_comes(&self) -> Result<(), Refusal> {
        self.subscribers.take(1).map_err(|bound| refused(bound, Refusal::TooManySubscribers))
    }

    pub(crate) fn subscriber_goes(&self) {
        self.subscribers.give_back(1);
    }

    /// One more writer.
    pub(crate) fn publisher_comes(&self) -> Result<(), Refusal> {
        self.publishers.take(1).map_err(|bound| refused(bound, Refusal::TooManyPublishers))
    }

    /// One more writer, in this process.
    pub(crate) fn own_publisher_comes(&self) {
        self.publishers.add(1);
    }

    pub(crate) fn publisher_goes(&self) {
        self.publishers.give_back(1);
    }
}

fn refused(bound: Bound, own: Refusal) -> Refusal {
    match bound {
        Bound::Own => own,
        Bound::Whole => Refusal::TooManyRequests,
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_have_their_share_and_writers_their_room() {
        let limits = Limits {
            requests: 10,
            publisher_room: 4,
            subscribers_per_group: 5,
            publishers_per_group: 7,
            ..Limits::default()
        };
        let requests = Requests::new(&limits);
        let (greedy, modest) = (requests.group(&limits), requests.group(&limits));
        for _ in 0..5 {
            greedy.subscriber_comes().unwrap();
        }
        assert_eq!(greedy.subscriber_comes(), Err(Refusal::TooManySubscribers));
        modest.subscriber_comes().unwrap();
        assert_eq!(modest.subscriber_comes(), Err(Refusal::TooManyRequests), "the rest is room");
        for _ in 0..4 {
            modest.publisher_comes().unwrap();
        }
        assert_eq!(modest.publisher_comes(), Err(Refusal::TooManyRequests));
        assert!(requests.is_full());
        assert_eq!((requests.subscribers(), requests.publishers()), (6, 4));
        (0..5).for_each(|_| greedy.subscriber_goes());
        (0..3).for_each(|_| modest.publisher_comes().unwrap());
        assert_eq!(modest.publisher_comes(), Err(Refusal::TooManyPublishers));
    }

    #[test]
    fn room_for_writers_is_at_most_half() {
        let limits = Limits { requests: 1, ..Limits::default() };
        assert_eq!(Requests::new(&limits).group(&limits).subscriber_comes(), Ok(()));
    }
}

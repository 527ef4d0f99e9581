//! Which live runners there are, each under a number for one life: a runner that was started again has another,
//! so that nobody takes it for the one that had a session.

use crate::ai::pool::{Live, Member, State};
use penstock_wire::{
    hardware::{Hardware, Room},
    live_worker::{LiveRunner, MAX_RUNNERS},
    net,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All that are or were there.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    /// By index in the pool.
    now: BTreeMap<usize, (u64, Arc<Live>)>,
}

impl Roster {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a pool in these states.
    pub fn of(&self, members: &[Member], states: &[State]) -> Vec<LiveRunner> {
        let mut inner = self.lock();
        let (mut runners, mut room) = (Vec::new(), Room::default());
        for (index, (member, state)) in members.iter().zip(states).enumerate() {
            if !member.is_live_video() {
                continue;
            }
            let State::Live(live) = state else {
                inner.now.remove(&index);
                continue;
            };
            let known = inner.now.get(&index).filter(|(_, known)| Arc::ptr_eq(known, live));
            let runner_id = match known {
                Some((number, _)) => *number,
                None => {
                    inner.last += 1;
                    let number = inner.last;
                    inner.now.insert(index, (number, Arc::clone(live)));
                    number
                }
            };
            runners.push(told(runner_id, member, live, &mut room));
        }
        runners.truncate(MAX_RUNNERS);
        runners
    }

    /// The runner under a number, if it is there.
    pub fn find(&self, runner_id: u64) -> Option<Arc<Live>> {
        let inner = self.lock();
        inner.now.values().find(|(number, _)| *number == runner_id).map(|(_, live)| live.clone())
    }

    /// All that are there.
    pub fn all(&self) -> Vec<Arc<Live>> {
        self.lock().now.values().map(|(_, live)| Arc::clone(live)).collect()
    }
}

fn told(runner_id: u64, member: &Member, live: &Live, room: &mut Room) -> LiveRunner {
    let hardware = Hardware {
        pipeline: member.capability.pipeline(),
        model_id: member.model_id.clone(),
        gpus: live.gpus.clone(),
    };
    LiveRunner {
        runner_id,
        model_id: member.model_id.clone(),
        capacity: member.capacity,
        version: live.version.clone(),
        hardware: (!hardware.gpus.is_empty() && room.takes(&hardware))
            .then(|| net::HardwareInformation::from(&hardware)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::{client::Endpoint, models};

    fn live() -> State {
        let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
        State::Live(Arc::new(Live { endpoint, version: "1.2.3".into(), gpus: BTreeMap::new() }))
    }

    #[test]
    fn a_number_is_for_one_life() {
        let text = r#"[{"pipeline":"upscale","model_id":"u"},
            {"pipeline":"live-video-to-video","model_id":"a"},
            {"pipeline":"live-video-to-video","model_id":"b","url":"http://x","capacity":3}]"#;
        let entries = models::parse(text).unwrap();
        let members: Vec<_> = entries.iter().map(|e| Member::new(e, e.capacity)).collect();
        let roster = Roster::default();
        let down = || State::Down(String::new());
        let ids = |states: &[State]| -> Vec<_> {
            let told = roster.of(&members, states);
            told.into_iter().map(|r| (r.runner_id, r.model_id, r.capacity)).collect()
        };
        let (a, b) = (live(), live());
        assert_eq!(ids(&[live(), down(), down()]), []);
        let both = [(1, "a".to_owned(), 1), (2, "b".to_owned(), 3)];
        assert_eq!(ids(&[live(), a.clone(), b.clone()]), both);
        assert_eq!(ids(&[down(), a.clone(), b.clone()]), both);
        let State::Live(first) = &a else { panic!() };
        assert!(Arc::ptr_eq(&roster.find(1).unwrap(), first));
        // It dies, and comes back as another one.
        assert_eq!(ids(&[live(), State::Restarting(first.clone()), b.clone()]), both[1..]);
        assert!(roster.find(1).is_none());
        assert_eq!(ids(&[live(), live(), b.clone()]), [(3, "a".to_owned(), 1), both[1].clone()]);
        // Without having been seen dead, too.
        assert_eq!(ids(&[live(), live(), b]), [(4, "a".to_owned(), 1), both[1].clone()]);
        assert_eq!(roster.all().len(), 2);
    }
}

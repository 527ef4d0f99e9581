//! Whether winners were redeemed in the order of policy: held against [`in_order_of_policy`] itself.
//!
//! A redeemer takes so many of those that wait, in that order, and sends them in one transaction or several; then it
//! looks again. At each look senders' turns begin anew, so that is where an order may begin anew too, and nowhere else:
//! at the beginning of a transaction.

use penstock_payments::{QueuePlace, in_order_of_policy};
use std::rc::Rc;

/// Winners that were redeemed in one transaction, in its order, as numbers of the list in which they came.
pub type Sent = Vec<usize>;

/// One look at the queue, as it may have been: its order, and how much of it is redeemed.
#[derive(Debug, Clone)]
struct Look {
    order: Rc<[usize]>,
    done: usize,
}

impl Look {
    /// If this look would have this one redeemed next.
    fn after(&self, winner: usize) -> Option<Self> {
        let is_next = self.order.get(self.done) == Some(&winner);
        is_next.then(|| Self { done: self.done + 1, ..self.clone() })
    }

    fn rest(&self) -> &[usize] {
        self.order.get(self.done..).unwrap_or_default()
    }
}

/// Which of the redemptions came out of turn first: how many there were before it. `places`: of all winners that waited
/// at once, in the order in which they came.
pub fn out_of_turn(places: &[QueuePlace], transactions: &[Sent]) -> Option<usize> {
    let mut is_waiting = vec![true; places.len()];
    let mut looks: Vec<Look> = Vec::new();
    let mut redeemed = 0;
    for sent in transactions {
        let waiting = (0..places.len()).filter(|winner| is_waiting[*winner]).collect();
        let order: Rc<[usize]> = in_order_of_policy(waiting, |winner| places[*winner]).into();
        if !looks.iter().any(|look| look.rest() == &*order) {
            looks.push(Look { order, done: 0 });
        }
        for winner in sent {
            looks = looks.iter().filter_map(|look| look.after(*winner)).collect();
            if looks.is_empty() {
                return Some(redeemed);
            }
            is_waiting[*winner] = false;
            redeemed += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Address, Wei};
    use std::cmp::Reverse;

    /// Of two rounds; the first sender has more winners, and larger ones, than the second.
    fn places() -> Vec<QueuePlace> {
        let of = |round, sender, wei| QueuePlace {
            creation_round: round,
            sender: Address::repeat_byte(sender),
            face_value: Wei::from_u64(wei),
        };
        let mut places = Vec::new();
        for wei in 0..40 {
            places.push(of(7 + wei % 2, 1, 100 + 7 * wei % 40));
            if wei % 4 < 2 {
                places.push(of(7 + wei % 2, 2, 50 + wei));
            }
        }
        places
    }

    fn all() -> Vec<usize> {
        (0..places().len()).collect()
    }

    fn in_transactions(of: usize, order: &[usize]) -> Vec<Sent> {
        order.chunks(of).map(<[usize]>::to_vec).collect()
    }

    /// So many taken at each look.
    fn by_looks(most: usize) -> Vec<usize> {
        let places = places();
        let (mut waiting, mut order) = (all(), Vec::new());
        while !waiting.is_empty() {
            let look = in_order_of_policy(waiting.clone(), |winner| places[*winner]);
            let taken = &look[..most.min(look.len())];
            waiting.retain(|winner| !taken.contains(winner));
            order.extend_from_slice(taken);
        }
        order
    }

    #[test]
    fn what_policy_says_is_in_order_however_much_is_taken_at_each_look() {
        for most in [7, 21, 1_000] {
            let order = by_looks(most);
            assert_eq!(out_of_turn(&places(), &in_transactions(7, &order)), None, "{most}");
        }
        assert_ne!(by_looks(7), by_looks(1_000), "a look begins turns anew");
    }

    #[test]
    fn anything_else_is_not() {
        let places = places();
        let out = |order: Vec<usize>| out_of_turn(&places, &in_transactions(7, &order));
        assert!(out(all()).is_some(), "as they came");
        let mut by_worth = all();
        by_worth.sort_by_key(|winner| Reverse(places[*winner].face_value));
        assert!(out(by_worth.clone()).is_some(), "by worth alone");
        by_worth.sort_by_key(|winner| places[*winner].creation_round);
        assert!(out(by_worth).is_some(), "with no turns of the senders");
        let mut swapped = by_looks(21);
        swapped.swap(30, 31);
        assert_eq!(out(swapped), Some(30));
        assert_eq!(out(by_looks(9)), Some(9), "turns that begin anew within a transaction");
    }
}

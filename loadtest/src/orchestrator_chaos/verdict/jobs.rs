//! Segments and jobs in words: each costs other units than all others of its account, so that each charge is
//! of one of them.

use super::{Counts, books::Charge};
use crate::orchestrator_chaos::held::Paid;
use std::collections::BTreeSet;

/// Each job that was answered is charged once, one that was not at most once, and nothing else is.
pub fn judge(charges: &[Charge], ours: &Paid, counts: &mut Counts) -> Vec<String> {
    let (mut found, mut charged) = (Vec::new(), BTreeSet::new());
    for Charge { units, .. } in charges {
        if !charged.insert(*units) {
            found.push(format!("the job of {units} units was charged twice"));
        }
        if !ours.answered.contains(units) && !ours.unanswered.contains(units) {
            found.push(format!("nobody asked for a job of {units} units"));
        }
    }
    for units in ours.answered.difference(&charged) {
        found.push(format!("the job of {units} units was answered for nothing"));
    }
    counts.jobs_answered += ours.answered.len() as u64;
    counts.jobs_unanswered += ours.unanswered.len() as u64;
    counts.jobs_unanswered_charged += ours.unanswered.intersection(&charged).count() as u64;
    found
}

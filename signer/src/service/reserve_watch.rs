//! What the reserve still guarantees, and what is to be said of it. It decides nothing.
//!
//! A winning ticket is paid out of the deposit; when that is empty, out of the reserve, of which each active orchestrator
//! may take an equal part in a round. Orchestrators promise no more than that part, so it bounds what a ticket can pay;
//! and whatever was taken out of the reserve is a deposit that ran empty.

use penstock_chain::SenderInfo;
use penstock_domain::{U256, Wei};

/// When it is said.
#[derive(Debug, Clone, Copy)]
pub struct ReserveWatch {
    /// When less than this is guaranteed to each; 0 = never.
    pub warn_float: Wei,
}

/// The reserve in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantee {
    /// Before anything was taken in this round.
    pub at_round_start: Wei,
    /// The most that one orchestrator can take in this round; `None`: there is none.
    pub float: Option<Wei>,
}

/// What this many active orchestrators are guaranteed, as the contract reckons (on-chain.md section 3.3).
pub fn guarantee(info: &SenderInfo, orchestrators: u64) -> Guarantee {
    let reserve = info.reserve;
    let all = reserve.funds_remaining.0.saturating_add(reserve.claimed_in_current_round.0);
    let float = all.checked_div(U256::from(orchestrators)).map(Wei);
    Guarantee { at_round_start: Wei(all), float }
}

impl ReserveWatch {
    /// What is to be said, each with the word for what it is about.
    pub fn troubles(
        &self,
        info: &SenderInfo,
        orchestrators: u64,
        round: u64,
    ) -> Vec<(&'static str, String)> {
        let mut said = Vec::new();
        let guarantee = guarantee(info, orchestrators);
        let (left, claimed) = (info.reserve.funds_remaining, info.reserve.claimed_in_current_round);
        if !claimed.is_zero() {
            let all = guarantee.at_round_start;
            said.push((
                "reserve",
                format!(
                    "orchestrators took {claimed} wei of the {all} in the reserve in this round, because the deposit was \
                     empty, and {left} are left: add to both (penstock deposit, penstock reserve)"
                ),
            ));
        }
        let limit = self.warn_float;
        if let Some(float) = guarantee.float.filter(|float| *float < limit) {
            said.push((
                "reserve",
                format!(
                    "the reserve guarantees {float} wei to each of {orchestrators} orchestrators, and \
                     --reserve-warn-float-wei is {limit}: add to it (penstock reserve)"
                ),
            ));
        }
        if let Some(refused_from) = info.withdraw_round.checked_sub(1) {
            let what = if round >= refused_from {
                "tickets are not taken any more".to_owned()
            } else {
                format!("tickets are taken until round {refused_from} begins")
            };
            said.push((
                "unlock",
                format!(
                    "deposit and reserve are on their way out, and {what}: let them stay (penstock cancel-unlock), or \
                     take them back once round {} has begun (penstock withdraw)",
                    info.withdraw_round
                ),
            ));
        }
        said
    }
}

/// For the metrics: exact as far as a metric is.
pub fn show(info: &SenderInfo, orchestrators: u64) {
    let number = |wei: Wei| wei.to_string().parse::<f64>().unwrap_or(f64::INFINITY);
    let float = guarantee(info, orchestrators).float;
    // Nobody has to be guaranteed anything.
    metrics::gauge!("signer_reserve_float_wei").set(float.map_or(f64::INFINITY, number));
    let claimed = number(info.reserve.claimed_in_current_round);
    metrics::gauge!("signer_reserve_claimed_wei").set(claimed);
    metrics::gauge!("signer_withdraw_round").set(info.withdraw_round as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_chain::ReserveInfo;

    fn info(left: u64, claimed: u64, withdraw_round: u64) -> SenderInfo {
        let reserve = ReserveInfo {
            funds_remaining: Wei::from_u64(left),
            claimed_in_current_round: Wei::from_u64(claimed),
        };
        SenderInfo { deposit: Wei::ZERO, withdraw_round, reserve }
    }

    #[test]
    fn each_orchestrator_has_its_part_of_what_was_there_when_the_round_began() {
        let part = |left, claimed, n| guarantee(&info(left, claimed, 0), n).float;
        assert_eq!(part(100, 0, 3), Some(Wei::from_u64(33)));
        assert_eq!(part(70, 30, 3), Some(Wei::from_u64(33)));
        assert_eq!(part(100, 0, 0), None);
        assert_eq!(guarantee(&info(70, 30, 0), 3).at_round_start, Wei::from_u64(100));
    }

    #[test]
    fn what_is_said_names_what_to_do() {
        let watch = ReserveWatch { warn_float: Wei::from_u64(25) };
        let said =
            |left, claimed, withdraw, n| watch.troubles(&info(left, claimed, withdraw), n, 7);
        assert!(said(100, 0, 0, 4).is_empty());
        let low = said(100, 0, 0, 5);
        assert!(low.len() == 1 && low[0].0 == "reserve", "{low:?}");
        assert!(low[0].1.contains("--reserve-warn-float-wei is 25"), "{low:?}");
        assert!(said(99, 0, 0, 0).is_empty(), "nobody has to be guaranteed anything");
        let claimed = said(90, 10, 0, 4);
        assert!(claimed.len() == 1 && claimed[0].1.contains("took 10 wei of the 100"));
        let early = said(100, 0, 9, 4);
        assert!(early[0].0 == "unlock" && early[0].1.contains("until round 8"), "{early:?}");
        let late = said(100, 0, 8, 4);
        assert!(late[0].1.contains("not taken any more"), "{late:?}");
        assert!(late[0].1.contains("penstock cancel-unlock"), "{late:?}");
        let never = ReserveWatch { warn_float: Wei::ZERO };
        assert!(never.troubles(&info(0, 0, 0), 4, 7).is_empty());
    }
}

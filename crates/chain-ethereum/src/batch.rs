//! Several winners in one transaction.
//!
//! The contract redeems each ticket of a batch by a call to itself and passes over in silence what fails, also for want
//! of gas: what an endpoint estimates for a batch is enough for some of it (on-chain.md section 3.2). So each winner is
//! tried and measured alone first, with the same headroom as if it went alone; the batch has the gas of all together,
//! and what became of each is read from its own event. What would bring too little when its
//! turn comes is no part of the batch. One without an event is tried again, to say why. A batch that is
//! not sent, since the account has too little ether for all of its gas or since an endpoint takes none of its size, holds
//! nobody up: its winners go alone. One that may still come takes all that wait for their turn along into the same doubt.

use crate::{
    EthereumChain,
    contracts::ITicketBroker,
    redemption::{as_argument, paid},
    rpc::wire::Mined,
    transactions::{Call, NotDone, Sender},
    worth::{self, Least},
};
use alloy_sol_types::SolCall as _;
use penstock_chain::{ChainError, Redemption, WinningTicket, Worth};
use penstock_domain::{Address, Wei};

/// A winner that would be redeemed now, and where it stands among those that were asked for.
struct Measured<'a> {
    at: usize,
    worth: &'a Worth,
    gas: u64,
}

/// Redeems them in as few transactions as `--eth-max-gas` allows, in their order. The outcomes are in the same order.
pub(crate) async fn redeem(
    chain: &EthereumChain,
    winners: &[Worth],
) -> Vec<Result<Redemption, ChainError>> {
    let (sender, broker) = match ready(chain).await {
        Ok(ready) => ready,
        Err(error) => return winners.iter().map(|_| Err(error.clone())).collect(),
    };
    // What still waits may be of the same winners: then they are not worth a transaction.
    if let Err(error) = sender.quiet().await {
        return winners.iter().map(|_| Err(error.clone())).collect();
    }
    let worth = worth::check(&chain.reader, broker, winners.iter().map(Least::from)).await;
    let worth = match worth {
        Ok(worth) => worth,
        Err(error) => return winners.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut outcomes: Vec<Result<Redemption, ChainError>> = Vec::with_capacity(winners.len());
    let mut measured = Vec::new();
    for (at, (winner, worth)) in winners.iter().zip(worth).enumerate() {
        if let Err(error) = worth {
            outcomes.push(Err(error));
            continue;
        }
        match sender.gas_of(&alone(broker, &winner.winner, winner.least)).await {
            Ok(gas) => {
                measured.push(Measured { at, worth: winner, gas });
                outcomes.push(Err(not_sent()));
            }
            Err(error) => outcomes.push(Err(error)),
        }
    }
    let mut doubt = None;
    for batch in batches(measured, sender.max_gas()) {
        let done = match &doubt {
            None => send(chain, broker, &batch).await,
            Some(error) => Err(ChainError::clone(error)),
        };
        match done {
            Ok(done) => {
                for (Measured { at, .. }, outcome) in batch.iter().zip(done) {
                    put(&mut outcomes, *at, outcome);
                }
            }
            Err(error) => {
                for Measured { at, .. } in batch {
                    put(&mut outcomes, at, Err(error.clone()));
                }
                doubt = Some(error);
            }
        }
    }
    outcomes
}

fn put(
    outcomes: &mut [Result<Redemption, ChainError>],
    at: usize,
    outcome: Result<Redemption, ChainError>,
) {
    if let Some(place) = outcomes.get_mut(at) {
        *place = outcome;
    }
}

async fn ready(chain: &EthereumChain) -> Result<(&Sender, Address), ChainError> {
    let sender = chain.sender.as_ref().ok_or(ChainError::NoAccount { operation: "redeem" })?;
    Ok((sender, chain.book().await?.ticket_broker))
}

/// What a winner that goes alone would send.
pub(crate) fn alone(broker: Address, winner: &WinningTicket, least: Wei) -> Call {
    let data = ITicketBroker::redeemWinningTicketCall::from(winner).abi_encode();
    let least = Least::of(winner, least);
    Call { to: broker, value: Wei::ZERO, data, again: true, gas: None, least: vec![least] }
}

/// What is said of a winner that was measured and never sent. Nothing leaves one so.
fn not_sent() -> ChainError {
    ChainError::Unavailable { reason: "the batch was not sent".to_owned() }
}

/// As many in each as the limit allows, in their order; each fits alone.
fn batches(measured: Vec<Measured<'_>>, max_gas: u64) -> Vec<Vec<Measured<'_>>> {
    let mut batches: Vec<Vec<Measured<'_>>> = Vec::new();
    let mut gas = 0_u64;
    for one in measured {
        let with = gas.saturating_add(one.gas);
        match batches.last_mut() {
            Some(batch) if with <= max_gas => {
                gas = with;
                batch.push(one);
            }
            _ => {
                gas = one.gas;
                batches.push(vec![one]);
            }
        }
    }
    batches
}

/// One transaction, and what became of each winner in it. An error: what becomes of it is not known.
async fn send(
    chain: &EthereumChain,
    broker: Address,
    batch: &[Measured<'_>],
) -> Result<Vec<Result<Redemption, ChainError>>, ChainError> {
    if batch.len() == 1 {
        return Ok(one_by_one(chain, batch).await);
    }
    let call = ITicketBroker::batchRedeemWinningTicketsCall {
        tickets: batch.iter().map(|one| as_argument(&one.worth.winner.ticket)).collect(),
        sigs: batch.iter().map(|one| one.worth.winner.sig.clone().into()).collect(),
        recipientRands: batch.iter().map(|one| one.worth.winner.recipient_rand).collect(),
    };
    let gas = batch.iter().fold(0_u64, |sum, one| sum.saturating_add(one.gas));
    let data = call.abi_encode();
    // The contract takes a batch of used tickets, and does nothing.
    let least = batch.iter().map(|one| Least::from(one.worth)).collect();
    let call = Call { to: broker, value: Wei::ZERO, data, again: false, gas: Some(gas), least };
    match chain.send_or_say("redeem_batch", call).await {
        Ok(mined) => Ok(outcomes(chain, broker, batch, &mined).await),
        Err(NotDone { may_come: false, error }) if !is_silence(&error) => {
            metrics::counter!("ethereum_batches_split_total").increment(1);
            tracing::warn!(winners = batch.len(), %error, "a batch does not go: its winners go alone");
            Ok(one_by_one(chain, batch).await)
        }
        Err(NotDone { error, .. }) => Err(error),
    }
}

/// Nobody says anything: to ask for each alone is in vain too.
fn is_silence(error: &ChainError) -> bool {
    matches!(error, ChainError::Unreachable { .. })
}

async fn one_by_one(
    chain: &EthereumChain,
    batch: &[Measured<'_>],
) -> Vec<Result<Redemption, ChainError>> {
    let mut outcomes = Vec::with_capacity(batch.len());
    for one in batch {
        outcomes.push(chain.redeem_alone(&one.worth.winner, one.worth.least).await);
    }
    outcomes
}

async fn outcomes(
    chain: &EthereumChain,
    broker: Address,
    batch: &[Measured<'_>],
    mined: &Mined,
) -> Vec<Result<Redemption, ChainError>> {
    let place = match chain.place_of(mined).await {
        Ok(place) => place,
        // It is in a block: what became of each is asked later.
        Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut outcomes = Vec::with_capacity(batch.len());
    for Measured { worth: Worth { winner, .. }, .. } in batch {
        outcomes.push(match paid(&mined.logs, broker, &winner.ticket) {
            Some(paid) => Ok(paid.redemption(&winner.ticket, place)),
            None => Err(left_out(chain, broker, winner, mined).await),
        });
    }
    outcomes
}

/// Why a batch passed over a winner, as far as that shows afterwards.
async fn left_out(
    chain: &EthereumChain,
    broker: Address,
    winner: &WinningTicket,
    mined: &Mined,
) -> ChainError {
    let (hash, tx) = (winner.ticket.hash(), mined.transaction_hash.0);
    metrics::counter!("ethereum_batch_left_out_total").increment(1);
    tracing::warn!(ticket = %hash, %tx, "a batch left a winner out");
    let again = match &chain.sender {
        Some(sender) => sender.preview(&alone(broker, winner, Wei::ZERO)).await,
        None => Ok(()),
    };
    match again {
        Err(error @ ChainError::Reverted(_)) => error,
        _ => ChainError::Unavailable {
            reason: format!("transaction {tx} left the ticket out; alone it would be redeemed now"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_chain::OnChainTicket;
    use penstock_domain::{B256, U256};

    #[test]
    fn a_batch_takes_what_fits_and_leaves_no_winner_out() {
        let winner = WinningTicket {
            ticket: OnChainTicket {
                recipient: Address::ZERO,
                sender: Address::ZERO,
                face_value: Wei::ZERO,
                win_prob: U256::MAX,
                sender_nonce: U256::ZERO,
                recipient_rand_hash: B256::ZERO,
                aux_data: Vec::new(),
            },
            sig: Vec::new(),
            recipient_rand: U256::ZERO,
        };
        let worth = Worth { winner, least: Wei::ZERO };
        let of = |gas: &[u64], max: u64| -> Vec<Vec<usize>> {
            let all = gas.iter().enumerate();
            let all = all.map(|(at, gas)| Measured { at, worth: &worth, gas: *gas }).collect();
            let shown = |batch: Vec<Measured<'_>>| batch.iter().map(|one| one.at).collect();
            batches(all, max).into_iter().map(shown).collect()
        };
        assert_eq!(of(&[], 100), Vec::<Vec<usize>>::new());
        assert_eq!(of(&[40, 40, 40], 100), [vec![0, 1], vec![2]]);
        assert_eq!(of(&[100, 100], 100), [vec![0], vec![1]]);
        assert_eq!(of(&[50, 50, 1], 100), [vec![0, 1], vec![2]]);
        assert_eq!(of(&[u64::MAX, 1], 100), [vec![0], vec![1]], "it is refused when it is sent");
    }
}

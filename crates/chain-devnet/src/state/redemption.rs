//! `redeemWinningTicket`: the contract's checks in its order, then the payment
//! (on-chain.md section 3.2).
//!
//! The first two checks (proxy registered, system not paused) always pass here: a devnet has no
//! proxies and is never paused.

use super::{
    Change, Claim, Flows, Sender, State, TICKET_VALIDITY_PERIOD, claimable_reserve,
    funding::{is_empty, is_locked},
};
use penstock_chain::{OnChainTicket, Redemption, Revert, WinningTicket};
use penstock_domain::{B256, U256, Wei, keccak256};
use penstock_payments::{Signature, SignatureError, eip191_digest};

/// Redeems, in whomever's name: the recipient is paid whoever sends it. A ticket with nothing to
/// pay it from is used up all the same, as on the real contract.
pub fn redeem(state: &State, winner: &WinningTicket) -> Result<(Vec<Change>, Redemption), Revert> {
    let ticket = &winner.ticket;
    let ticket_hash = ticket.hash();
    check_ticket(state, winner)?;
    if state.redemptions.contains_key(&ticket_hash) {
        return Err(Revert::Used);
    }
    check_win(winner, ticket_hash)?;
    let sender = state.sender(ticket.sender);
    if !is_locked(&sender, state.current_round()) {
        return Err(Revert::SenderUnlocked);
    }
    if is_empty(&sender) {
        return Err(Revert::SenderEmpty);
    }
    pay(state, ticket, ticket_hash, sender)
}

/// Checks 3 to 10: round, addresses, auxData, recipientRand.
fn check_ticket(state: &State, winner: &WinningTicket) -> Result<(), Revert> {
    let ticket = &winner.ticket;
    if !state.is_round_initialized() {
        return Err(Revert::RoundNotInitialized);
    }
    if ticket.recipient.is_zero() {
        return Err(Revert::RecipientNull);
    }
    if ticket.sender.is_zero() {
        return Err(Revert::SenderNull);
    }
    let (creation_round, creation_hash) =
        read_aux_data(&ticket.aux_data).ok_or(Revert::AuxDataLength)?;
    let creation_round = u64::try_from(creation_round).map_err(|_| Revert::NoBlockHash)?;
    let round_hash = state.round_hashes.get(&creation_round).ok_or(Revert::NoBlockHash)?;
    if *round_hash != creation_hash {
        return Err(Revert::WrongBlockHash);
    }
    if creation_round.saturating_add(TICKET_VALIDITY_PERIOD) <= state.current_round() {
        return Err(Revert::Expired);
    }
    if keccak256(winner.recipient_rand.to_be_bytes::<32>()) != ticket.recipient_rand_hash {
        return Err(Revert::WrongRecipientRand);
    }
    Ok(())
}

/// `uint256 creationRound ‖ bytes32 creationRoundBlockHash`, exactly.
fn read_aux_data(aux_data: &[u8]) -> Option<(U256, B256)> {
    let aux: &[u8; 64] = aux_data.try_into().ok()?;
    let (round, hash) = aux.split_at(32);
    Some((U256::from_be_slice(round), B256::from_slice(hash)))
}

/// Checks 12 to 15: the signature is the sender's and the draw wins.
fn check_win(winner: &WinningTicket, ticket_hash: B256) -> Result<(), Revert> {
    let by_fault = |fault| match fault {
        SignatureError::Length(_) => Revert::SignatureLength,
        SignatureError::HighS => Revert::SignatureS,
        SignatureError::RecoveryId(_) | SignatureError::Unrecoverable => Revert::Signature,
        SignatureError::WrongSigner => Revert::WrongSigner,
    };
    let signature = Signature::from_slice(&winner.sig).map_err(by_fault)?;
    let digest = eip191_digest(ticket_hash.as_slice());
    signature.verify(&digest, winner.ticket.sender).map_err(by_fault)?;
    let mut draw = winner.sig.clone();
    draw.extend_from_slice(&winner.recipient_rand.to_be_bytes::<32>());
    if !wins(U256::from_be_bytes(keccak256(draw).0), winner.ticket.win_prob) {
        return Err(Revert::NotWinning);
    }
    Ok(())
}

/// Strictly below: a chance of 0 never wins, and one of 2^256 − 1 misses one draw.
fn wins(draw: U256, win_prob: U256) -> bool {
    draw < win_prob
}

/// Pays from the deposit first and then from the reserve, as much as there is.
fn pay(
    state: &State,
    ticket: &OnChainTicket,
    ticket_hash: B256,
    sender: Sender,
) -> Result<(Vec<Change>, Redemption), Revert> {
    let round = state.current_round();
    let mut after = sender;
    let mut changes = Vec::new();
    let from_deposit = ticket.face_value.min(sender.deposit);
    after.deposit = sender.deposit.saturating_sub(from_deposit);
    let short = ticket.face_value.saturating_sub(from_deposit);
    let mut from_reserve = Wei::ZERO;
    if !short.is_zero() {
        from_reserve = short.min(claimable_reserve(state, ticket.sender, ticket.recipient)?);
        let by_all = sum(sender.claimed.in_round(round), from_reserve)?;
        let by_one = sum(state.claimed_reserve(ticket.sender, ticket.recipient), from_reserve)?;
        after.reserve = sender.reserve.checked_sub(from_reserve).ok_or(Revert::Arithmetic)?;
        after.claimed = Claim { round, amount: by_all };
        let claim = Claim { round, amount: by_one };
        changes.push(Change::Claim(ticket.sender, ticket.recipient, claim));
    }
    let paid = sum(from_deposit, from_reserve)?;
    if !paid.is_zero() {
        check_recipient(state, ticket)?;
    }
    let mut recipient = state.account(ticket.recipient);
    recipient.earned = sum(recipient.earned, paid)?;
    let flows = Flows { paid: sum(state.flows.paid, paid)?, ..state.flows };
    let (tx_hash, head) = state.next_transaction();
    let redemption = Redemption {
        ticket_hash,
        tx_hash,
        l1_block: head.l1_block,
        round,
        block: None,
        sender: ticket.sender,
        recipient: ticket.recipient,
        face_value: ticket.face_value,
        paid_from_deposit: from_deposit,
        paid_from_reserve: from_reserve,
    };
    changes.extend([
        Change::Sender(ticket.sender, after),
        Change::Account(ticket.recipient, recipient),
        Change::Flows(flows),
        Change::Redemption(redemption),
        Change::Head(head),
    ]);
    Ok((changes, redemption))
}

/// What `updateTranscoderWithFees` asks of the recipient when there is something to pay.
fn check_recipient(state: &State, ticket: &OnChainTicket) -> Result<(), Revert> {
    let registered = state.orchestrators.get(&ticket.recipient).filter(|o| o.registered);
    match registered {
        None => Err(Revert::NotRegistered),
        Some(o) if o.activation_round > state.current_round() => Err(Revert::NoStakeThisRound),
        Some(_) => Ok(()),
    }
}

fn sum(a: Wei, b: Wei) -> Result<Wei, Revert> {
    a.checked_add(b).ok_or(Revert::Arithmetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draw_must_be_below_the_chance() {
        let one = U256::from(1);
        assert!(!wins(U256::ZERO, U256::ZERO) && wins(U256::ZERO, one) && !wins(one, one));
        assert!(!wins(U256::MAX, U256::MAX) && wins(U256::MAX - one, U256::MAX));
    }
}

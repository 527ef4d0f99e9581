//! Redemptions that are refused, and in which order the reasons are looked at.

use super::network::{
    Network, SENDER, activate, expect_revert, fund, hash_of, wei, winner, winner_of,
};
use crate::{OnChainTicket, Revert, WinningTicket};
use penstock_domain::{Address, B256, U256};

/// A ticket with every fault at once, repaired one by one: each time the next reason of
/// on-chain.md section 3.2 is given, and in the end it is paid. A used ticket comes before a bad
/// signature, so that check is looked at last.
pub async fn reverts_in_order(network: &mut dyn Network) {
    activate(network, &[1]).await;
    let old = network.chain().rounds().await.unwrap();
    network.next_round().await;
    network.next_round().await;
    let good = winner(network, 1, 30, 1).await;
    let aux = good.ticket.aux_data.clone();
    let (round, hash) = (network.chain().rounds().await.unwrap(), B256::repeat_byte(0xee));
    let now = round.last_initialized_round;
    let mut bad = WinningTicket {
        ticket: OnChainTicket {
            recipient: Address::ZERO,
            sender: Address::ZERO,
            win_prob: U256::ZERO,
            aux_data: vec![0; 63],
            ..good.ticket.clone()
        },
        sig: vec![0; 64],
        recipient_rand: good.recipient_rand + U256::from(1),
    };
    expect_revert(network, &bad, Revert::RecipientNull).await;
    bad.ticket.recipient = good.ticket.recipient;
    expect_revert(network, &bad, Revert::SenderNull).await;
    bad.ticket.sender = good.ticket.sender;
    for length in [0, 63, 65, 128] {
        bad.ticket.aux_data = vec![0; length];
        expect_revert(network, &bad, Revert::AuxDataLength).await;
    }
    for unknown in [now + 1, u64::MAX] {
        bad.ticket.aux_data = OnChainTicket::aux_data_of(unknown, hash);
        expect_revert(network, &bad, Revert::NoBlockHash).await;
    }
    bad.ticket.aux_data = vec![0xff; 64];
    expect_revert(network, &bad, Revert::NoBlockHash).await;
    bad.ticket.aux_data = OnChainTicket::aux_data_of(old.last_initialized_round, hash);
    expect_revert(network, &bad, Revert::WrongBlockHash).await;
    bad.ticket.aux_data = OnChainTicket::aux_data_of(old.last_initialized_round, old.l1_block_hash);
    expect_revert(network, &bad, Revert::Expired).await;
    bad.ticket.aux_data = aux;
    expect_revert(network, &bad, Revert::WrongRecipientRand).await;
    bad.recipient_rand = good.recipient_rand;
    signature_reverts(network, &mut bad, &good).await;
    // The signature covers win_prob, so the losing ticket is signed anew.
    bad.ticket.win_prob = good.ticket.win_prob;
    bad.sig.clone_from(&good.sig);
    expect_revert(network, &bad, Revert::SenderEmpty).await;
    fund(network, 100, 0).await;
    assert_eq!(network.anyone().redeem(&bad).await.unwrap().paid(), wei(30));
    bad.sig = vec![];
    expect_revert(network, &bad, Revert::Used).await;
    network.next_round_uninitialized().await;
    bad.ticket.recipient = Address::ZERO;
    expect_revert(network, &bad, Revert::RoundNotInitialized).await;
}

/// Checks 12 to 15. Leaves `bad` with a losing ticket.
async fn signature_reverts(network: &dyn Network, bad: &mut WinningTicket, good: &WinningTicket) {
    for length in [0, 64, 66] {
        bad.sig = vec![27; length];
        expect_revert(network, bad, Revert::SignatureLength).await;
    }
    // s above half of the order, with a v that would be refused next.
    let mut sig = good.sig.clone();
    sig[32..64].copy_from_slice(&[0xff; 32]);
    sig[64] = 0;
    bad.sig.clone_from(&sig);
    expect_revert(network, bad, Revert::SignatureS).await;
    sig.clone_from(&good.sig);
    for v in [0, 1, 26, 29] {
        sig[64] = v;
        bad.sig.clone_from(&sig);
        expect_revert(network, bad, Revert::Signature).await;
    }
    sig.clone_from(&good.sig);
    sig[..32].copy_from_slice(&[0; 32]);
    bad.sig.clone_from(&sig);
    expect_revert(network, bad, Revert::Signature).await;
    // A good signature of another ticket recovers to some other account.
    bad.sig.clone_from(&good.sig);
    expect_revert(network, bad, Revert::WrongSigner).await;
    let loser = losing(network, good).await;
    expect_revert(network, &loser, Revert::NotWinning).await;
}

/// The ticket with no chance to win, signed.
async fn losing(network: &dyn Network, good: &WinningTicket) -> WinningTicket {
    let t = &good.ticket;
    let ticket = penstock_payments::Ticket {
        recipient: t.recipient,
        sender: t.sender,
        face_value: t.face_value,
        win_prob: U256::ZERO,
        sender_nonce: t.sender_nonce.to::<u32>(),
        recipient_rand_hash: hash_of(good.recipient_rand),
        expiration_params: {
            let rounds = network.chain().rounds().await.unwrap();
            penstock_payments::ExpirationParams {
                creation_round: rounds.last_initialized_round,
                creation_round_block_hash: rounds.l1_block_hash,
            }
        },
    };
    let sig = network.sign(SENDER, &ticket).await.as_bytes().to_vec();
    WinningTicket { ticket: (&ticket).into(), sig, recipient_rand: good.recipient_rand }
}

/// Only an orchestrator of the pool is paid, and only from its first active round on.
pub async fn recipients_must_be_active(network: &mut dyn Network) {
    activate(network, &[1]).await;
    fund(network, 100, 0).await;
    let stranger = winner(network, 2, 10, 1).await;
    expect_revert(network, &stranger, Revert::NotRegistered).await;
    assert!(!network.chain().is_used_ticket(stranger.ticket.hash()).await.unwrap());
    network.account(2).register("https://a.example:1").await.unwrap();
    expect_revert(network, &stranger, Revert::NoStakeThisRound).await;
    network.next_round().await;
    // The same ticket, in the second and last round of its life.
    assert_eq!(network.anyone().redeem(&stranger).await.unwrap().paid(), wei(10));
}

/// A ticket lives in its creation round and the next.
pub async fn tickets_expire(network: &mut dyn Network) {
    activate(network, &[1]).await;
    fund(network, 100, 0).await;
    let tickets = [
        winner(network, 1, 1, 1).await,
        winner(network, 1, 1, 2).await,
        winner(network, 1, 1, 3).await,
    ];
    network.anyone().redeem(&tickets[0]).await.unwrap();
    network.next_round().await;
    network.anyone().redeem(&tickets[1]).await.unwrap();
    network.next_round().await;
    expect_revert(network, &tickets[2], Revert::Expired).await;
    assert!(Revert::Expired.is_final());
}

/// Until the withdraw round an unlocking sender still pays; from it on, no more.
pub async fn unlocked_senders(network: &mut dyn Network) {
    activate(network, &[1]).await;
    fund(network, 100, 0).await;
    network.account(SENDER).unlock().await.unwrap();
    network.next_round().await;
    let ticket = winner(network, 1, 1, 1).await;
    network.anyone().redeem(&ticket).await.unwrap();
    let rounds = network.chain().rounds().await.unwrap();
    let late = winner_of(network, network.address(1), 1, 2, &rounds).await;
    network.next_round().await;
    expect_revert(network, &late, Revert::SenderUnlocked).await;
    network.account(SENDER).cancel_unlock().await.unwrap();
    network.anyone().redeem(&late).await.unwrap();
}

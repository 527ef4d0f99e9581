//! Winners between an orchestrator and a separate redeemer: what leaves the one's books, and what comes
//! into the other's.

use super::*;
use penstock_chain::Standing;
use penstock_payments::{Ticket, Winner};

/// A winner of the offer number `n`, as its orchestrator stored it.
fn brought(n: u8, nonce: u32) -> Winner {
    let offer = offer(n, 50, 7, &Rational::ONE);
    let ticket: Ticket = offer.ticket(nonce);
    Winner {
        ticket_hash: ticket.hash(),
        ticket,
        signature: Signature::from_bytes([27; 65]),
        recipient_rand: offer.recipient_rand(),
        params_expiration_block: U256::from(50),
    }
}

pub async fn a_winner_that_was_handed_over_is_not_redeemed_here(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![winning(1), winning(2)])).await.unwrap();
    let waiting = ledger.winners_to_hand_over(10, 9).await.unwrap();
    assert_eq!(waiting.len(), 2, "long before their offer has expired");
    let [one, two] = [0, 1].map(|at: usize| waiting[at].winner.ticket_hash);
    let face_value = waiting[0].winner.ticket.face_value;
    let both = face_value.checked_add(waiting[1].winner.ticket.face_value).unwrap();

    let fence = ledger.redeemer().await.unwrap().unwrap();
    ledger.requeue(one, fence, "refused", 12, 2).await.unwrap();
    assert_eq!(ledger.winners_to_hand_over(11, 9).await.unwrap().len(), 1, "it waits");
    ledger.mark_handed_over(one, 3).await.unwrap();
    ledger.close().await;

    let ledger = books.open().await;
    let fence = ledger.redeemer().await.unwrap().unwrap();
    let left = ledger.winners_to_hand_over(99, 9).await.unwrap();
    assert_eq!(left.iter().map(|w| w.winner.ticket_hash).collect::<Vec<_>>(), [two]);
    assert_eq!(ledger.winners_due(99, 9).await.unwrap().len(), 1, "not even when it is due");
    assert!(!ledger.begin_redemption(one, fence, 4).await.unwrap());
    let gone = ledger.winners_with(WinnerStatus::HandedOver, 9).await.unwrap();
    assert_eq!((gone.len(), gone[0].reason.as_deref()), (1, None));
    assert_eq!(ledger.winners_with(WinnerStatus::Queued, 9).await.unwrap().len(), 1);
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.winners, totals.handed_over, totals.redeemed), (2, 1, 0));

    // A redeemer that forgot it is told again.
    assert_eq!(ledger.take_back_winners(3, 4).await.unwrap(), 0, "not yet");
    assert_eq!(ledger.take_back_winners(4, 4).await.unwrap(), 1);
    assert_eq!(ledger.winners_to_hand_over(99, 9).await.unwrap().len(), 2);
    assert_eq!(ledger.winners_due(99, 9).await.unwrap().len(), 2, "or redeems it itself");
    ledger.mark_handed_over(one, 4).await.unwrap();

    // It still is money that the sender owes.
    let round = gone[0].winner.ticket.expiration_params.creation_round;
    assert_eq!(ledger.open_face_value(SENDER, round).await.unwrap(), both);
    assert_eq!(ledger.open_face_value(SENDER, round + 1).await.unwrap(), Wei::ZERO);
    assert_eq!(ledger.open_face_value(RECIPIENT, round).await.unwrap(), Wei::ZERO);
    assert!(ledger.handed_over_before(round, 9).await.unwrap().is_empty());
    assert_eq!(ledger.handed_over_before(round + 1, 9).await.unwrap().len(), 1);
    ledger.mark_redeemed(one, None, None, None, 5).await.unwrap();
    ledger.mark_handed_over(one, 6).await.unwrap();
    assert!(ledger.handed_over_before(round + 1, 9).await.unwrap().is_empty());
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.handed_over, totals.redeemed), (0, 1), "redeemed is final");
    assert_eq!(ledger.take_back_winners(i64::MAX, 6).await.unwrap(), 0);
    assert_eq!(ledger.open_face_value(SENDER, round).await.unwrap(), face_value);

    // What was begun here is not handed over before it is settled.
    assert!(ledger.begin_redemption(two, fence, 7).await.unwrap());
    ledger.mark_handed_over(two, 8).await.unwrap();
    assert_eq!(ledger.winners_with(WinnerStatus::Redeeming, 9).await.unwrap().len(), 1);
    ledger.close().await;
}

pub async fn what_is_brought_is_stored_once_and_within_limits(books: &impl Books) {
    let ledger = books.open().await;
    let limits = QueueLimits { all: 3, sender: 2 };
    let queue = async |ledger: &Ledger, winner: &Winner| {
        ledger.queue_winner(winner, limits, 1_000).await.unwrap()
    };
    let first = brought(1, 1);
    assert_eq!(queue(&ledger, &first).await, Queued::Now);
    ledger.close().await;

    let ledger = books.open().await;
    assert_eq!(queue(&ledger, &first).await, Queued::Before, "over a restart");
    assert_eq!(queue(&ledger, &brought(1, 2)).await, Queued::Now);
    assert_eq!(queue(&ledger, &brought(1, 3)).await, Queued::Full, "of this sender");
    assert_eq!(queue(&ledger, &first).await, Queued::Before, "whoever is known is told so");
    let of = |sender: u8| {
        let mut winner = brought(2, 1);
        winner.ticket.sender = Address::repeat_byte(sender);
        winner.ticket_hash = winner.ticket.hash();
        winner
    };
    assert_eq!(queue(&ledger, &of(0xaa)).await, Queued::Now);
    assert_eq!(queue(&ledger, &of(0xbb)).await, Queued::Full, "of all");

    // It is redeemed as any other, and makes room.
    let due = ledger.winners_due(50, 9).await.unwrap();
    assert_eq!(due.len(), 3);
    assert_eq!((&due[0].winner, due[0].session.as_str()), (&first, ""));
    let fence = ledger.redeemer().await.unwrap().unwrap();
    assert!(ledger.begin_redemption(first.ticket_hash, fence, 2).await.unwrap());
    ledger.mark_redeemed(first.ticket_hash, None, None, None, 3).await.unwrap();
    assert_eq!(queue(&ledger, &first).await, Queued::Before, "and never again");
    assert_eq!(queue(&ledger, &brought(1, 3)).await, Queued::Now);

    // Of many that bring one at once, one stores it.
    let last = brought(1, 4);
    let wide = QueueLimits { all: 99, sender: 99 };
    let all = futures::future::join_all((0..8).map(|_| ledger.queue_winner(&last, wide, 4))).await;
    let stored = all.iter().filter(|one| matches!(one, Ok(Queued::Now))).count();
    assert_eq!(stored, 1, "{all:?}");
    assert!(all.iter().all(|one| matches!(one, Ok(Queued::Now | Queued::Before))), "{all:?}");
    assert_eq!(ledger.totals().await.unwrap().winners, 5);
    ledger.close().await;
}

/// Once recipientRand is known its sender can make winners at will: neither without end, nor before others.
pub async fn one_that_floods_holds_up_no_other(books: &impl Books) {
    let ledger = books.open().await;
    let late = |n: u8, nonces: std::ops::Range<u32>| PaymentReceipt {
        last_seen_block: 50,
        ..receipt("a", n, nonces.map(winning).collect())
    };
    let mut kept = 0;
    for n in 1..=3 {
        kept += ledger.receive_payment(&late(n, 0..400)).await.unwrap().new_winners;
    }
    assert_eq!(kept, plan::MOST_WAITING, "of 1200");
    let paid = ledger.receive_payment(&receipt("a", 4, vec![winning(1)])).await.unwrap();
    assert_eq!((paid.credited_tickets, paid.new_winners), (1, 1), "what is credited is kept");

    let wide = QueueLimits { all: 2_000, sender: 9 };
    let other = |nonce| {
        let mut winner = brought(5, nonce);
        winner.ticket.sender = RECIPIENT;
        winner.ticket_hash = winner.ticket.hash();
        winner
    };
    for nonce in 1..=2 {
        assert_eq!(ledger.queue_winner(&other(nonce), wide, 4).await.unwrap(), Queued::Now);
    }
    for first in [ledger.winners_due(50, 4).await, ledger.winners_to_hand_over(50, 4).await] {
        let senders: Vec<_> = first.unwrap().iter().map(|w| w.winner.ticket.sender).collect();
        assert_eq!(senders, [SENDER, RECIPIENT, SENDER, RECIPIENT], "in turn");
    }
    ledger.close().await;
}

/// What expires first goes first; within a round senders take turns with their largest.
pub async fn winners_are_due_in_the_order_of_policy(books: &impl Books) {
    let ledger = books.open().await;
    let limits = QueueLimits { all: 99, sender: 99 };
    // Largest as a number, not as a text: 9 is less than 10.
    let came = [(8, SENDER, 9), (8, SENDER, 10), (7, SENDER, 9), (7, SENDER, 1_000)];
    let came = came.into_iter().chain([(8, RECIPIENT, 2), (8, SENDER, 11), (7, RECIPIENT, 90)]);
    for (nonce, (round, sender, wei)) in (1_u32..).zip(came) {
        let mut winner = brought(1, nonce);
        winner.ticket.sender = sender;
        winner.ticket.face_value = Wei::from_u64(wei);
        winner.ticket.expiration_params.creation_round = round;
        winner.ticket_hash = winner.ticket.hash();
        assert_eq!(ledger.queue_winner(&winner, limits, 1).await.unwrap(), Queued::Now);
    }
    let want = [
        (7, SENDER, "1000"),
        (7, RECIPIENT, "90"),
        (7, SENDER, "9"),
        (8, SENDER, "11"),
        (8, RECIPIENT, "2"),
        (8, SENDER, "10"),
        (8, SENDER, "9"),
    ];
    for (found, limit) in [
        (ledger.winners_due(50, 9).await, 9),
        (ledger.winners_due(50, 3).await, 3),
        (ledger.winners_to_hand_over(50, 9).await, 9),
    ] {
        let found = found.unwrap();
        let of = |winner: &StoredWinner| {
            let ticket = &winner.winner.ticket;
            let round = ticket.expiration_params.creation_round;
            (round, ticket.sender, ticket.face_value.to_string())
        };
        let found: Vec<_> = found.iter().map(of).collect();
        let want = want
            .iter()
            .take(limit)
            .map(|(round, sender, wei)| (*round, *sender, (*wei).to_owned()));
        assert_eq!(found, want.collect::<Vec<_>>(), "{limit}");
    }
    ledger.close().await;
}

/// A redemption whose block may be taken back is looked at again until it is final, and redeemed again when it is gone.
pub async fn a_redemption_that_was_taken_back_waits_again(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![winning(1), winning(2)])).await.unwrap();
    let due = ledger.winners_due(50, 9).await.unwrap();
    let [one, two] = [0, 1].map(|at: usize| due[at].winner.ticket_hash);
    let fence = ledger.redeemer().await.unwrap().unwrap();
    let [first, second] = [8, 9].map(B256::repeat_byte);
    ledger.mark_handed_over(two, 2).await.unwrap();
    for (ticket, block) in [(one, Some(7)), (two, Some(0))] {
        ledger.mark_redeemed(ticket, Some(first), block, None, 3).await.unwrap();
        // Said twice it is the same.
        ledger.mark_redeemed(ticket, None, None, None, 4).await.unwrap();
    }
    let unsettled = async |ledger: &Ledger, block| {
        let found = ledger.unsettled_redemptions(block, 9).await.unwrap();
        found.iter().map(|winner| winner.winner.ticket_hash).collect::<Vec<_>>()
    };
    assert_eq!(unsettled(&ledger, 6).await, [two], "its block is not known: it is looked for");
    assert_eq!(unsettled(&ledger, 7).await, [two, one]);
    assert_eq!(ledger.unsettled_redemptions(7, 1).await.unwrap().len(), 1);
    ledger.close().await;

    let ledger = books.open().await;
    let old = fence;
    let fence = ledger.redeemer().await.unwrap().unwrap();
    assert!(!ledger.settle_redemption(one, old, Standing::Gone, None, 5).await.unwrap());
    let short = Some("paid 0 of 5 wei");
    let later = Standing::InBlock { tx_hash: Some(second), block: 9 };
    assert!(ledger.settle_redemption(two, fence, later, short, 5).await.unwrap());
    assert_eq!(unsettled(&ledger, 8).await, [one]);
    let shown = ledger.winners_with(WinnerStatus::Redeemed, 9).await.unwrap();
    assert_eq!(shown.iter().map(|w| w.tx_hash).collect::<Vec<_>>(), [Some(first), Some(second)]);
    let said: Vec<_> = shown.iter().map(|w| w.reason.as_deref()).collect();
    assert_eq!(said, [None, short], "what was paid is known now");

    assert!(ledger.settle_redemption(one, fence, Standing::Gone, None, 6).await.unwrap());
    assert!(ledger.settle_redemption(two, fence, Standing::Gone, None, 6).await.unwrap());
    assert!(!ledger.settle_redemption(one, fence, Standing::Gone, None, 6).await.unwrap(), "once");
    assert!(unsettled(&ledger, u64::MAX).await.is_empty());
    assert_eq!(ledger.totals().await.unwrap().redeemed, 0);
    let due = ledger.winners_due(50, 9).await.unwrap();
    assert_eq!(due.len(), 2, "also the one that was handed over");
    assert!(due.iter().all(|w| w.tx_hash.is_none() && w.reason.is_some()), "{due:?}");

    assert!(ledger.begin_redemption(one, fence, 7).await.unwrap());
    assert!(!ledger.settle_redemption(one, fence, Standing::Gone, None, 8).await.unwrap());
    ledger.mark_redeemed(one, Some(second), Some(11), short, 8).await.unwrap();
    let end = Standing::Final { tx_hash: None };
    assert!(ledger.settle_redemption(one, fence, end, short, 9).await.unwrap());
    assert!(
        !ledger.settle_redemption(one, fence, Standing::Gone, None, 10).await.unwrap(),
        "final"
    );
    let shown = ledger.winners_with(WinnerStatus::Redeemed, 9).await.unwrap();
    assert_eq!((shown.len(), shown[0].tx_hash), (1, Some(second)));
    assert_eq!(shown[0].reason.as_deref(), short, "it is final, and was paid less all the same");
    // One that was paid less at first, and in another block in whole.
    assert!(ledger.begin_redemption(two, fence, 10).await.unwrap());
    ledger.mark_redeemed(two, Some(first), Some(12), short, 10).await.unwrap();
    assert!(ledger.settle_redemption(two, fence, end, None, 11).await.unwrap());
    let shown = ledger.winners_with(WinnerStatus::Redeemed, 9).await.unwrap();
    let said: Vec<_> = shown.iter().map(|w| w.reason.as_deref()).collect();
    assert_eq!(said, [short, None]);
    assert!(unsettled(&ledger, u64::MAX).await.is_empty());
    ledger.close().await;
}

/// One that is put off when it was its turn was tried; one that is held where it is was not.
pub async fn what_is_put_off_was_tried(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![winning(1)])).await.unwrap();
    let one = ledger.winners(1).await.unwrap()[0].winner.ticket_hash;
    let fence = ledger.redeemer().await.unwrap().unwrap();
    let stored = async || {
        let stored = ledger.winners(1).await.unwrap().remove(0);
        (stored.attempts, stored.retry_block)
    };
    for (reason, retry_block, want) in [
        ("held", 0, (0, 0)),
        ("poor", 60, (1, 60)),
        ("poor", 62, (2, 62)),
        ("held", 62, (2, 62)),
        ("L1 went back", 50, (2, 50)),
    ] {
        ledger.requeue(one, fence, reason, retry_block, 1).await.unwrap();
        assert_eq!(stored().await, want, "{reason}");
    }
    // Begun it was counted already.
    assert!(ledger.begin_redemption(one, fence, 2).await.unwrap());
    assert_eq!(stored().await, (3, 50));
    ledger.requeue(one, fence, "failed", 70, 3).await.unwrap();
    assert_eq!(stored().await, (3, 70));
    ledger.requeue(one, Fence(fence.0 - 1), "old", 99, 4).await.unwrap();
    assert_eq!(stored().await, (3, 70));
    ledger.mark_redeemed(one, None, None, None, 5).await.unwrap();
    assert_eq!(stored().await, (3, 70));
    ledger.close().await;
}

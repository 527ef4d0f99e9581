//! What a payment and a fee do to the books: pure, over what was read. A store reads under locks, asks
//! here, and writes what it is told.

use super::{Account, AccountKey, Debit, PaymentReceipt, PaymentTaken};
use core::cmp::Reverse;
use penstock_domain::{B256, Rational, U256};
use penstock_payments::{Effect, NonceSet, SessionPrice, Winner};

/// Nonces that are used up from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNonces {
    /// Key of their set.
    pub offer: B256,
    /// L1 block from which the set may be dropped.
    pub expiration_block: U256,
    /// Not seen before, each once.
    pub nonces: Vec<u32>,
}

/// What to write for a payment, and what to answer.
#[derive(Debug)]
pub struct PaymentPlan {
    /// To be recorded.
    pub nonces: Option<NewNonces>,
    /// To be stored, unless they are.
    pub winners: Vec<Winner>,
    /// Whether `taken.account` is to be stored, with a line in the journal.
    pub credits: bool,
    /// The answer, but for the number of new winners, which the store finds out.
    pub taken: PaymentTaken,
}

/// Winners of one sender that wait for redemption, from which on payments that credit nothing add none. Once an
/// offer's recipientRand is on the chain its sender can make winners at will; they are worth something
/// (payments.md section 11 keeps them), but not room without end to one whose money is long gone.
pub const MOST_WAITING: usize = 1_000;

impl PaymentPlan {
    /// Whether [`Self::keep_within`] has a say.
    pub fn is_bounded(&self) -> bool {
        !self.credits && !self.winners.is_empty()
    }

    /// Drops winners that credit nothing and for which there is no room: so many of the sender wait.
    pub fn keep_within(&mut self, waiting: u64) {
        if self.is_bounded() {
            let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
            self.winners.truncate(MOST_WAITING.saturating_sub(waiting));
        }
    }
}

/// What becomes of a payment: `VerifiedPayment::settle` says it, over what the books say now.
pub fn payment(
    receipt: &PaymentReceipt,
    before: Option<Account>,
    seen: NonceSet,
    forgotten_through: u64,
) -> PaymentPlan {
    let price = SessionPrice {
        fixed: before
            .as_ref()
            .filter(|account| account.updated_ms >= receipt.price_stale_before_ms)
            // What is left of an earlier session is worth what it is; the next one's price is what it is paid for.
            .filter(|_| receipt.for_start.is_none())
            // A price of nobody's in particular gives way to one that was offered for this work.
            .filter(|account| receipt.work.is_none() || account.pin_work.is_some())
            .and_then(|account| account.fixed_price.as_ref()),
        own: &receipt.own_price,
    };
    let last_seen_block = receipt.last_seen_block.max(forgotten_through);
    let outcome = receipt.verified.settle(seen, last_seen_block, &price);
    let mut nonces: Option<NewNonces> = None;
    let (mut winners, mut tickets, mut pinned) = (Vec::new(), 0_u64, None);
    for effect in outcome.effects {
        match effect {
            Effect::RecordNonce { recipient_rand_hash: offer, sender_nonce, expiration_block } => {
                // All tickets of a payment are of one offer.
                let none = || NewNonces { offer, expiration_block, nonces: Vec::new() };
                nonces.get_or_insert_with(none).nonces.push(sender_nonce);
            }
            Effect::QueueWinner(winner) => winners.push(*winner),
            Effect::Credit { .. } => tickets = tickets.saturating_add(1),
            Effect::FixPrice(price) => pinned = Some(price),
        }
    }
    let credits = tickets > 0;
    let account = if credits {
        let new = || Account::new(receipt.account.clone(), receipt.now_ms);
        let mut account = before.unwrap_or_else(new);
        account.credited += &outcome.credited;
        account.tickets = account.tickets.saturating_add(tickets);
        account.updated_ms = receipt.now_ms;
        if pinned.is_some() {
            account.fixed_price = pinned;
            account.pin_floor = Some(receipt.pin_floor.clone());
            account.pin_work.clone_from(&receipt.work);
        }
        Some(account)
    } else {
        // A payment without a good ticket opens no account. (A session whose price is 0 needs
        // none: nothing is ever debited there.)
        before
    };
    let taken = PaymentTaken {
        credited: outcome.credited,
        credited_tickets: tickets,
        new_winners: 0,
        error: outcome.error,
        account,
        is_in_hand: false,
    };
    PaymentPlan { nonces, winners, credits, taken }
}

/// Accounts of a sender's that one start looks at; those that nobody touched for longest are first, so that with more
/// than these all have their turn.
pub const MOST_STARTS: u32 = 256;

/// Accounts for sessions that nobody runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// With something left, the most first.
    pub free: Vec<AccountKey>,
    /// With nothing, since a while.
    pub spent: Vec<AccountKey>,
}

impl Left {
    /// Of these accounts.
    pub fn of(accounts: Vec<Account>, spent_before_ms: i64) -> Self {
        let (mut with, without): (Vec<_>, Vec<_>) =
            accounts.into_iter().partition(|account| account.balance().is_positive());
        with.sort_by_cached_key(|account| Reverse(account.balance()));
        let old = without.into_iter().filter(|account| account.updated_ms < spent_before_ms);
        Self {
            free: with.into_iter().map(|account| account.key).collect(),
            spent: old.map(|account| account.key).collect(),
        }
    }
}

/// Accounts from which what is left is carried over at once.
pub const MOST_CARRIED: usize = 16;

/// What was left on accounts of a sender's, and has gone to another one of his.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// As they are afterwards, with the wei that have gone from each.
    pub from: Vec<(Account, Rational)>,
    /// As it is afterwards.
    pub to: Account,
    /// Wei that have come.
    pub amount: Rational,
}

/// Carries over what is left of each account beside what jobs hold of it, which is given with it. The accounts that it
/// comes from count as untouched: an old price of theirs stays old.
pub fn carry(to: Account, left: Vec<(Account, Rational)>, now_ms: i64) -> Carried {
    let mut carried = Carried { from: Vec::new(), to, amount: Rational::ZERO };
    for (mut account, held) in left {
        let free = &account.balance() - &held;
        if !free.is_positive() || account.key == carried.to.key {
            continue;
        }
        account.credited -= &free;
        carried.to.credited += &free;
        carried.amount += &free;
        carried.to.updated_ms = now_ms;
        carried.from.push((account, free));
    }
    carried
}

/// What is set aside of an account when a fee is booked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aside {
    /// By the fee's own job; `None` if that hold is gone.
    pub own: Option<Rational>,
    /// By all others; 0 where [`Aside::matters`] says that it is of no account.
    pub others: Rational,
}

impl Aside {
    /// Whether the holds of others have a say: what a job has set aside is its own.
    pub fn matters(debit: &Debit, own: Option<&Rational>) -> bool {
        let Some(own) = own else { return debit.hold.is_some() };
        debit.covered && debit.fee() > *own
    }
}

/// The account after a fee, or what of its balance was there for a fee that it does not cover.
///
/// A hold that is gone (its process was taken for dead, so that others could begin on the same balance) has
/// to be there anew: what the job needed to begin, or all of the fee.
pub fn debit(debit: &Debit, before: Option<Account>, aside: &Aside) -> Result<Account, Rational> {
    let mut account = before.unwrap_or_else(|| Account::new(debit.account.clone(), debit.now_ms));
    let (balance, fee) = (account.balance(), debit.fee());
    let free = &balance - &aside.others;
    let usable = match &aside.own {
        Some(own) => free.clone().max(own.clone()).min(balance),
        None => free.clone(),
    };
    let is_lost = debit.hold.as_ref().filter(|_| aside.own.is_none());
    let is_there = match is_lost {
        _ if fee <= usable => true,
        Some(lost) => !debit.covered && lost.least <= free,
        None => !debit.covered,
    };
    if !is_there {
        return Err(usable);
    }
    account.debited += &fee;
    if account.updated_ms < debit.price_stale_before_ms {
        (account.fixed_price, account.pin_floor, account.pin_work) = (None, None, None);
    }
    account.updated_ms = debit.now_ms;
    Ok(account)
}

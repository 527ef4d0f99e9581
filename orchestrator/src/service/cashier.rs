//! Money: prices, ticket offers, payments in, fees out.
//!
//! Safer than the reference where it trusts the request (payments.md section 18): what work costs
//! is the session's pinned price, or this orchestrator's own; never what a request states. A price
//! pinned holds if its offer was made for this work, which the offer itself says (`penstock_payments`), or if
//! it is not below the lowest that the work costs at that moment: an offer made for a cheap model does not
//! buy a dear one.

use super::{
    counted,
    funds::Funds,
    holds::Hold,
    terms::{PRICE_STALE_AFTER_MS, Terms, shown, work_name, work_of},
};
use crate::{
    chain_view::{ChainView, Snapshot},
    clock,
    pricing::{book::Prices, list::NoEther, lowest_offer},
    redeemer::floats::Floats,
    release::Reason,
    secrets,
};
use penstock_chain::ChainError;
use penstock_domain::{Address, Capabilities, Rational, U256};
use penstock_ledger::orchestrator::{
    AccountKey, Booked, Debit, Held, HoldSpent, LedgerError, OrchestratorLedger, PaymentReceipt,
    PaymentTaken, Start,
};
use penstock_payments::{
    OfferConfig, OfferError, OfferRequest, Payment, PaymentContext, PaymentError, PriceDoesNotFit,
    RecipientContext, RecipientSecret, TicketError, TicketParams, VerifiedPayment, fee, make_offer,
    price_with_overhead, verify_payment, wire_price,
};
use penstock_telemetry::step;
use std::{fmt, sync::Arc};
use thiserror::Error;
use tracing::{Instrument, field::Empty};
use uuid::Uuid;

/// More tickets than this are verified off the async threads.
const INLINE_TICKETS: usize = 4;

/// Why money did not move.
#[derive(Debug, Error)]
pub enum MoneyError {
    /// The payment is bad: the sender's fault; the text is for it.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// No offer is possible for this sender: its reserve is too small, or our own limit is.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// As far as is known here we are not in the pool this round, so that no ticket to us could be redeemed: not the
    /// sender's fault. The next look at the chain, or the next round, may show otherwise.
    #[error("orchestrator {recipient} is inactive in round {round}, cannot process payments")]
    Inactive {
        /// We.
        recipient: Address,
        /// The round.
        round: u64,
    },
    /// A price of the operator is beyond the wire's numbers.
    #[error(transparent)]
    Price(#[from] PriceDoesNotFit),
    /// The chain did not answer: ours, retry.
    #[error("the chain is not available")]
    Chain(#[from] ChainError),
    /// The ledger did not take it: ours, retry; nothing was credited.
    #[error("the ledger is not available")]
    Ledger(#[from] LedgerError),
    /// What was set aside for a job is lost, because the ledger did not hear of this process for too long, and
    /// others have begun on it: ours; nothing was booked.
    #[error("the ledger is not available")]
    Lost,
    /// The price is in dollars, and what an ether costs is not known: ours, retry.
    #[error(transparent)]
    Ether(#[from] NoEther),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] secrets::SecretError),
    /// A task died.
    #[error("internal error")]
    Internal,
}

/// Takes money and gives offers. One per process; absent off-chain.
pub struct Cashier {
    /// Who is paid.
    pub recipient: Address,
    /// The secret behind offers.
    pub secret: RecipientSecret,
    /// EV, gas, face value limit.
    pub config: OfferConfig,
    /// The operator's prices.
    pub prices: Arc<Prices>,
    /// Whether redemption costs are added to them.
    pub auto_adjust: bool,
    /// The books.
    pub ledger: Arc<dyn OrchestratorLedger>,
    /// The chain.
    pub chain: Arc<ChainView>,
    /// What a separate redeemer says of senders; absent where this process redeems.
    pub floats: Option<Arc<Floats>>,
}

impl Cashier {
    /// What a new offer to this sender costs per unit: the account's pinned price, else the price
    /// of the job with overhead (orchestrator-wire.md section 9). As the wire states it.
    pub async fn price(
        &self,
        sender: Address,
        account: Option<&AccountKey>,
        job: Option<&Capabilities>,
    ) -> Result<Asked, MoneyError> {
        let pinned = match account {
            Some(key) => self.pinned(key, clock::now_ms()).await?,
            None => None,
        };
        if let Some(price) = pinned {
            return Ok(Asked { price, work: None });
        }
        let price = match self.prices.told(sender, job) {
            Some(told) => wire_price(&told)?.rational(),
            None => self.price_now(sender, self.prices.base(sender, job)?).await?,
        };
        Ok(Asked::now(price, job))
    }

    /// The same for work with terms of its own. An offer at a price that is pinned may say the work's name as well: the
    /// account is of this work alone.
    pub async fn price_by(&self, account: &AccountKey, terms: Terms) -> Result<Asked, MoneyError> {
        let known = self.ledger.account(account).await?;
        let price = match terms.pinned(known.as_ref(), clock::now_ms()) {
            Some(pinned) => pinned.clone(),
            None => self.price_now(account.sender(), terms.own?).await?,
        };
        Ok(Asked { price, work: terms.work })
    }

    /// With overhead, as the wire states it.
    pub async fn price_of(&self, sender: Address, base: Rational) -> Result<Asked, MoneyError> {
        Ok(Asked { price: self.price_now(sender, base).await?, work: None })
    }

    async fn price_now(&self, sender: Address, base: Rational) -> Result<Rational, MoneyError> {
        if !self.auto_adjust {
            return Ok(wire_price(&base)?.rational());
        }
        let multiplier = if base.is_positive() {
            let snapshot = self.chain.current().await?;
            let max_float = self.max_float(sender).await?;
            let multiplier = self.config.tx_cost_multiplier(snapshot.gas_price, &max_float);
            multiplier.map_err(|error| self.no_offer(error, &snapshot))?
        } else {
            Rational::ZERO
        };
        Ok(wire_price(&price_with_overhead(&base, &multiplier))?.rational())
    }

    /// Ticket parameters for a sender at a price, for whatever work it is enough for.
    pub async fn offer(
        &self,
        sender: Address,
        price: &Rational,
    ) -> Result<TicketParams, MoneyError> {
        self.offer_by(sender, price, U256::from_be_bytes(secrets::random::<32>()?)).await
    }

    /// Ticket parameters for a sender at what was asked. A price that is the work's own holds for it as long
    /// as the parameters do, at every process with the same secret, whatever the work costs by then.
    pub async fn offer_as_asked(
        &self,
        sender: Address,
        asked: &Asked,
    ) -> Result<TicketParams, MoneyError> {
        let Some(work) = &asked.work else { return self.offer(sender, &asked.price).await };
        let seed = self.secret.seed_for_work(secrets::random::<8>()?, work);
        self.offer_by(sender, &asked.price, seed).await
    }

    async fn offer_by(
        &self,
        sender: Address,
        price: &Rational,
        seed: U256,
    ) -> Result<TicketParams, MoneyError> {
        let snapshot = self.chain.current().await?;
        let max_float =
            if price.is_positive() { self.max_float(sender).await? } else { Rational::ZERO };
        let request = OfferRequest {
            recipient: self.recipient,
            sender,
            price,
            gas_price: snapshot.gas_price,
            max_float: &max_float,
            rounds: snapshot.round_view(),
            seed,
        };
        let offer = make_offer(&self.config, &self.secret, &request);
        offer.map_err(|error| self.no_offer(error, &snapshot))
    }

    /// A reserve has a share for nobody but those in the pool: while we are not there, its size says nothing.
    fn no_offer(&self, error: OfferError, snapshot: &Snapshot) -> MoneyError {
        let is_in_pool = snapshot.active && snapshot.pool_size > 0;
        match error {
            OfferError::SenderReserve { .. } if !is_in_pool => self.inactive(snapshot),
            other => other.into(),
        }
    }

    fn inactive(&self, snapshot: &Snapshot) -> MoneyError {
        let round = snapshot.rounds.last_initialized_round;
        MoneyError::Inactive { recipient: self.recipient, round }
    }

    /// What stands behind tickets to us.
    pub fn funds(&self) -> Funds {
        Funds {
            ledger: Arc::clone(&self.ledger),
            chain: Arc::clone(&self.chain),
            redeem_gas: self.config.redeem_gas,
        }
    }

    /// Who redeems says it; where that is another process and does not, the cautious rule. Never more than
    /// the share of the reserve that the chain shows here.
    async fn max_float(&self, sender: Address) -> Result<Rational, MoneyError> {
        let float = self.funds().sender_float(sender).await?;
        let Some(floats) = &self.floats else { return Ok(float.max_float()) };
        let share = float.reserve_alloc();
        if !share.is_positive() {
            return Ok(share);
        }
        if let Some(told) = floats.of(sender).await {
            return Ok(Rational::from(told).min(share));
        }
        metrics::counter!("orchestrator_cautious_max_floats_total").increment(1);
        self.funds().cautious_max_float(sender).await
    }

    /// Takes a payment into an account (payments.md section 11), whose key says what the work is.
    /// When this returns `Ok`, all of it is on disk. The error of a ticket is reported only after
    /// the rest was stored.
    pub async fn take(
        &self,
        account: &AccountKey,
        payment: Payment,
    ) -> Result<PaymentTaken, MoneyError> {
        self.take_for(account, work_of(account.session()).as_ref(), payment).await
    }

    /// The same for an account whose key does not say it; `None` is transcoding.
    pub async fn take_for(
        &self,
        account: &AccountKey,
        work: Option<&Capabilities>,
        payment: Payment,
    ) -> Result<PaymentTaken, MoneyError> {
        let terms = self.terms_of(account.sender(), work);
        self.take_on(account, terms, payment, None).await
    }

    /// The same for a session that has yet to begin: what is left of it when nobody begins it, or at its end, is not
    /// lost ([`Self::adopt_start`]).
    pub async fn take_for_start(
        &self,
        start: &Start,
        work: &Capabilities,
        payment: Payment,
    ) -> Result<PaymentTaken, MoneyError> {
        let terms = self.terms_of(start.account.sender(), Some(work));
        self.take_on(&start.account, terms, payment, Some(start.attempt)).await
    }

    /// The same for a session that costs `base` a unit.
    pub async fn take_for_session(
        &self,
        start: &Start,
        base: Rational,
        payment: Payment,
    ) -> Result<PaymentTaken, MoneyError> {
        self.take_on(&start.account, self.terms_at(base), payment, Some(start.attempt)).await
    }

    /// The same for work that costs `base`, whoever has the account in his hands.
    pub async fn take_at(
        &self,
        account: &AccountKey,
        base: Rational,
        payment: Payment,
    ) -> Result<PaymentTaken, MoneyError> {
        self.take_by(account, self.terms_at(base), payment).await
    }

    /// The same for work with terms of its own.
    pub async fn take_by(
        &self,
        account: &AccountKey,
        terms: Terms,
        payment: Payment,
    ) -> Result<PaymentTaken, MoneyError> {
        self.take_on(account, terms, payment, None).await
    }

    /// Whether a payment comes with tickets of an offer that says this work's name. Its price is what was asked, if it is
    /// taken: that an offer is ours is checked with its tickets.
    pub fn was_asked(&self, payment: &Payment, work: &str) -> bool {
        let params = payment.ticket_params.as_ref().filter(|_| !payment.tickets.is_empty());
        params.is_some_and(|params| self.secret.is_seed_for_work(params.seed, work))
    }

    async fn take_on(
        &self,
        account: &AccountKey,
        terms: Terms,
        payment: Payment,
        for_start: Option<Uuid>,
    ) -> Result<PaymentTaken, MoneyError> {
        let step = step!("receive_payment", credited_tickets = Empty, new_winners = Empty);
        let receiving = Box::pin(self.receive(account, terms, payment, for_start));
        let taken =
            receiving.instrument(step.clone()).await.inspect_err(counted::payment_refused)?;
        step.record("credited_tickets", taken.credited_tickets);
        step.record("new_winners", taken.new_winners as u64);
        Ok(taken)
    }

    async fn receive(
        &self,
        account: &AccountKey,
        terms: Terms,
        payment: Payment,
        for_start: Option<Uuid>,
    ) -> Result<PaymentTaken, MoneyError> {
        let snapshot = self.chain.current().await?;
        let verified = self.verify(payment).await?;
        let now_ms = clock::now_ms();
        // What was asked for this work holds for it, however little that is.
        let asked = match (&verified, &terms.work) {
            (VerifiedPayment::Tickets { offer, price, .. }, Some(work)) => {
                offer.is_for_work(&self.secret, work).then_some(price)
            }
            _ => None,
        };
        let own_price = match (&terms.own, asked) {
            (Ok(own), _) => own.clone(),
            // What was agreed, or offered, goes on without anybody who says what an ether costs.
            (Err(error), asked) => {
                let account = self.ledger.account(account).await?;
                let agreed = terms.pinned(account.as_ref(), now_ms).or(asked);
                agreed.cloned().ok_or(*error)?
            }
        };
        let is_asked = asked.is_some();
        let (pin_floor, work) = match (is_asked, terms.floor) {
            (true, _) => (Rational::ZERO, terms.work),
            (false, Some(floor)) => (floor, terms.work),
            // Credited, at no price for this work.
            (false, None) => (own_price.clone(), None),
        };
        let receipt = PaymentReceipt {
            account: account.clone(),
            verified,
            pin_floor,
            own_price,
            work,
            last_seen_block: snapshot.rounds.last_seen_l1_block,
            price_stale_before_ms: now_ms.saturating_sub(PRICE_STALE_AFTER_MS),
            for_start,
            now_ms,
        };
        let taken = self.ledger.receive_payment(&receipt).await?;
        counted::payment_taken(&taken);
        if taken.new_winners > 0 {
            tracing::info!(sender = %account.sender(), session = shown(account.session()),
                winners = taken.new_winners, "winning tickets stored");
        }
        match taken.error {
            Some(error) => Err(PaymentError::Ticket(error).into()),
            None => Ok(taken),
        }
    }

    async fn verify(&self, payment: Payment) -> Result<VerifiedPayment, MoneyError> {
        let snapshot = self.chain.current().await?;
        let (Some(params), Some(sender)) = (&payment.ticket_params, payment.sender) else {
            // Nothing that needs the chain: no tickets, or tickets by nobody.
            let context = self.context(Ok(0), snapshot.rounds.last_initialized_round, true);
            return Ok(verify_payment(&payment, &context)?);
        };
        let is_ours = params.recipient == self.recipient;
        if is_ours && !snapshot.active {
            return Err(self.inactive(&snapshot));
        }
        let withdraw_round = match self.chain.sender(sender).await {
            Ok(known) => Ok(known.info.withdraw_round),
            Err(error) => Err(error.to_string()),
        };
        // Whether somebody else is, is no business of ours: his tickets are not for us.
        let active = is_ours;
        let round = snapshot.rounds.last_initialized_round;
        if payment.tickets.len() <= INLINE_TICKETS {
            return Ok(verify_payment(&payment, &self.context(withdraw_round, round, active))?);
        }
        let (recipient, secret) = (self.recipient, self.secret.clone());
        tokio::task::spawn_blocking(move || {
            let context = PaymentContext {
                recipient: RecipientContext {
                    recipient,
                    secret: &secret,
                    withdraw_round,
                    last_initialized_round: round,
                },
                recipient_active: active,
            };
            verify_payment(&payment, &context)
        })
        .await
        .map_err(|_| MoneyError::Internal)?
        .map_err(MoneyError::from)
    }

    fn context(
        &self,
        withdraw_round: Result<u64, String>,
        last_initialized_round: u64,
        recipient_active: bool,
    ) -> PaymentContext<'_> {
        PaymentContext {
            recipient: RecipientContext {
                recipient: self.recipient,
                secret: &self.secret,
                withdraw_round,
                last_initialized_round,
            },
            recipient_active,
        }
    }

    /// The price pinned for an account, if it holds and is not stale.
    pub async fn pinned(
        &self,
        key: &AccountKey,
        now_ms: i64,
    ) -> Result<Option<Rational>, MoneyError> {
        let account = self.ledger.account(key).await?;
        Ok(account
            .filter(|a| a.updated_ms >= now_ms.saturating_sub(PRICE_STALE_AFTER_MS))
            .and_then(|a| a.pinned().cloned()))
    }

    /// Sets aside what a job of so many units will cost, if its work may begin: it is free, or at
    /// least one configured ticket EV is there (payments.md section 12) beside what the account's
    /// jobs under way hold.
    pub async fn begin(
        &self,
        key: &AccountKey,
        units: u64,
    ) -> Result<Result<Hold, Shortfall>, MoneyError> {
        self.begin_for(key, work_of(key.session()).as_ref(), units).await
    }

    /// The same for an account whose key does not say what the work is.
    pub async fn begin_for(
        &self,
        key: &AccountKey,
        work: Option<&Capabilities>,
        units: u64,
    ) -> Result<Result<Hold, Shortfall>, MoneyError> {
        let account = self.ledger.account(key).await?;
        let price = self.terms_of(key.sender(), work).agreed(account.as_ref(), clock::now_ms())?;
        let amount = penstock_payments::fee(units, &price);
        self.set_aside(key, price, amount, self.config.ticket_ev.into()).await
    }

    /// The price of work that is paid while it lasts, if it may begin: what the first `units` of it cost is there,
    /// and a ticket's worth at least. Nothing is set aside: the account is this work's own. `has_paid`: something was
    /// credited for it just now.
    pub async fn begin_lasting(
        &self,
        key: &AccountKey,
        work: Option<&Capabilities>,
        units: u64,
        has_paid: bool,
    ) -> Result<Result<Hold, Shortfall>, MoneyError> {
        let account = self.ledger.account(key).await?;
        let price = self.terms_of(key.sender(), work).agreed(account.as_ref(), clock::now_ms())?;
        let least = fee(units, &price).max(self.config.ticket_ev.into());
        if price.is_positive() && !has_paid {
            return Ok(Err(Shortfall::new(Rational::ZERO, least)));
        }
        self.set_aside(key, price, Rational::ZERO, least).await
    }

    /// Sets aside what so many units of work that costs `own` will cost, if the balance covers all of
    /// it beside what the account's other jobs hold.
    pub async fn begin_at(
        &self,
        key: &AccountKey,
        own: &Rational,
        units: u64,
    ) -> Result<Result<Hold, Shortfall>, MoneyError> {
        self.begin_by(key, &self.terms_at(own.clone()), units).await
    }

    /// The same for work with terms of its own.
    pub async fn begin_by(
        &self,
        key: &AccountKey,
        terms: &Terms,
        units: u64,
    ) -> Result<Result<Hold, Shortfall>, MoneyError> {
        let price = self.agreed_by(key, terms).await?;
        let amount = penstock_payments::fee(units, &price);
        self.set_aside(key, price, amount.clone(), amount).await
    }

    /// What an account's next work costs by these terms: what it has paid for, or what is asked now.
    pub async fn agreed_by(&self, key: &AccountKey, terms: &Terms) -> Result<Rational, MoneyError> {
        let account = self.ledger.account(key).await?;
        Ok(terms.agreed(account.as_ref(), clock::now_ms())?)
    }

    /// Free work needs nothing.
    async fn set_aside(
        &self,
        key: &AccountKey,
        price: Rational,
        amount: Rational,
        least: Rational,
    ) -> Result<Result<Hold, Shortfall>, MoneyError> {
        let is_free = !price.is_positive();
        let hold = Hold::new(Arc::clone(&self.ledger), key.clone(), price);
        if is_free {
            return Ok(Ok(hold));
        }
        Ok(match hold.set(amount, least.clone()).await? {
            Held::Aside => Ok(hold),
            Held::Short(free) => Err(Shortfall::new(free.unwrap_or_default(), least)),
        })
    }

    fn terms_of(&self, sender: Address, work: Option<&Capabilities>) -> Terms {
        let own = self.prices.base(sender, work);
        let floor = Some(self.prices.floor(sender, work));
        Terms { floor, own, work: Some(work_name(work)) }
    }

    fn terms_at(&self, own: Rational) -> Terms {
        let floor = Some(lowest_offer(&own, self.auto_adjust));
        Terms { floor, own: Ok(own), work: None }
    }

    /// What an account has; nothing without one.
    pub async fn balance(&self, key: &AccountKey) -> Result<Rational, MoneyError> {
        let account = self.ledger.account(key).await?;
        Ok(account.map_or(Rational::ZERO, |account| account.balance()))
    }

    /// Books the fee of a job at the price agreed when it began, once per job id, and ends its hold.
    /// Free work leaves no trace.
    pub async fn debit(&self, hold: &Hold, job_id: String, units: u64) -> Result<(), MoneyError> {
        let step = step!("charge", units, fee_wei = %fee(units, &hold.price).to_fixed(0));
        let booking = self.book(hold, job_id, units, false, hold.spent(true));
        match booking.instrument(step).await? {
            Booked::Short { .. } => Err(MoneyError::Lost),
            Booked::Now(_) | Booked::Before => Ok(()),
        }
    }

    /// Books a part of what lasting work costs, once per job id, if it is set aside or free beside what other
    /// jobs hold; `spent` is what becomes of its own hold.
    pub async fn charge(
        &self,
        hold: &Hold,
        job_id: String,
        units: u64,
        spent: Option<HoldSpent>,
    ) -> Result<Booked, MoneyError> {
        self.book(hold, job_id, units, true, spent).await
    }

    async fn book(
        &self,
        hold: &Hold,
        job_id: String,
        units: u64,
        covered: bool,
        spent: Option<HoldSpent>,
    ) -> Result<Booked, MoneyError> {
        if units == 0 || hold.price.is_zero() {
            return Ok(Booked::Before);
        }
        let now_ms = clock::now_ms();
        let debit = Debit {
            account: hold.account.clone(),
            job_id,
            units,
            price: hold.price.clone(),
            began_ms: hold.unbooked_since_ms(),
            price_stale_before_ms: now_ms.saturating_sub(PRICE_STALE_AFTER_MS),
            now_ms,
            covered,
            hold: spent,
        };
        let booked = self.ledger.debit(&debit).await?;
        if !matches!(booked, Booked::Short { .. }) {
            hold.booked_to(now_ms, debit.hold.is_some_and(|hold| hold.ends));
        }
        Ok(booked)
    }
}

/// Work may not begin: an account has less than that takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall(Box<(Rational, Rational)>);

impl Shortfall {
    /// Wei that are there beside what other jobs hold, and that are needed: shown as whole ones, rounded against
    /// the account.
    pub fn new(free: Rational, least: Rational) -> Self {
        Self(Box::new((free.floor(), least.ceil())))
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, least) = &*self.0;
        write!(f, "{free} wei of {least} wei")
    }
}

/// A price for an offer, as the wire states it.
#[derive(Debug)]
pub struct Asked {
    /// Wei per unit.
    pub price: Rational,
    /// The work, if this is what it costs now; not if an account has pinned the price, which then holds for
    /// that account alone.
    pub work: Option<String>,
}

impl Asked {
    /// What such a job costs now.
    pub fn now(price: Rational, job: Option<&Capabilities>) -> Self {
        Self { price, work: Some(work_name(job)) }
    }
}

impl MoneyError {
    /// Whether another orchestrator may do better for the same caller: it is ours, or a share of the
    /// sender's reserve that is larger there.
    pub fn is_elsewhere_better(&self) -> bool {
        matches!(self, Self::Offer(_)) || !self.is_callers_fault()
    }

    /// Why room is given back when its job ends so.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Offer(OfferError::MaxFaceValue { .. }) => Reason::Internal,
            _ if self.is_callers_fault() => Reason::PaymentFailed,
            _ => Reason::LedgerUnavailable,
        }
    }

    /// Whether somebody whom we lean on is away, or has not seen us yet: the same may do in a moment.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Chain(_)
                | Self::Inactive { .. }
                | Self::Ledger(LedgerError::Unavailable(_))
                | Self::Lost
                | Self::Ether(_)
                | Self::Payment(PaymentError::Ticket(TicketError::SenderInfo { .. }))
        )
    }

    /// Whether the caller is at fault (400), or we are (500, 503).
    pub fn is_callers_fault(&self) -> bool {
        match self {
            Self::Payment(PaymentError::Ticket(TicketError::SenderInfo { .. })) => false,
            Self::Payment(_) | Self::Offer(OfferError::SenderReserve { .. }) => true,
            Self::Offer(OfferError::MaxFaceValue { .. })
            | Self::Price(_)
            | Self::Inactive { .. }
            | Self::Chain(_)
            | Self::Ledger(_)
            | Self::Lost
            | Self::Ether(_)
            | Self::Random(_)
            | Self::Internal => false,
        }
    }
}

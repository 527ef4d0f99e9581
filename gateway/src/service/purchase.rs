//! Buying credit at one orchestrator.
//!
//! A purchase is three steps under the session's lease: write down what is about to be bought, have
//! the signer issue tickets, deliver them (`POST /payment`). Only then is credit booked and the new
//! payment state stored, in this order. A replica that dies in between leaves the note behind; the
//! next one repeats the very same request, gets the very same tickets, delivers them, and takes
//! "nonce already seen" for "delivered". So nothing is bought twice and no ticket is lost.

use super::{
    Gateway,
    error::TryError,
    pay::read_state,
    session::{Account, JOB_PURCHASE, Purpose, SESSION_TTL_MS, Session, random_id},
    units::Terms,
};
use crate::{clock, trace};
use penstock_clients::{
    CallError, CallErrorKind, LivePayment, Next, Paid, PaidHeaders, PaymentContext,
    STATUS_PRICE_EXCEEDED,
};
use penstock_domain::Capabilities;
use penstock_store::{Fence, Lease, OwnerId, PendingPurchase, Saved, SessionRecord};
use penstock_telemetry::step;
use penstock_wire::{OrchestratorOffer, WireError, capabilities, json::LivePaymentCall};
use tracing::Instrument;

/// How long bought credit is believed in; orchestrators forget balances sooner or later, and then
/// say so.
const CREDIT_TTL_MS: u64 = 1_800_000;
/// Times the units are raised because the signer needs no ticket yet, within one purchase.
const MAX_RAISES: u32 = 8;
/// Purchases that a store which forgot its last second may have forgotten.
const MAX_REPLAYS: u32 = 8;
/// Times the same signer call is repeated after a failure that repeating may mend.
const SIGNER_TRIES: u32 = 3;

/// Codes of refusals that less may pass (errors.md).
const TOO_MUCH: [&str; 5] = [
    "max_tickets",
    "max_total_ev",
    "max_spend_per_hour",
    "max_spend_per_orchestrator_hour",
    "budget_exceeded",
];

/// One purchase, from the note to the booking.
pub(super) struct Purchase<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) purpose: &'a Purpose,
    pub(super) session: Session,
    /// Of the lease.
    pub(super) fence: Fence,
    pub(super) owner: &'a OwnerId,
    /// Units without which the job cannot begin; the rest is bought ahead.
    pub(super) least: u64,
}

impl Purchase<'_> {
    /// Writes down what is about to be bought; an unfinished purchase is taken up instead.
    pub(super) async fn begin(&mut self, units: u64) -> Result<(), TryError> {
        if self.session.record.purchase.is_some() {
            return Ok(());
        }
        let id = self.purpose.purchase_id(&self.session);
        let info = self.session.record.info.clone();
        self.save(|record| record.purchase = Some(PendingPurchase { id, units, info })).await
    }

    /// `repeat`: the purchase was begun by somebody else, who may have delivered it.
    pub(super) async fn issue_and_deliver(
        &mut self,
        terms: &Terms,
        repeat: bool,
    ) -> Result<(), TryError> {
        let mut repeat = repeat;
        let (mut refreshed, mut replays, mut anew) = (false, 0, false);
        loop {
            let (purchase, signed) = self.issue(terms, &mut repeat).await?;
            let LivePayment { answer, billed_units, replayed } = signed;
            // What was noted may be more or less than what was signed under this name before.
            let units = billed_units.unwrap_or(purchase.units);
            penstock_failpoint::hit("gateway.after_sign");
            let uri = &self.session.key.orchestrator;
            let delivering = async {
                let headers = PaidHeaders {
                    payment: answer.payment.clone(),
                    segment: answer.seg_creds.clone(),
                    traceparent: trace::outgoing(),
                };
                self.gateway.peers.of(self.session.via).pay(uri, &headers).await
            };
            let step = step!("deliver_payment", otel.kind = "client", orchestrator = uri, units);
            let outcome = match delivering.instrument(step).await {
                Ok(fresh) => Delivery::Credited(fresh.map(Box::new)),
                Err(error) if repeat && nonce_seen(&error) => Delivery::Credited(None),
                // The note stays: the next attempt here repeats it.
                Err(error) if may_be_delivered_later(&error) => return Err(error.into()),
                Err(error) => Delivery::Refused(error),
            };
            penstock_failpoint::hit("gateway.after_delivery");
            if let Delivery::Credited(_) = &outcome {
                let credit = self.gateway.credit_key(&self.purpose.caller, &self.session).await?;
                let (store, now) = (&self.gateway.store, clock::now());
                store.book_purchase(&credit, &purchase.id, units, CREDIT_TTL_MS, now).await?;
                metrics::counter!("penstock_gateway_units_bought_total").increment(units);
            }
            let fresh = match &outcome {
                Delivery::Credited(Some(fresh)) if self.same_account(&fresh.0) => {
                    Some(fresh.1.clone())
                }
                _ => None,
            };
            let state = answer.state.as_value().to_string();
            self.save(|record| {
                record.payment_state = Some(state);
                record.credential = Some(answer.seg_creds);
                record.purchase = None;
                if let Some(encoded) = fresh {
                    record.info = encoded;
                    record.info_at = clock::now();
                }
            })
            .await?;
            match outcome {
                Delivery::Credited(_) => return Ok(()),
                // The tickets are void where they should go; what they advanced is not.
                Delivery::Refused(error) if error.next() == Next::Refresh && !refreshed => {
                    refreshed = true;
                    repeat = false;
                    self.renew().await?;
                    self.begin(purchase.units).await?;
                }
                // The orchestrator has had these: the store forgot a purchase, and the signer gave its
                // stored answer. The state is further by one now; from there it is bought anew.
                Delivery::Refused(error) if nonce_seen(&error) && replays < MAX_REPLAYS => {
                    replays += 1;
                    repeat = false;
                    self.begin(purchase.units).await?;
                }
                // A stored answer of long ago, and the one after it: a job's key came again after its
                // payment session was forgotten here. Those tickets will not do any more.
                Delivery::Refused(error) if replayed && !anew && is_of_the_past(&error) => {
                    anew = true;
                    repeat = false;
                    let (id, info) = (random_id(), self.session.record.info.clone());
                    let units = purchase.units;
                    self.save(|record| {
                        record.payment_state = None;
                        record.purchase = Some(PendingPurchase { id, units, info });
                    })
                    .await?;
                }
                Delivery::Refused(error) => return Err(error.into()),
            }
        }
    }

    /// Has the signer issue tickets for the purchase that was written down.
    async fn issue(
        &mut self,
        terms: &Terms,
        repeat: &mut bool,
    ) -> Result<(PendingPurchase, LivePayment), TryError> {
        let (mut raises, mut refreshes, mut tries) = (0, 0, 0);
        loop {
            let Some(purchase) = self.session.record.purchase.clone() else {
                return Err(WireError::Missing("purchase").into());
            };
            let step = step!("sign_payment", otel.kind = "client", units = purchase.units);
            let error = match self.ask_signer(&purchase).instrument(step).await {
                Ok(answer) => return Ok((purchase, answer)),
                Err(TryError::Call(error)) => error,
                Err(other) => return Err(other),
            };
            if too_much_at_once(&error) {
                let (key, now) = (&self.session.key, clock::instant());
                self.gateway.paces.refused(key, purchase.units, now);
            }
            match error.next() {
                // What was bought ahead may be more than the signer makes at once, or than the account may
                // still spend; what the job needs may not.
                _ if purchase.units > self.least && too_much_at_once(&error) => {
                    let units = self.least;
                    tracing::info!(
                        refused = purchase.units,
                        units,
                        reason = error.message(),
                        "the signer refused to sell ahead"
                    );
                    self.save(|record| {
                        record.purchase = Some(PendingPurchase { units, ..purchase })
                    })
                    .await?;
                }
                Next::NoTickets if raises < MAX_RAISES => {
                    raises += 1;
                    let units = terms.after_no_tickets(purchase.units);
                    self.save(|record| {
                        record.purchase = Some(PendingPurchase { units, ..purchase })
                    })
                    .await?;
                }
                Next::Refresh if refreshes < 3 => {
                    refreshes += 1;
                    self.renew().await?;
                    // For a fixed account the note survives the renewal; its offer is the old one.
                    let info = self.session.record.info.clone();
                    self.save(|record| match &mut record.purchase {
                        Some(purchase) => purchase.info = info,
                        None => record.purchase = Some(PendingPurchase { info, ..purchase }),
                    })
                    .await?;
                }
                Next::RetrySame if tries + 1 < SIGNER_TRIES => {
                    tries += 1;
                    let pause = std::time::Duration::from_millis(100 << tries);
                    tokio::time::sleep(pause).await;
                }
                // The signer knows nothing of this state (restored, other key, other gateway's), or had
                // a payment of this job's for something else, or long ago: a new payment session
                // begins, with a purchase of its own.
                Next::GiveUp
                    if state_refused(&error)
                        && (self.session.record.payment_state.is_some()
                            || purchase.id.starts_with(JOB_PURCHASE)) =>
                {
                    tracing::warn!(
                        reason = error.message(),
                        "the signer refused a payment state or key; beginning anew"
                    );
                    let id = random_id();
                    self.save(|record| {
                        record.payment_state = None;
                        record.purchase = Some(PendingPurchase { id, ..purchase });
                    })
                    .await?;
                    *repeat = false;
                }
                _ => {
                    let next = error.next();
                    if matches!(next, Next::GiveUp | Next::PriceTooHigh | Next::NoTickets) {
                        // Final for this request: the next one must not repeat it. A price that
                        // rose during a payment session ends that session; whether the new price
                        // is acceptable is then decided afresh. Tickets that are worth too much for
                        // the caller end nothing: the next offer's may be worth less.
                        let price_rose = error.status() == Some(STATUS_PRICE_EXCEEDED);
                        self.save(|record| {
                            record.purchase = None;
                            if price_rose {
                                record.payment_state = None;
                            }
                        })
                        .await?;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    async fn ask_signer(&self, purchase: &PendingPurchase) -> Result<LivePayment, TryError> {
        let record = &self.session.record;
        let state = record.payment_state.as_deref().map(read_state).transpose()?;
        let job = encode(&self.purpose.job);
        let call = LivePaymentCall {
            orchestrator: &purchase.info,
            state: state.as_ref(),
            manifest_id: record.manifest_id.as_str(),
            in_pixels: i64::try_from(purchase.units).unwrap_or(i64::MAX),
            capabilities: &job,
            byoc_capability: match &self.purpose.account {
                Account::Brought { name, .. } => name.as_str(),
                _ => "",
            },
            ..LivePaymentCall::default()
        };
        let trace = trace::outgoing();
        let context = PaymentContext {
            auth_id: Some(&self.purpose.caller.auth_id),
            // A later request is named by its state; only a first one needs a name of its own.
            idempotency_key: state.is_none().then_some(purchase.id.as_str()),
            traceparent: trace.as_deref(),
        };
        metrics::counter!("penstock_gateway_signer_payments_total").increment(1);
        Ok(self.gateway.signer.generate_live_payment(&call, context).await?)
    }

    async fn renew(&mut self) -> Result<(), TryError> {
        self.session = self
            .gateway
            .renew(self.purpose, &self.session.key, self.session.via, self.fence)
            .await?;
        // What the new offer asks is not bought at above the limit.
        if self.gateway.price_is_fine(self.purpose, &self.session) {
            Ok(())
        } else {
            Err(TryError::PriceAboveLimit)
        }
    }

    /// Writes a change, extending the lease: a purchase with repeats may outlast it.
    async fn save(&mut self, change: impl FnOnce(&mut SessionRecord)) -> Result<(), TryError> {
        let (store, now) = (&self.gateway.store, clock::now());
        // The offer may have been refreshed by an answer meanwhile: keep the newest.
        let stored = store.session(&self.session.key, now).await?;
        let mut record = stored.unwrap_or_else(|| self.session.record.clone());
        change(&mut record);
        let key = &self.session.key;
        if store.save_session(key, self.fence, &record, SESSION_TTL_MS, now).await? == Saved::Fenced
        {
            return Err(TryError::LeaseBusy);
        }
        match store.lease_session(key, self.owner, self.gateway.lease_ms(), now).await {
            Ok(Lease::Granted { fence, .. }) if fence == self.fence => {}
            // Somebody else had it since, and goes by what was just written.
            Ok(_) => return Err(TryError::LeaseBusy),
            // What was written counts; the next write shows whether the lease is still ours.
            Err(error) => tracing::debug!(%error, "a payment lease was not extended"),
        }
        self.session = Session::read(key.clone(), record, self.session.via)?;
        Ok(())
    }

    fn same_account(&self, fresh: &OrchestratorOffer) -> bool {
        if matches!(self.purpose.account, Account::Brought { .. }) {
            // It has the orchestrator's own terms, and not the capability's.
            return false;
        }
        let id =
            |offer: &OrchestratorOffer| offer.auth_token.as_ref().map(|t| t.session_id.clone());
        fresh.terms().is_ok() && id(fresh) == id(&self.session.offer)
    }
}

/// What became of tickets that were sent.
enum Delivery {
    /// They are credit now; perhaps with a fresher offer.
    Credited(Option<Box<(OrchestratorOffer, Vec<u8>)>>),
    /// The orchestrator will never take these.
    Refused(CallError),
}

/// Whether the same tickets may still be taken, or were taken and only the answer was lost. An orchestrator
/// looks for room before it looks at tickets (orchestrator-wire.md section 6).
fn may_be_delivered_later(error: &CallError) -> bool {
    let is_full = error.next() == Next::Busy && error.paid() == Paid::No;
    match error.status() {
        None => error.next() != Next::Refresh,
        Some(status) => is_full || status >= 500 || matches!(status, 408 | 425 | 429),
    }
}

/// Whether the signer refuses the payment state itself, rather than what was asked with it.
fn state_refused(error: &CallError) -> bool {
    let text = error.message();
    error.status() == Some(409)
        || ["invalid sig", "invalid state", "mismatch"].iter().any(|words| text.contains(words))
}

/// Whether the signer may sell less of the same: the batch is beyond its limits, or beyond what is left of the
/// caller's budget.
fn too_much_at_once(error: &CallError) -> bool {
    let CallErrorKind::Status { code: Some(code), .. } = &error.kind else { return false };
    TOO_MUCH.contains(&code.as_str())
}

fn encode(job: &Capabilities) -> Vec<u8> {
    prost::Message::encode_to_vec(&capabilities::write(job))
}

/// Whether an orchestrator refused tickets that were good once.
fn is_of_the_past(error: &CallError) -> bool {
    error.next() == Next::Refresh || nonce_seen(error)
}

/// Whether an orchestrator refused tickets because it has seen their nonces.
fn nonce_seen(error: &CallError) -> bool {
    matches!(&error.kind, CallErrorKind::Status { message, .. }
        if message.to_ascii_lowercase().contains("invalid ticket sendernonce"))
}

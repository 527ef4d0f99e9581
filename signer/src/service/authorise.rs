//! Whether a payment may be made, and of what: every check of remote-signer.md section 4 that
//! comes before a signature, in that order. The functions here are pure or only read; the one
//! way to an [`Authorised`] leads through all of them.
//!
//! Row 21 (a state without initial price) cannot happen, since the price is in the ledger and not
//! in the state. Row 26 (price more than doubled) cannot either: row 22 refuses any rise. Rows 29 to
//! 32 follow in `consent`, still before anything is signed and not after as in the reference.

use super::{
    known::Known,
    limits::{Limits, TooManyTickets},
    offer::{OfferedTickets, PaymentOffer},
    policy,
    prices::PriceLimits,
};
use crate::{auth::Caller, chain_facts::ChainSnapshot, error::SignerError};
use penstock_domain::{AuthId, Capabilities, ManifestId, PriceInfo, Rational, Wei};
use penstock_ledger::signer::{Binding, ManifestBinding, StoredPayment};
use penstock_payments::{
    BillingType, CeilingSource, ExpirationParams, MaxPriceError, TicketParams,
    batch_expiration_params, billable_units, check_batch_worth, check_ceilings, fee, lowest_ev,
    parse_max_price, stage_update,
};
use penstock_wire::{
    AuthToken,
    json::{LivePaymentRequest, MaxPrice},
    net,
};
use std::sync::Arc;

/// A payment that was decided on. Only [`authorise`] makes one, and nothing can change it.
#[derive(Debug)]
pub struct Authorised(Terms);

impl Authorised {
    /// What was decided.
    pub(super) fn terms(&self) -> &Terms {
        &self.0
    }

    /// Rows 29 to 32 may name somebody else, and say for how long that holds.
    pub(super) fn belongs_to(&mut self, auth_id: Option<AuthId>, auth_expiry_s: i64) {
        self.0.binding.auth_id = auth_id;
        self.0.auth_expiry_s = auth_expiry_s;
    }
}

/// What [`authorise`] found, with what the questions after it need.
#[derive(Debug)]
pub struct Decision {
    /// The payment.
    pub(super) authorised: Authorised,
    /// What it is for.
    pub(super) names: Vec<String>,
    /// Whose the session is, if anybody's.
    pub(super) session_auth_id: Option<AuthId>,
    /// What the auth webhook said for the session last.
    pub(super) auth_expiry_s: i64,
}

/// Everything that signing and booking need, and nothing from the caller that was not checked.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) binding: Binding,
    pub(super) first: Option<First>,
    pub(super) sequence: u64,
    pub(super) params: TicketParams,
    pub(super) expiration_params: ExpirationParams,
    pub(super) price_as_sent: net::PriceInfo,
    pub(super) capabilities: Option<Capabilities>,
    pub(super) auth_token: AuthToken,
    pub(super) ticket_ev_wei: Rational,
    pub(super) num_tickets: u32,
    pub(super) units: u64,
    pub(super) fee_wei: Rational,
    pub(super) now_ns: i64,
    /// `ceil(num_tickets × EV)`: charged to every counter.
    pub(super) amount_wei: Wei,
    pub(super) auth_expiry_s: i64,
    pub(super) balance_before_wei: Rational,
    pub(super) previous_ns: Option<i64>,
    pub(super) initial_price: PriceInfo,
    pub(super) price: Rational,
    pub(super) orchestrator_url: String,
}

impl Terms {
    /// The session's balance once this is stored, as the books will have it.
    pub(super) fn balance_after_wei(&self) -> Rational {
        let credit = self.ticket_ev_wei.times(self.num_tickets.into());
        &(&self.balance_before_wei + &credit) - &self.fee_wei
    }

    /// Unix milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_ns.div_euclid(1_000_000)
    }
}

/// What only a first payment has.
#[derive(Debug, Clone)]
pub(super) struct First {
    pub(super) initial_price: PriceInfo,
    pub(super) idempotency_key: Option<String>,
}

/// The parts of a request that identify it, read before money is looked at (rows 9 to 13).
#[derive(Debug)]
pub struct Identified {
    /// What the payment will be bound to. The auth id is still the header's.
    pub(super) asked: Asked,
    /// The session that the state belongs to, absent on a first request.
    pub(super) session: Option<Arc<Known>>,
    pub(super) capabilities: Option<Capabilities>,
    /// What it pays for, by name.
    pub(super) names: Vec<String>,
}

/// A request's binding, with what may still be open: type (row 18 comes late) and manifest.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) orchestrator: penstock_domain::Address,
    pub(super) app: String,
    pub(super) job_type: String,
    pub(super) manifest_id: Option<ManifestId>,
}

/// Rows 9 to 13. `session` is the one that the verified state names, with the claim's own app and
/// type, which count for the comparison.
pub fn identify(
    caller: Caller,
    offer: &PaymentOffer,
    request: &LivePaymentRequest,
    known: Option<(&crate::state_blob::StateClaim, Arc<Known>)>,
) -> Result<Identified, SignerError> {
    let orchestrator = offer.address()?;
    if let Some((claim, session)) = &known {
        if session.binding.account != caller.account.name() {
            return Err(SignerError::ReplayMismatch("account"));
        }
        // The session's as well: a state may outlive its session, whose id another one may have.
        let theirs = [claim.orchestrator, session.binding.orchestrator];
        if theirs.iter().any(|theirs| *theirs != orchestrator) {
            return Err(SignerError::OrchestratorMismatch);
        }
        if claim.app != request.app {
            return Err(SignerError::AppMismatch);
        }
        if claim.job_type != BillingType::Units && claim.job_type.as_str() != request.job_type {
            return Err(SignerError::JobTypeMismatch);
        }
        if request.manifest_id.is_empty() {
            return Err(SignerError::MissingManifest);
        }
    }
    let manifest_id = match request.manifest_id.as_str() {
        "" => None,
        text => {
            let id = ManifestId::new(text).map_err(|e| SignerError::BadField(e.to_string()))?;
            Some(id)
        }
    };
    let capabilities = match request.capabilities.as_slice() {
        [] => None,
        bytes => Some(
            penstock_wire::capabilities::decode(bytes)
                .map_err(|e| SignerError::BadCapabilities(e.to_string()))?,
        ),
    };
    let names = policy::names(
        capabilities.as_ref(),
        &request.app,
        &request.byoc_capability,
        &request.job_type,
    );
    let asked = Asked {
        caller,
        orchestrator,
        app: request.app.clone(),
        job_type: request.job_type.clone(),
        manifest_id,
    };
    Ok(Identified { asked, session: known.map(|(_, session)| session), capabilities, names })
}

impl Identified {
    /// A session keeps the manifest id that it was told; one that the signer made gives way.
    /// Asked of new payments only: a replay with another one is a conflict instead.
    pub(super) fn check_manifest(&self) -> Result<(), SignerError> {
        let was = self.session.as_ref().map(|s| &s.binding.manifest).filter(|m| m.named);
        match (was, &self.asked.manifest_id) {
            (Some(old), Some(new)) if old.id != *new => Err(SignerError::ManifestMismatch),
            _ => Ok(()),
        }
    }
}

/// Whether a stored answer may be given to this request again (architecture.md rule 3): same
/// account and subject, orchestrator, app, type and manifest id. Anything else is 409.
pub(super) fn check_replay(asked: &Asked, stored: &StoredPayment) -> Result<(), SignerError> {
    let was = &stored.binding;
    let differs = if was.account != asked.caller.account.name() {
        Some("account")
    } else if asked.caller.auth_id.is_some() && asked.caller.auth_id != was.auth_id {
        Some("auth id")
    } else if was.orchestrator != asked.orchestrator {
        Some("orchestrator")
    } else if was.app != asked.app {
        Some("app")
    } else if was.job_type.as_str() != asked.job_type {
        Some("type")
    } else if was.manifest.named != asked.manifest_id.is_some()
        || asked.manifest_id.as_ref().is_some_and(|id| *id != was.manifest.id)
    {
        Some("ManifestID")
    } else {
        None
    };
    differs.map_or(Ok(()), |what| Err(SignerError::ReplayMismatch(what)))
}

/// What the decision rests on.
pub struct Basis<'a> {
    /// Rows 14 and 15 have passed; this is the token.
    pub auth_token: AuthToken,
    /// Of the offer.
    pub tickets: &'a OfferedTickets,
    /// The chain, fresh.
    pub chain: &'a ChainSnapshot,
    /// The signer's own limits.
    pub limits: &'a Limits,
    /// The signer's own price limits.
    pub prices: &'a PriceLimits,
    /// Unix nanoseconds.
    pub now_ns: i64,
    /// For a first request without manifest id.
    pub new_manifest_id: ManifestId,
}

/// Rows 16 to 27.
pub fn authorise(
    identified: Identified,
    offer: &PaymentOffer,
    request: &LivePaymentRequest,
    basis: Basis<'_>,
) -> Result<Decision, SignerError> {
    let Identified { asked, session, capabilities, names } = identified;
    let view = basis.chain.sender_view();
    let OfferedTickets { params, ev_wei: ticket_ev_wei } = basis.tickets.clone();
    check_batch_worth(&params, &ticket_ev_wei, 1, &basis.limits.sender, &view).map_err(
        |error| {
            if error.is_refresh() { offer.refresh() } else { SignerError::OfferRefused(error) }
        },
    )?;
    if !basis.chain.active.contains_key(&params.recipient) {
        return Err(SignerError::InactiveRecipient {
            recipient: params.recipient,
            round: view.last_initialized_round,
        });
    }
    let job_type: BillingType = asked.job_type.parse()?;
    let elapsed_ns =
        session.as_ref().map_or(0, |s| i128::from(basis.now_ns) - i128::from(s.last_update_ns));
    let units = billable_units(job_type, elapsed_ns, request.in_pixels)?;
    let ceilings = Ceilings {
        configured: basis.prices.for_request(capabilities.as_ref()),
        initial: session.as_ref().map(|s| s.initial_price.rational()),
    };
    let price = offer.price.rational();
    check_price(&price, request, job_type, &ceilings)?;
    let initial_price = session.as_ref().map_or(offer.price, |s| s.initial_price);
    let fee_wei = fee(units, &initial_price.rational());
    let balance = session.as_ref().map(|s| s.balance_wei.clone()).unwrap_or_default();
    let staged = stage_update(balance.clone(), &fee_wei, &ticket_ev_wei);
    let max = basis.limits.max_tickets;
    let num_tickets = match u32::try_from(staged.num_tickets) {
        Ok(0) => return Err(SignerError::NoTickets),
        Ok(n) if u64::from(n) <= max => n,
        _ => {
            return Err(SignerError::TooManyTickets(Box::new(TooManyTickets {
                tickets: staged.num_tickets,
                max,
                lowest_ev: lowest_ev(&staged.existing, &fee_wei, max),
                ev: ticket_ev_wei,
                max_ev: basis.limits.sender.max_ev.clone(),
            })));
        }
    };
    check_batch_worth(&params, &ticket_ev_wei, num_tickets.into(), &basis.limits.sender, &view)
        .map_err(SignerError::PaymentRefused)?;
    let binding = bind(&asked, job_type, session.as_deref(), basis.new_manifest_id);
    let amount_wei = ticket_ev_wei.times(num_tickets.into());
    let amount_wei = amount_wei.ceil_u256().map(Wei).ok_or(SignerError::Internal("worth"))?;
    let session_auth_id = session.as_ref().and_then(|s| s.binding.auth_id.clone());
    let auth_expiry_s = session.as_ref().map_or(0, |s| s.auth_expiry_s);
    let first = session
        .is_none()
        .then_some(First { initial_price, idempotency_key: asked.caller.idempotency_key });
    let terms = Terms {
        binding,
        first,
        sequence: session.as_ref().map_or(0, |s| s.sequence.saturating_add(1)),
        expiration_params: batch_expiration_params(&params, &view),
        params,
        price_as_sent: offer.price_as_sent.clone(),
        capabilities,
        auth_token: basis.auth_token,
        ticket_ev_wei,
        num_tickets,
        units,
        fee_wei,
        now_ns: basis.now_ns,
        amount_wei,
        auth_expiry_s,
        balance_before_wei: balance,
        previous_ns: session.map(|s| s.last_update_ns),
        initial_price,
        price,
        orchestrator_url: offer.url.clone(),
    };
    Ok(Decision { authorised: Authorised(terms), names, session_auth_id, auth_expiry_s })
}

/// The ceilings that do not come with the request.
struct Ceilings {
    configured: Option<Rational>,
    initial: Option<Rational>,
}

/// Rows 20 and 22.
fn check_price(
    price: &Rational,
    request: &LivePaymentRequest,
    job_type: BillingType,
    ceilings: &Ceilings,
) -> Result<(), SignerError> {
    let wanted = request.max_price.as_ref().map(|m| request_ceiling(m, job_type)).transpose()?;
    check_ceilings(
        price,
        &[
            (CeilingSource::Configured, ceilings.configured.as_ref()),
            (CeilingSource::Request, wanted.as_ref()),
            (CeilingSource::InitialPrice, ceilings.initial.as_ref()),
        ],
    )?;
    Ok(())
}

/// Row 20. The wire layer has read the price as an exact number already, so only its sign is
/// looked at here; the rest is judged with a price that passes.
fn request_ceiling(max: &MaxPrice, job_type: BillingType) -> Result<Rational, MaxPriceError> {
    let price = max.price.clone().filter(Rational::is_positive).ok_or(MaxPriceError::Price)?;
    parse_max_price("1", &max.currency, &max.unit, job_type)?;
    Ok(price)
}

/// A manifest id for who named none. The auth id is still the session's.
fn bind(
    asked: &Asked,
    job_type: BillingType,
    session: Option<&Known>,
    new_manifest_id: ManifestId,
) -> Binding {
    let manifest = match &asked.manifest_id {
        Some(id) => ManifestBinding { id: id.clone(), named: true },
        None => ManifestBinding { id: new_manifest_id, named: false },
    };
    Binding {
        account: asked.caller.account.name().to_owned(),
        auth_id: session.and_then(|s| s.binding.auth_id.clone()),
        orchestrator: asked.orchestrator,
        app: asked.app.clone(),
        job_type,
        manifest,
    }
}

//! A payment: identify → replay? → authorise → [auth webhook] → reserve → sign → commit → answer.
//!
//! Each step takes what the one before returned, by value, and nothing else can make it, since the
//! fields are private to that step's module: there is no way to sign without nonces that are on
//! disk, and no way to answer without a payment that is. No transaction is open while the key
//! works. From the reservation on, the work runs in a task of its own, so that a client that hangs up does not leave it half done.

use super::{
    Signer,
    authorise::{Asked, Basis, Decision, Identified, authorise, check_replay, identify},
    consent::Consented,
    known::Known,
    offer::PaymentOffer,
    reserve::{Reserving, random_state_id},
    to_the_end,
};
use crate::{
    auth::Caller,
    error::SignerError,
    state_blob::{StateClaim, VerifiedState},
};
use penstock_domain::{ManifestId, StateId};
use penstock_ledger::signer::{StoredPayment, digests_left};
use penstock_telemetry::step;
use penstock_wire::json::{LivePaymentRequest, SignedState};
use rand::RngCore;
use std::sync::Arc;
use tracing::Instrument;

/// An answer that is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// JSON.
    pub body: Vec<u8>,
    /// Units that it pays for.
    pub units: u64,
    /// Whether it was given before.
    pub replayed: bool,
}

impl Answer {
    pub(super) fn replay(stored: StoredPayment) -> Result<Self, SignerError> {
        if digests_left(&stored.answer).is_some() {
            return Err(SignerError::AnswerGone);
        }
        metrics::counter!("signer_replays_total").increment(1);
        tracing::info!(state_id = %stored.state_id, sequence = stored.sequence, "answered again");
        Ok(Self { body: stored.answer, units: stored.units, replayed: true })
    }
}

impl Signer {
    /// `POST /generate-live-payment`.
    pub async fn pay(
        self: Arc<Self>,
        mut caller: Caller,
        request: LivePaymentRequest,
    ) -> Result<Answer, SignerError> {
        let stranger = self.accounts.is_stranger(&caller);
        if stranger {
            // All strangers are one account: with another one's key they would get its tickets.
            caller.idempotency_key = None;
        }
        let offer = self.offers.parse(&request.orchestrator)?;
        let state = self.open_state(request.state.as_ref())?;
        let turn = match self.turn_of(&caller, state.as_ref()) {
            Some(name) => Some(self.in_flight.enter(name).await),
            None => None,
        };
        let identified = self.identify(caller, &offer, &request, state.as_ref()).await?;
        if let Some(stored) = self.stored_answer(&identified, state.as_ref()).await? {
            check_replay(&identified.asked, &stored)?;
            if stranger {
                self.consent_again(&identified, &offer, &stored).await?;
            }
            return Answer::replay(stored);
        }
        let state_id = match &state {
            Some(state) => state.claim().state_id.clone(),
            None => random_state_id()?,
        };
        let asked = identified.asked.clone();
        let consented = async {
            let decision = self.authorise(identified, &offer, &request).await?;
            self.consent(decision, &asked.caller, &state_id).await
        };
        let consented = consented.instrument(step!("authorise")).await?;
        to_the_end(async move {
            let answer = self.make(consented, state_id, &asked, &offer).await;
            drop(turn);
            answer
        })
        .await
    }

    /// Rows 7 and 8. A signature without a state is refused like a wrong one.
    fn open_state(
        &self,
        state: Option<&SignedState>,
    ) -> Result<Option<VerifiedState>, SignerError> {
        Ok(state.map(|s| self.state_keys.open(s)).transpose()?)
    }

    fn turn_of(&self, caller: &Caller, state: Option<&VerifiedState>) -> Option<String> {
        match (state, &caller.idempotency_key) {
            (Some(state), _) => Some(state.claim().state_id.to_string()),
            (None, Some(key)) => Some(format!("{}\n{key}", caller.account.name())),
            (None, None) => None,
        }
    }

    async fn identify(
        &self,
        caller: Caller,
        offer: &PaymentOffer,
        request: &LivePaymentRequest,
        state: Option<&VerifiedState>,
    ) -> Result<Identified, SignerError> {
        let Some(state) = state else { return identify(caller, offer, request, None) };
        let claim = state.claim();
        let known = self.session(claim).await?;
        identify(caller, offer, request, Some((claim, known)))
    }

    /// The session of a claim: as remembered if that is not behind the claim, else as the books have
    /// it. A state that the books do not know (any more) is no state.
    pub(super) async fn session(&self, claim: &StateClaim) -> Result<Arc<Known>, SignerError> {
        let fits = |known: &Arc<Known>| known.sequence >= claim.sequence;
        if let Some(known) = self.known.get(&claim.state_id).filter(fits) {
            return Ok(known);
        }
        let session = self.ledger.session(&claim.state_id).await?;
        let mut known = session.map(Known::from).ok_or(SignerError::InvalidState)?;
        if known.sequence == claim.sequence {
            known.auth_expiry_s = claim.auth_expiry_s;
        }
        let known = Some(Arc::new(known)).filter(fits).ok_or(SignerError::InvalidState)?;
        self.known.put(claim.state_id.clone(), Arc::clone(&known));
        Ok(known)
    }

    /// The answer that this request got before, if it did.
    async fn stored_answer(
        &self,
        identified: &Identified,
        state: Option<&VerifiedState>,
    ) -> Result<Option<StoredPayment>, SignerError> {
        let caller = &identified.asked.caller;
        match (state, &identified.session, &caller.idempotency_key) {
            (Some(state), Some(session), _) => {
                let next = state.claim().sequence.saturating_add(1);
                if session.sequence < next {
                    return Ok(None);
                }
                let stored = self.ledger.payment(&state.claim().state_id, next).await?;
                if stored.is_none() {
                    // It was pruned, and perhaps its session as well.
                    self.known.remove(&state.claim().state_id);
                    return Err(SignerError::InvalidState);
                }
                Ok(stored)
            }
            (None, _, Some(key)) => {
                Ok(self.ledger.first_payment(caller.account.name(), key).await?)
            }
            _ => Ok(None),
        }
    }

    async fn authorise(
        &self,
        identified: Identified,
        offer: &PaymentOffer,
        request: &LivePaymentRequest,
    ) -> Result<Decision, SignerError> {
        identified.check_manifest()?;
        let now_ns = (self.clock)();
        let auth_token = offer.auth_token(now_ns.div_euclid(1_000_000_000))?;
        let tickets = offer.tickets()?;
        let chain = self.chain.fresh_for(tickets.params.recipient).await;
        let chain = chain.map_err(|stale| SignerError::ChainStale(stale.0))?;
        let basis = Basis {
            auth_token,
            tickets,
            chain: &chain,
            limits: &self.limits,
            prices: &self.prices,
            now_ns,
            new_manifest_id: random_manifest_id()?,
        };
        authorise(identified, offer, request, basis)
    }

    /// Reserve, sign, commit.
    async fn make(
        &self,
        consented: Consented,
        state_id: StateId,
        asked: &Asked,
        offer: &PaymentOffer,
    ) -> Result<Answer, SignerError> {
        let reserving = self.reserve(consented, state_id, offer).instrument(step!("reserve"));
        let reservation = match reserving.await? {
            Reserving::Done(reservation) => *reservation,
            Reserving::Answered(stored) => {
                check_replay(asked, &stored)?;
                return Answer::replay(stored);
            }
        };
        penstock_failpoint::hit("signer.after_reserve");
        let terms = reservation.authorised().terms();
        let signing = step!("sign", num_tickets = terms.num_tickets, units = terms.units,
            fee_wei = %terms.fee_wei.to_fixed(0));
        let signed = self.sign(reservation).instrument(signing).await?;
        penstock_failpoint::hit("signer.after_sign");
        let answer = self.commit(signed, asked).instrument(step!("commit")).await?;
        penstock_failpoint::hit("signer.after_commit");
        Ok(answer)
    }
}

fn random_manifest_id() -> Result<ManifestId, SignerError> {
    let mut bytes = [0; 4];
    rand::rng().fill_bytes(&mut bytes);
    ManifestId::new(hex::encode(bytes)).map_err(|_| SignerError::Internal("manifest id"))
}

//! A payment: identify → replay? → authorise → reserve → sign → commit → answer.
//!
//! Each step takes what the one before returned, by value, and nothing else can make it: there is
//! no way to sign without nonces that are on disk, and no way to answer without a payment that
//! is. No transaction is open while the key works. From the reservation on, the work runs in a
//! task of its own, so that a client that hangs up does not leave it half done.

use super::{
    Signer,
    authorise::{Asked, Authorised, Basis, Caller, Identified, authorise, check_replay, identify},
    offer::PaymentOffer,
};
use crate::{
    error::SignerError,
    state_blob::{StateClaim, VerifiedState},
};
use penstock_domain::{ManifestId, StateId};
use penstock_keys::SegmentCredential;
use penstock_ledger::signer::{
    Committed, NewPayment, NewSession, NonceRange, ReserveRequest, Reserved, StoredPayment,
};
use penstock_payments::{EMPTY_DATA_HASH, MAX_NONCES, build_batch};
use penstock_wire::{
    ExpirationFields, PaymentFields, SegmentSpec, SenderFields, TicketParamsFields, header,
    json::{LivePaymentAnswer, LivePaymentRequest, SignedState},
};
use rand::RngCore;
use std::sync::Arc;
use tracing::Instrument;

/// How often a new session may find its random id taken before something is wrong.
const STATE_ID_TRIES: u32 = 8;

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
    fn replay(stored: StoredPayment) -> Self {
        metrics::counter!("signer_replays_total").increment(1);
        tracing::info!(state_id = %stored.state_id, sequence = stored.sequence, "answered again");
        Self { body: stored.answer, units: stored.units, replayed: true }
    }
}

/// Nonces that are on disk, for a payment that was authorised.
struct Reservation {
    authorised: Authorised,
    state_id: StateId,
    nonces: NonceRange,
}

/// Tickets and credential, signed and not yet to be shown to anyone.
struct Signed {
    reservation: Reservation,
    answer: Vec<u8>,
}

enum Reserving {
    Done(Box<Reservation>),
    Answered(StoredPayment),
}

impl Signer {
    /// `POST /generate-live-payment`.
    pub async fn pay(
        self: Arc<Self>,
        caller: Caller,
        request: LivePaymentRequest,
    ) -> Result<Answer, SignerError> {
        let offer = PaymentOffer::parse(&request.orchestrator)?;
        let state = self.open_state(request.state.as_ref())?;
        let turn = match self.turn_of(&caller, state.as_ref()) {
            Some(name) => Some(self.in_flight.enter(name).await),
            None => None,
        };
        let identified = self.identify(caller, &offer, &request, state.as_ref()).await?;
        if let Some(stored) = self.stored_answer(&identified, state.as_ref()).await? {
            check_replay(&identified.asked, &stored)?;
            return Ok(Answer::replay(stored));
        }
        let state_id = state.map(|s| s.claim().state_id.clone());
        let asked = identified.asked.clone();
        let authorised = self.authorise(identified, &offer, &request).await?;
        let work = async move {
            let answer = self.make(authorised, state_id, &asked, &offer).await;
            drop(turn);
            answer
        };
        // A panic in there would be a bug; the nonces are burnt, nothing was answered.
        let done = tokio::spawn(work.in_current_span()).await;
        done.map_err(|_| SignerError::Internal("the payment task ended badly"))?
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
        let session = self.ledger.session(&claim.state_id).await?;
        // A state that the books do not know (any more) is no state.
        let session =
            session.filter(|s| s.sequence >= claim.sequence).ok_or(SignerError::InvalidState)?;
        identify(caller, offer, request, Some((claim, session)))
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
                Ok(self.ledger.payment(&session.state_id, next).await?)
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
    ) -> Result<Authorised, SignerError> {
        identified.check_manifest()?;
        let now_ns = (self.clock)();
        let auth_token = offer.auth_token(now_ns.div_euclid(1_000_000_000))?;
        let params = offer.ticket_params()?;
        let chain = self.chain.fresh_for(params.recipient).await;
        let chain = chain.map_err(|stale| SignerError::ChainStale(stale.0))?;
        let basis = Basis {
            auth_token,
            params,
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
        authorised: Authorised,
        state_id: Option<StateId>,
        asked: &Asked,
        offer: &PaymentOffer,
    ) -> Result<Answer, SignerError> {
        let reservation = match self.reserve(authorised, state_id, offer).await? {
            Reserving::Done(reservation) => *reservation,
            Reserving::Answered(stored) => {
                check_replay(asked, &stored)?;
                return Ok(Answer::replay(stored));
            }
        };
        penstock_failpoint::hit("signer.after_reserve");
        let signed = self.sign(reservation).await?;
        penstock_failpoint::hit("signer.after_sign");
        let answer = self.commit(signed, asked).await?;
        penstock_failpoint::hit("signer.after_commit");
        Ok(answer)
    }

    async fn reserve(
        &self,
        authorised: Authorised,
        state_id: Option<StateId>,
        offer: &PaymentOffer,
    ) -> Result<Reserving, SignerError> {
        for _ in 0..STATE_ID_TRIES {
            let state_id = match &state_id {
                Some(id) => id.clone(),
                None => random_state_id()?,
            };
            let reserved = self
                .ledger
                .reserve(ReserveRequest {
                    state_id: state_id.clone(),
                    sequence: authorised.sequence,
                    recipient_rand_hash: authorised.params.recipient_rand_hash,
                    count: authorised.num_tickets,
                    max_nonce: u32::try_from(MAX_NONCES).unwrap_or(u32::MAX),
                    now_ms: authorised.now_ns.div_euclid(1_000_000),
                })
                .await?;
            return match reserved {
                Reserved::Nonces(nonces) => {
                    Ok(Reserving::Done(Box::new(Reservation { authorised, state_id, nonces })))
                }
                Reserved::Answered(stored) => Ok(Reserving::Answered(stored)),
                // The recipient takes no more tickets of this offer; it has to make a new one.
                Reserved::Exhausted => Err(offer.refresh()),
                Reserved::UnknownState => Err(SignerError::InvalidState),
                Reserved::StateIdTaken => continue,
            };
        }
        Err(SignerError::Internal("no free state id was found"))
    }

    /// The key's only work for a payment: the tickets of reserved nonces, and a credential for an
    /// empty segment.
    async fn sign(&self, reservation: Reservation) -> Result<Signed, SignerError> {
        let Reservation { authorised, state_id, nonces } = &reservation;
        let batch = build_batch(
            &authorised.params,
            authorised.expiration_params,
            self.key.address(),
            nonces.first..=nonces.last,
        );
        let signatures = self.key.sign_tickets(&batch).await?;
        let tickets = batch.iter().zip(&signatures).map(|(ticket, signature)| SenderFields {
            sender_nonce: ticket.sender_nonce,
            sig: signature.as_bytes().to_vec(),
        });
        let payment = PaymentFields {
            sender: Some(self.key.address()),
            ticket_params: Some(fields_of(authorised)),
            expiration_params: ExpirationFields {
                creation_round: authorised.expiration_params.creation_round,
                creation_round_block_hash: authorised.expiration_params.creation_round_block_hash,
            },
            tickets: tickets.collect(),
            expected_price: None,
        };
        let mut payment = payment.to_message();
        // Copied whole, also what a later version may put into it.
        payment.expected_price = Some(authorised.price_as_sent.clone());
        let manifest_id = &authorised.binding.manifest.id;
        let credential = SegmentCredential::<&str> {
            manifest_id: manifest_id.as_str().as_bytes(),
            sequence: 0,
            data_hash: EMPTY_DATA_HASH.as_slice(),
            rendition_names: &[],
        };
        let signature = self.key.sign_segment(&credential).await?;
        let segment = SegmentSpec::empty(
            manifest_id.clone(),
            authorised.capabilities.clone(),
            authorised.auth_token.clone(),
        );
        let segment = segment.to_message(signature.as_bytes().to_vec());
        let operations = signatures.len().saturating_add(1);
        metrics::counter!("signer_key_operations_total")
            .increment(u64::try_from(operations).unwrap_or(u64::MAX));
        let claim = StateClaim {
            state_id: state_id.clone(),
            sequence: authorised.sequence,
            orchestrator: authorised.binding.orchestrator,
            app: authorised.binding.app.clone(),
            job_type: authorised.binding.job_type,
            manifest_id: manifest_id.clone(),
            auth_id: authorised.binding.auth_id.clone(),
        };
        let sealed =
            self.state_keys.seal(&claim).ok_or(SignerError::Internal("state not sealed"))?;
        let body = LivePaymentAnswer::body(
            &header::encode_payment(&payment),
            &header::encode_segment(&segment),
            &sealed,
        );
        let mut answer = body.to_string().into_bytes();
        answer.push(b'\n');
        Ok(Signed { reservation, answer })
    }

    async fn commit(&self, signed: Signed, asked: &Asked) -> Result<Answer, SignerError> {
        let Signed { reservation: Reservation { authorised, state_id, nonces }, answer } = signed;
        let payment = NewPayment {
            state_id: state_id.clone(),
            sequence: authorised.sequence,
            new_session: authorised.first.map(|first| NewSession {
                initial_price: first.initial_price,
                idempotency_key: first.idempotency_key,
            }),
            binding: authorised.binding.clone(),
            nonces,
            face_value: authorised.params.face_value,
            win_prob: authorised.params.win_prob,
            ticket_ev_wei: authorised.ticket_ev_wei.clone(),
            units: authorised.units,
            fee_wei: authorised.fee_wei.clone(),
            answer: answer.clone(),
            now_ns: authorised.now_ns,
        };
        let balance_wei = match self.ledger.commit(payment).await? {
            Committed::Stored(balance_wei) => balance_wei,
            // Another process was faster. Its tickets are the payment; ours are forgotten.
            Committed::Superseded(stored) => {
                check_replay(asked, &stored)?;
                return Ok(Answer::replay(stored));
            }
        };
        metrics::counter!("signer_payments_total", "type" => authorised.binding.job_type.as_str())
            .increment(1);
        metrics::counter!("signer_tickets_total").increment(authorised.num_tickets.into());
        tracing::info!(
            state_id = %state_id,
            sequence = authorised.sequence,
            manifest_id = %authorised.binding.manifest.id,
            account = authorised.binding.account,
            auth_id = authorised.binding.auth_id.as_ref().map(tracing::field::display),
            orchestrator = %authorised.binding.orchestrator,
            recipient_rand_hash = %nonces.recipient_rand_hash,
            num_tickets = authorised.num_tickets,
            first_nonce = nonces.first,
            last_nonce = nonces.last,
            units = authorised.units,
            fee_wei = %authorised.fee_wei.to_fixed(0),
            balance_wei = %balance_wei.to_fixed(0),
            "payment stored"
        );
        Ok(Answer { body: answer, units: authorised.units, replayed: false })
    }
}

fn fields_of(authorised: &Authorised) -> TicketParamsFields {
    let params = &authorised.params;
    TicketParamsFields {
        recipient: params.recipient,
        face_value: params.face_value,
        win_prob: params.win_prob,
        recipient_rand_hash: params.recipient_rand_hash,
        seed: params.seed,
        expiration_block: params.expiration_block,
        expiration_params: ExpirationFields::default(),
    }
}

fn random_hex() -> String {
    let mut bytes = [0; 4];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

fn random_state_id() -> Result<StateId, SignerError> {
    StateId::new(random_hex()).map_err(|_| SignerError::Internal("state id"))
}

fn random_manifest_id() -> Result<ManifestId, SignerError> {
    ManifestId::new(random_hex()).map_err(|_| SignerError::Internal("manifest id"))
}

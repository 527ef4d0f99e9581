//! Reserve: nonces that are on disk before anything is signed with them.

use super::{
    Signer,
    authorise::{Authorised, Terms},
    limits::REFRESH_AT_NONCE,
    offer::PaymentOffer,
};
use crate::error::SignerError;
use penstock_domain::{Rational, StateId, Wei};
use penstock_ledger::signer::{
    NonceRange, ReservationId, ReserveRequest, Reserved, StoredPayment, TicketTemplate,
};
use rand::RngCore;

/// How long a payment may take from its reservation to its commit.
const RESERVATION_LIFETIME_MS: i64 = 300_000;
/// How often a new session may find its random id taken before something is wrong.
const STATE_ID_TRIES: u32 = 8;

/// An authorised payment with its own nonces. Only [`Signer::reserve`] makes one.
pub(super) struct Reservation {
    authorised: Authorised,
    state_id: StateId,
    held: penstock_ledger::signer::Reservation,
}

impl Reservation {
    pub(super) fn authorised(&self) -> &Authorised {
        &self.authorised
    }

    pub(super) fn state_id(&self) -> &StateId {
        &self.state_id
    }

    pub(super) fn nonces(&self) -> NonceRange {
        self.held.nonces
    }

    pub(super) fn held(&self) -> penstock_ledger::signer::Reservation {
        self.held
    }
}

/// What came of it.
pub(super) enum Reserving {
    Done(Box<Reservation>),
    /// The payment was stored meanwhile, by another process.
    Answered(StoredPayment),
}

impl Signer {
    /// `state_id` is the session's; a first payment gets a new one.
    pub(super) async fn reserve(
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
            let terms = authorised.terms();
            let now_ms = terms.now_ns.div_euclid(1_000_000);
            let request = ReserveRequest {
                id: random_reservation_id(),
                state_id: state_id.clone(),
                sequence: terms.sequence,
                account: terms.binding.account.clone(),
                auth_id: terms.binding.auth_id.clone(),
                tickets: TicketTemplate {
                    recipient: terms.params.recipient,
                    sender: self.key.address(),
                    face_value: terms.params.face_value,
                    win_prob: terms.params.win_prob,
                    recipient_rand_hash: terms.params.recipient_rand_hash,
                    expiration_params: terms.expiration_params,
                },
                count: terms.num_tickets,
                max_nonce: REFRESH_AT_NONCE,
                also_signs: Vec::new(),
                amount_wei: charged_wei(terms)?,
                charges: Vec::new(),
                now_ms,
                expires_at_ms: now_ms.saturating_add(RESERVATION_LIFETIME_MS),
            };
            return match self.ledger.reserve(request).await? {
                Reserved::Nonces(held) => {
                    Ok(Reserving::Done(Box::new(Reservation { authorised, state_id, held })))
                }
                Reserved::Answered(stored) => Ok(Reserving::Answered(stored)),
                // The recipient takes no more tickets of this offer; it has to make a new one.
                Reserved::Exhausted => Err(offer.refresh()),
                Reserved::UnknownState => Err(SignerError::InvalidState),
                Reserved::OverCap { .. } => Err(SignerError::Internal("a cap that nobody set")),
                Reserved::StateIdTaken => continue,
            };
        }
        Err(SignerError::Internal("no free state id was found"))
    }
}

fn random_state_id() -> Result<StateId, SignerError> {
    let mut bytes = [0; 4];
    rand::rng().fill_bytes(&mut bytes);
    StateId::new(hex::encode(bytes)).map_err(|_| SignerError::Internal("state id"))
}

/// What a payment costs at most: `ceil(tickets × EV)`.
pub(super) fn charged_wei(terms: &Terms) -> Result<Wei, SignerError> {
    let total = Rational::from_int(terms.num_tickets.into()) * terms.ticket_ev_wei.clone();
    total.ceil_u256().map(Wei).ok_or(SignerError::Internal("worth of a payment"))
}

fn random_reservation_id() -> ReservationId {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    ReservationId(bytes)
}

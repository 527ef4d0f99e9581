//! Reserve: nonces that are on disk before anything is signed with them.

use super::{Signer, authorise::Authorised, limits::REFRESH_AT_NONCE, offer::PaymentOffer};
use crate::error::SignerError;
use penstock_domain::StateId;
use penstock_ledger::signer::{NonceRange, ReserveRequest, Reserved, StoredPayment};
use rand::RngCore;

/// How often a new session may find its random id taken before something is wrong.
const STATE_ID_TRIES: u32 = 8;

/// An authorised payment with its own nonces. Only [`Signer::reserve`] makes one.
pub(super) struct Reservation {
    authorised: Authorised,
    state_id: StateId,
    nonces: NonceRange,
}

impl Reservation {
    pub(super) fn authorised(&self) -> &Authorised {
        &self.authorised
    }

    pub(super) fn state_id(&self) -> &StateId {
        &self.state_id
    }

    pub(super) fn nonces(&self) -> NonceRange {
        self.nonces
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
            let request = ReserveRequest {
                state_id: state_id.clone(),
                sequence: terms.sequence,
                recipient_rand_hash: terms.params.recipient_rand_hash,
                count: terms.num_tickets,
                max_nonce: REFRESH_AT_NONCE,
                now_ms: terms.now_ns.div_euclid(1_000_000),
            };
            return match self.ledger.reserve(request).await? {
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
}

fn random_state_id() -> Result<StateId, SignerError> {
    let mut bytes = [0; 4];
    rand::rng().fill_bytes(&mut bytes);
    StateId::new(hex::encode(bytes)).map_err(|_| SignerError::Internal("state id"))
}

//! Reserve: nonces, budget and audit records that are on disk before anything is signed.

use super::{
    Signer,
    authorise::{Authorised, Terms},
    charges::Full,
    consent::Consented,
    key_room::{Segment, empty_segment, entry},
    limits::REFRESH_AT_NONCE,
    offer::PaymentOffer,
};
use crate::error::SignerError;
use penstock_domain::{ManifestId, StateId};
use penstock_ledger::signer::{
    self as books, AuditEntry, LedgerError, NonceRange, ReservationId, ReserveRequest, Reserved,
    StoredPayment, TicketTemplate,
};
use penstock_payments::{Signature, Ticket};
use rand::RngCore;

/// How long a payment may take from its reservation to its commit. Then its budget is given back,
/// and whoever still comes with signatures is told so and may not hand them out.
const RESERVATION_LIFETIME_MS: i64 = 120_000;
/// How often a new session may find its random id taken before something is wrong.
const STATE_ID_TRIES: u32 = 8;

/// An authorised payment with its own nonces. Only [`Signer::reserve`] makes one.
pub(super) struct Reservation {
    authorised: Authorised,
    state_id: StateId,
    tickets: TicketTemplate,
    held: books::Reservation,
    known_credential: Option<Signature>,
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

    pub(super) fn held(&self) -> books::Reservation {
        self.held
    }

    pub(super) fn manifest_id(&self) -> &ManifestId {
        &self.authorised.terms().binding.manifest.id
    }

    /// The credential's signature, if it was made before.
    pub(super) fn known_credential(&self) -> Option<Signature> {
        self.known_credential
    }

    /// The tickets, exactly as the audit has them.
    pub(super) fn tickets(&self) -> Vec<Ticket> {
        let NonceRange { first, last, .. } = self.held.nonces;
        (first..=last).map(|nonce| self.tickets.ticket(nonce)).collect()
    }
}

/// What came of it.
pub(super) enum Reserving {
    Done(Box<Reservation>),
    /// The payment was stored meanwhile, by another process.
    Answered(StoredPayment),
}

impl Signer {
    /// `state_id` is the session's; a first payment may get another if somebody has it.
    pub(super) async fn reserve(
        &self,
        consented: Consented,
        mut state_id: StateId,
        offer: &PaymentOffer,
    ) -> Result<Reserving, SignerError> {
        let terms = consented.authorised().terms();
        let manifest_id = &terms.binding.manifest.id;
        let known_credential = self.credentials.get(manifest_id);
        for _ in 0..STATE_ID_TRIES {
            let also_signs = match known_credential {
                Some(_) => Vec::new(),
                None => vec![credential_entry(terms, &state_id)?],
            };
            let tickets = self.template(terms);
            let request = ReserveRequest {
                id: random_reservation_id(),
                state_id: state_id.clone(),
                sequence: terms.sequence,
                account: terms.binding.account.clone(),
                auth_id: terms.binding.auth_id.clone(),
                tickets: tickets.clone(),
                count: terms.num_tickets,
                max_nonce: REFRESH_AT_NONCE,
                also_signs,
                amount_wei: terms.amount_wei,
                charges: consented.charges().charges().to_vec(),
                now_ms: terms.now_ms(),
                expires_at_ms: terms.now_ms().saturating_add(RESERVATION_LIFETIME_MS),
            };
            let id = request.id;
            let reserved = match self.ledger.reserve(request).await {
                Err(error @ LedgerError::Unavailable(_)) => {
                    // It may have happened all the same.
                    self.give_back(id);
                    return Err(error.into());
                }
                other => other?,
            };
            return match reserved {
                Reserved::Nonces(held) => Ok(Reserving::Done(Box::new(Reservation {
                    authorised: consented.into_authorised(),
                    state_id,
                    tickets,
                    held,
                    known_credential,
                }))),
                Reserved::Answered(stored) => {
                    self.known.remove(&state_id);
                    Ok(Reserving::Answered(stored))
                }
                // The recipient takes no more tickets of this offer; it has to make a new one.
                Reserved::Exhausted => Err(offer.refresh()),
                Reserved::UnknownState => {
                    self.known.remove(&state_id);
                    Err(SignerError::InvalidState)
                }
                Reserved::OverCap { counter, cap_wei, charged_wei } => {
                    let full = Full { cap_wei, charged_wei, amount_wei: terms.amount_wei };
                    let over = consented.charges().over(&counter, full, terms.now_ms());
                    let over = over.ok_or(SignerError::Internal("a cap that nobody set"))?;
                    Err(SignerError::OverSpend(Box::new(over)))
                }
                Reserved::StateIdTaken => {
                    state_id = random_state_id()?;
                    continue;
                }
            };
        }
        Err(SignerError::Internal("no free state id was found"))
    }

    fn template(&self, terms: &Terms) -> TicketTemplate {
        let params = &terms.params;
        TicketTemplate {
            recipient: params.recipient,
            sender: self.key.address(),
            face_value: params.face_value,
            win_prob: params.win_prob,
            recipient_rand_hash: params.recipient_rand_hash,
            expiration_params: terms.expiration_params,
        }
    }

    /// Gives a reservation's budget back, in the background; if that fails too, it expires.
    pub(super) fn give_back(&self, id: ReservationId) {
        let (ledger, now_ms) = (std::sync::Arc::clone(&self.ledger), self.now_ms());
        tokio::spawn(async move {
            if let Err(error) = ledger.release(id, now_ms).await {
                tracing::warn!(%error, reservation = %id, "not given back; it will expire");
            }
        });
    }
}

fn credential_entry(terms: &Terms, state_id: &StateId) -> Result<AuditEntry, SignerError> {
    let binding = &terms.binding;
    let reference = format!("{state_id}/{}", terms.sequence);
    let segment = Segment::new(empty_segment(&binding.manifest.id), reference)?;
    Ok(entry(&segment, &binding.account, binding.auth_id.as_ref()))
}

pub(super) fn random_state_id() -> Result<StateId, SignerError> {
    let mut bytes = [0; 4];
    rand::rng().fill_bytes(&mut bytes);
    StateId::new(hex::encode(bytes)).map_err(|_| SignerError::Internal("state id"))
}

fn random_reservation_id() -> ReservationId {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    ReservationId(bytes)
}

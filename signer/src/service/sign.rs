//! Sign: the key's only work for a payment, which are the tickets of reserved nonces and a
//! credential for an empty segment (remote-signer.md section 9).

use super::{Signer, authorise::Terms, reserve::Reservation};
use crate::{error::SignerError, state_blob::StateClaim};
use penstock_keys::SegmentCredential;
use penstock_payments::{EMPTY_DATA_HASH, build_batch};
use penstock_wire::{
    ExpirationFields, PaymentFields, SegmentSpec, SenderFields, TicketParamsFields, header,
    json::LivePaymentAnswer,
};

/// Tickets and credential, made into an answer that nobody may see yet. Only [`Signer::sign`]
/// makes one.
pub(super) struct Signed {
    reservation: Reservation,
    answer: Vec<u8>,
}

impl Signed {
    pub(super) fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    pub(super) fn answer(&self) -> &[u8] {
        &self.answer
    }
}

impl Signer {
    /// Takes the nonces with it: nothing can be signed with them twice.
    pub(super) async fn sign(&self, reservation: Reservation) -> Result<Signed, SignerError> {
        let terms = reservation.authorised().terms();
        let payment = self.sign_tickets(terms, &reservation).await?;
        let seg_creds = self.sign_empty_segment(terms).await?;
        metrics::counter!("signer_key_operations_total")
            .increment(u64::from(terms.num_tickets).saturating_add(1));
        let claim = StateClaim {
            state_id: reservation.state_id().clone(),
            sequence: terms.sequence,
            orchestrator: terms.binding.orchestrator,
            app: terms.binding.app.clone(),
            job_type: terms.binding.job_type,
            manifest_id: terms.binding.manifest.id.clone(),
            auth_id: terms.binding.auth_id.clone(),
        };
        let sealed = self.state_keys.seal(&claim);
        let sealed = sealed.ok_or(SignerError::Internal("state not sealed"))?;
        let body = LivePaymentAnswer::body(&payment, &seg_creds, &sealed);
        let answer = format!("{body}\n").into_bytes();
        Ok(Signed { reservation, answer })
    }

    async fn sign_tickets(
        &self,
        terms: &Terms,
        reservation: &Reservation,
    ) -> Result<String, SignerError> {
        let nonces = reservation.nonces();
        let batch = build_batch(
            &terms.params,
            terms.expiration_params,
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
            ticket_params: Some(params_of(terms)),
            expiration_params: ExpirationFields {
                creation_round: terms.expiration_params.creation_round,
                creation_round_block_hash: terms.expiration_params.creation_round_block_hash,
            },
            tickets: tickets.collect(),
            expected_price: None,
        };
        let mut payment = payment.to_message();
        // Copied whole, with what the domain's price does not have.
        payment.expected_price = Some(terms.price_as_sent.clone());
        Ok(header::encode_payment(&payment))
    }

    async fn sign_empty_segment(&self, terms: &Terms) -> Result<String, SignerError> {
        let manifest_id = &terms.binding.manifest.id;
        let credential = SegmentCredential::<&str> {
            manifest_id: manifest_id.as_str().as_bytes(),
            sequence: 0,
            data_hash: EMPTY_DATA_HASH.as_slice(),
            rendition_names: &[],
        };
        let signature = self.key.sign_segment(&credential).await?;
        let segment = SegmentSpec::empty(
            manifest_id.clone(),
            terms.capabilities.clone(),
            terms.auth_token.clone(),
        );
        Ok(header::encode_segment(&segment.to_message(signature.as_bytes().to_vec())))
    }
}

/// The offer's parameters as a payment repeats them.
fn params_of(terms: &Terms) -> TicketParamsFields {
    let params = &terms.params;
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

//! Sign: the key's only work for a payment, which are the tickets of reserved nonces and, once for
//! a manifest id, a credential for an empty segment (remote-signer.md section 9).

use super::{Signer, authorise::Terms, key_room::Credential, reserve::Reservation};
use crate::{error::SignerError, state_blob::StateClaim};
use penstock_payments::Signature;
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
    /// What is to be stored, and the answer to give once it is.
    pub(super) fn into_parts(self) -> (Reservation, Vec<u8>) {
        (self.reservation, self.answer)
    }
}

impl Signer {
    /// Takes the nonces with it: nothing can be signed with them twice. If the key fails, the budget
    /// goes back.
    pub(super) async fn sign(&self, reservation: Reservation) -> Result<Signed, SignerError> {
        match self.answer(&reservation).await {
            Ok(answer) => Ok(Signed { reservation, answer }),
            Err(error) => {
                self.give_back(reservation.held().id);
                Err(error)
            }
        }
    }

    async fn answer(&self, reservation: &Reservation) -> Result<Vec<u8>, SignerError> {
        let terms = reservation.authorised().terms();
        let payment = self.sign_tickets(terms, reservation).await?;
        let seg_creds = self.credential(terms, reservation).await?;
        let claim = StateClaim {
            state_id: reservation.state_id().clone(),
            sequence: terms.sequence,
            orchestrator: terms.binding.orchestrator,
            app: terms.binding.app.clone(),
            job_type: terms.binding.job_type,
            manifest_id: terms.binding.manifest.id.clone(),
            auth_id: terms.binding.auth_id.clone(),
            auth_expiry_s: terms.auth_expiry_s,
        };
        let sealed = self.state_keys.seal(&claim);
        let sealed = sealed.ok_or(SignerError::Internal("state not sealed"))?;
        let mut answer = LivePaymentAnswer::body(&payment, &seg_creds, &sealed).to_string();
        answer.push('\n');
        Ok(answer.into_bytes())
    }

    async fn sign_tickets(
        &self,
        terms: &Terms,
        reservation: &Reservation,
    ) -> Result<String, SignerError> {
        let (tickets, signatures) = self.key.sign_tickets(reservation).await?;
        let tickets = tickets.iter().zip(&signatures).map(|(ticket, signature)| SenderFields {
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

    async fn credential(
        &self,
        terms: &Terms,
        reservation: &Reservation,
    ) -> Result<String, SignerError> {
        let manifest_id = &terms.binding.manifest.id;
        let signature: Signature = match reservation.credential() {
            Credential::Known(signature) => signature,
            Credential::ToSign(proof) => {
                let signature = self.key.sign_empty_segment(proof).await?;
                self.credentials.put(manifest_id.clone(), signature);
                signature
            }
        };
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

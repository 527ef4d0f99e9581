//! Commit: the payment, the new balance and the answer go into the books together.

use super::{
    Signer,
    authorise::{Asked, Terms, check_replay},
    pay::Answer,
    reserve::{Reservation, charged_wei},
    sign::Signed,
};
use crate::error::SignerError;
use penstock_domain::Rational;
use penstock_ledger::signer::{Committed, NewPayment, NewSession};

impl Signer {
    /// The only way from signatures to an answer. If another process was faster, its tickets are
    /// the payment and ours are forgotten.
    pub(super) async fn commit(
        &self,
        signed: Signed,
        asked: &Asked,
    ) -> Result<Answer, SignerError> {
        let reservation = signed.reservation();
        let terms = reservation.authorised().terms();
        let payment = NewPayment {
            state_id: reservation.state_id().clone(),
            sequence: terms.sequence,
            new_session: terms.first.clone().map(|first| NewSession {
                initial_price: first.initial_price,
                idempotency_key: first.idempotency_key,
            }),
            binding: terms.binding.clone(),
            reservation: reservation.held(),
            charged_wei: charged_wei(terms)?,
            face_value: terms.params.face_value,
            win_prob: terms.params.win_prob,
            ticket_ev_wei: terms.ticket_ev_wei.clone(),
            units: terms.units,
            fee_wei: terms.fee_wei.clone(),
            answer: signed.answer().to_vec(),
            auth_expiry: 0,
            event: None,
            now_ns: terms.now_ns,
        };
        match self.ledger.commit(payment).await? {
            Committed::Stored(balance_wei) => {
                note(terms, reservation, &balance_wei);
                let body = signed.answer().to_vec();
                Ok(Answer { body, units: terms.units, replayed: false })
            }
            Committed::Superseded(stored) => {
                check_replay(asked, &stored)?;
                Ok(Answer::replay(stored))
            }
            Committed::Expired => Err(SignerError::Internal("the reservation expired")),
        }
    }
}

/// One log line and the counters of a stored payment.
fn note(terms: &Terms, reservation: &Reservation, balance_wei: &Rational) {
    let binding = &terms.binding;
    metrics::counter!("signer_payments_total", "type" => binding.job_type.as_str()).increment(1);
    metrics::counter!("signer_tickets_total").increment(terms.num_tickets.into());
    let nonces = reservation.nonces();
    tracing::info!(
        state_id = %reservation.state_id(),
        sequence = terms.sequence,
        manifest_id = %binding.manifest.id,
        account = binding.account,
        auth_id = binding.auth_id.as_ref().map(tracing::field::display),
        orchestrator = %binding.orchestrator,
        recipient_rand_hash = %nonces.recipient_rand_hash,
        num_tickets = terms.num_tickets,
        first_nonce = nonces.first,
        last_nonce = nonces.last,
        units = terms.units,
        fee_wei = %terms.fee_wei.to_fixed(0),
        balance_wei = %balance_wei.to_fixed(0),
        "payment stored"
    );
}

//! Commit: the payment, the new balance, the answer and the event go into the books together.

use super::{
    Signer,
    authorise::{Asked, Terms, check_replay},
    event::{SignedTickets, create_signed_ticket},
    known::Known,
    pay::Answer,
    reserve::Reservation,
    sign::Signed,
};
use crate::error::SignerError;
use penstock_domain::Rational;
use penstock_ledger::signer::{Committed, LedgerError, NewEvent, NewPayment, NewSession};
use penstock_telemetry::go::{self, Whole};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Waits between attempts to store what is signed. The books take the same payment twice as once,
/// so that a database that comes back saves the client from asking again.
const RETRIES_MS: [u64; 4] = [20, 100, 400, 1_600];

impl Signer {
    /// The only way from signatures to an answer. If another process was faster, its tickets are
    /// the payment and ours are forgotten.
    pub(super) async fn commit(
        &self,
        signed: Signed,
        asked: &Asked,
    ) -> Result<Answer, SignerError> {
        let (reservation, answer) = signed.into_parts();
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
            charged_wei: terms.amount_wei,
            face_value: terms.params.face_value,
            win_prob: terms.params.win_prob,
            ticket_ev_wei: terms.ticket_ev_wei.clone(),
            units: terms.units,
            fee_wei: terms.fee_wei.clone(),
            answer: answer.clone(),
            auth_expiry: terms.auth_expiry_s,
            event: self.event(terms, &reservation),
            now_ns: terms.now_ns,
        };
        match self.store(payment).await? {
            Committed::Stored(balance_wei) => {
                note(terms, &reservation, &balance_wei);
                self.remember(terms, &reservation, balance_wei);
                Ok(Answer { body: answer, units: terms.units, replayed: false })
            }
            Committed::Superseded(stored) => {
                self.known.remove(reservation.state_id());
                check_replay(asked, &stored)?;
                Answer::replay(stored)
            }
            Committed::Expired => Err(SignerError::ReservationExpired),
        }
    }

    async fn store(&self, payment: NewPayment) -> Result<Committed, LedgerError> {
        for wait_ms in RETRIES_MS {
            match self.ledger.commit(payment.clone()).await {
                Err(LedgerError::Unavailable(error)) => {
                    tracing::warn!(%error, state_id = %payment.state_id, "not stored yet");
                    metrics::counter!("signer_commit_retries_total").increment(1);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                other => return other,
            }
        }
        self.ledger.commit(payment).await
    }

    fn event(&self, terms: &Terms, reservation: &Reservation) -> Option<NewEvent> {
        let gateway = self.event_source.as_deref()?;
        let balance_wei = terms.balance_after_wei();
        let id = Uuid::new_v4();
        let request_id = id.simple().to_string();
        let tickets = SignedTickets {
            state_id: reservation.state_id().as_str(),
            binding: &terms.binding,
            request_id: request_id.get(..8).unwrap_or_default(),
            orchestrator_url: &terms.orchestrator_url,
            recipient_rand_hash: &terms.params.recipient_rand_hash,
            now_ns: terms.now_ns,
            previous_ns: terms.previous_ns,
            units: terms.units,
            balance_wei: &balance_wei,
            fee_wei: &terms.fee_wei,
            price: &terms.price,
            sequence: terms.sequence,
            num_tickets: terms.num_tickets,
        };
        Some(create_signed_ticket(id, gateway, &tickets))
    }

    fn remember(&self, terms: &Terms, reservation: &Reservation, balance_wei: Rational) {
        let known = Known {
            binding: terms.binding.clone(),
            initial_price: terms.initial_price,
            sequence: terms.sequence,
            last_update_ns: terms.now_ns,
            balance_wei,
            auth_expiry_s: terms.auth_expiry_s,
        };
        self.known.put(reservation.state_id().clone(), Arc::new(known));
    }
}

/// What the tickets were worth, for the Go node's metric.
static SENT: Whole = Whole::gwei();

/// One log line and the counters of a stored payment.
fn note(terms: &Terms, reservation: &Reservation, balance_wei: &Rational) {
    let binding = &terms.binding;
    metrics::counter!("signer_payments_total", "type" => binding.job_type.as_str()).increment(1);
    metrics::counter!("signer_tickets_total").increment(terms.num_tickets.into());
    metrics::counter!("livepeer_tickets_sent", go::labels([])).increment(terms.num_tickets.into());
    let sent_wei = u128::try_from(terms.amount_wei.0).unwrap_or(u128::MAX);
    metrics::counter!("livepeer_ticket_value_sent", go::labels([])).increment(SENT.add(sent_wei));
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let nonces = reservation.nonces();
    tracing::debug!(
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

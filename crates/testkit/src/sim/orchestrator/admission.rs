//! Who may ask for work: the payment and credential headers of a paid request, checked as rows 1 to
//! 7 of orchestrator-wire.md section 6 say.

use super::{SimOrchestrator, is_free};
use crate::sim::now_s;
use axum::http::{HeaderMap, StatusCode};
use penstock_payments::{segment_digest, verify_bytes};
use penstock_wire::{PaymentFields, SegmentCredential, header};

/// A refusal: status and text.
pub(super) type Refusal = (StatusCode, String);

fn refuse(status: StatusCode, reason: impl ToString) -> Refusal {
    (status, reason.to_string())
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

impl SimOrchestrator {
    pub(super) fn admit(
        &self,
        headers: &HeaderMap,
    ) -> Result<(PaymentFields, SegmentCredential), Refusal> {
        let trace = text(headers, "traceparent");
        if !trace.is_empty() {
            self.seen.lock().unwrap().traces.push(trace);
        }
        let payment = header::decode_payment(&text(headers, "livepeer-payment"))
            .map_err(|e| refuse(StatusCode::PAYMENT_REQUIRED, e))?;
        let payment = PaymentFields::try_from(&payment)
            .map_err(|e| refuse(StatusCode::PAYMENT_REQUIRED, e))?;
        let credential = SegmentCredential::from_header(&text(headers, "livepeer-segment"))
            .map_err(|e| refuse(StatusCode::FORBIDDEN, e))?;
        let digest = segment_digest(
            credential.manifest_id.as_str().as_bytes(),
            credential.seq,
            &credential.hash,
            &credential.rendition_names(),
        );
        if !is_free(self) {
            verify_bytes(&credential.sig, &digest, payment.sender.unwrap_or_default())
                .map_err(|_| refuse(StatusCode::FORBIDDEN, "ErrSegSig"))?;
        }
        let token = credential.auth_token.clone().map_err(|e| refuse(StatusCode::FORBIDDEN, e))?;
        self.token_secret
            .check(&token.token, &token.session_id, token.expiration_s, now_s())
            .map_err(|e| refuse(StatusCode::FORBIDDEN, e))?;
        Ok((payment, credential))
    }
}

//! One place that turns a failure into a verdict. Texts are those that orchestrators must keep in
//! their answers (selection.md sections 10 and 11, orchestrator-wire.md section 6).

use crate::error::{
    CallErrorKind, Fault, Next, Operation, Paid, STATUS_NO_TICKETS, STATUS_PRICE_EXCEEDED,
    STATUS_REFRESH_SESSION,
};

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whose fault.
    pub fault: Fault,
    /// What to do.
    pub next: Next,
    /// Whether it was paid.
    pub paid: Paid,
}

const fn verdict_of(fault: Fault, next: Next, paid: Paid) -> Verdict {
    Verdict { fault, next, paid }
}

/// Errors of the transcoder that any other would have too (selection.md section 10): whole text,
/// exact case.
pub const FINAL_JOB_ERRORS: [&str; 19] = [
    "Unsupported input pixel format",
    "Error initializing filtergraph",
    "Too many outputs",
    "Unsupported input codec",
    "No keyframes in input",
    "Unrecoverable state, restart process",
    "Encoded frames runaway",
    "Decoder not found",
    "Demuxer not found",
    "Encoder not found",
    "Muxer not found",
    "Option not found",
    "Invalid argument",
    "TranscoderInvalidResolution",
    "TranscoderInvalidVideo",
    "TranscoderUnrecognizedFormat",
    "TranscoderUnrecognizedProfile",
    "TranscoderInvalidGOP",
    "TranscoderIncompatibleDevices",
];

/// The verdict on a failed call.
pub fn verdict(operation: Operation, kind: &CallErrorKind) -> Verdict {
    use CallErrorKind as K;
    let is_one = operation.is_signer() || operation.is_redeemer();
    let elsewhere = if is_one { Next::RetrySame } else { Next::Elsewhere };
    let maybe = if operation.carries_payment() { Paid::Maybe } else { Paid::No };
    match kind {
        // A URL comes from the peer's offer, or from our own configuration for the signer.
        K::Url(_) if is_one => verdict_of(Fault::Us, Next::GiveUp, Paid::No),
        K::Url(_) => verdict_of(Fault::Peer, Next::Elsewhere, Paid::No),
        K::Request(_) => verdict_of(Fault::Us, Next::GiveUp, Paid::No),
        K::Connect(_) => verdict_of(Fault::Network, elsewhere, Paid::No),
        K::HeaderTimeout | K::Silent | K::Broken(_) => verdict_of(Fault::Network, elsewhere, maybe),
        // The answer had begun, so the payment was taken before (orchestrator-wire.md section 6
        // row 15), unless it began with an error; either way nothing better is known.
        K::BodyTimeout | K::AnswerTooLong { .. } | K::Answer(_) => {
            verdict_of(Fault::Peer, elsewhere, maybe)
        }
        K::Grpc { .. } if operation.is_redeemer() => {
            verdict_of(Fault::Peer, Next::RetrySame, Paid::No)
        }
        K::Grpc { message, .. } => grpc(message),
        K::Job(text) => job(text),
        K::NoResult => verdict_of(Fault::Peer, Next::Elsewhere, Paid::Yes),
        K::Status { status, code, .. } if operation.is_signer() => signer(*status, code.as_deref()),
        K::Status { status, message, .. } if operation == Operation::ByocJob => {
            brought(*status, message)
        }
        K::Status { status, message, .. } if operation.carries_payment() => {
            orchestrator(*status, message)
        }
        K::Status { .. } => verdict_of(Fault::Peer, Next::Elsewhere, Paid::No),
    }
}

fn grpc(message: &str) -> Verdict {
    let next = if message.contains("OrchestratorCapped") { Next::Busy } else { Next::Elsewhere };
    verdict_of(Fault::Peer, next, Paid::No)
}

fn job(text: &str) -> Verdict {
    if FINAL_JOB_ERRORS.contains(&text) {
        return verdict_of(Fault::Job, Next::Reject, Paid::Yes);
    }
    let busy = ["OrchestratorBusy", "OrchestratorCapped", "no transcoders available"];
    let next = if busy.contains(&text) { Next::Busy } else { Next::Elsewhere };
    verdict_of(Fault::Peer, next, Paid::Yes)
}

/// The signer's code for a ticket that is worth more than an account's rules allow: 403 as for any rule,
/// but another orchestrator's tickets may be worth less.
const MAX_TICKET_EV: &str = "max_ticket_ev";

fn signer(status: u16, code: Option<&str>) -> Verdict {
    match status {
        403 if code == Some(MAX_TICKET_EV) => verdict_of(Fault::Peer, Next::PriceTooHigh, Paid::No),
        STATUS_REFRESH_SESSION => verdict_of(Fault::Peer, Next::Refresh, Paid::No),
        STATUS_PRICE_EXCEEDED => verdict_of(Fault::Peer, Next::PriceTooHigh, Paid::No),
        STATUS_NO_TICKETS => verdict_of(Fault::Us, Next::NoTickets, Paid::No),
        408 | 425 | 500..=599 => verdict_of(Fault::Peer, Next::RetrySame, Paid::No),
        // A budget or a rate of the account: not mended by asking again at once (429), or a refusal.
        _ => verdict_of(Fault::Us, Next::GiveUp, Paid::No),
    }
}

/// Errors of `/segment`, `/payment` and the AI routes. The order of the orchestrator's checks
/// says whether the payment had been credited when it refused.
fn orchestrator(status: u16, message: &str) -> Verdict {
    let text = message.to_ascii_lowercase();
    let has = |needle: &str| text.contains(needle);
    if has("ticketparams expired") {
        return verdict_of(Fault::Peer, Next::Refresh, Paid::Maybe);
    }
    if has("insufficient balance") {
        // Checked right after the payment was credited.
        return verdict_of(Fault::Us, Next::BuyMore, Paid::Yes);
    }
    if has("invalid ticket sendernonce") {
        return verdict_of(Fault::Us, Next::Busy, Paid::Maybe);
    }
    if has("insufficient capacity") || has("orchestratorcapped") || has("orchestratorbusy") {
        return verdict_of(Fault::Peer, Next::Busy, Paid::No);
    }
    if has("returned 400") {
        // A runner refused the input; every other runner of the model would.
        return verdict_of(Fault::Job, Next::Reject, Paid::Yes);
    }
    match status {
        403 if has("auth token") => verdict_of(Fault::Peer, Next::Refresh, Paid::No),
        // Row 14: the body's hash differs, found after the payment.
        403 if message.trim() == "Forbidden" => verdict_of(Fault::Us, Next::Elsewhere, Paid::Yes),
        402 | 403 => verdict_of(Fault::Us, Next::Elsewhere, Paid::No),
        STATUS_REFRESH_SESSION => verdict_of(Fault::Peer, Next::Refresh, Paid::No),
        STATUS_PRICE_EXCEEDED => verdict_of(Fault::Peer, Next::PriceTooHigh, Paid::No),
        404 | 405 => verdict_of(Fault::Peer, Next::Elsewhere, Paid::No),
        408 | 429 => verdict_of(Fault::Peer, Next::Busy, Paid::Maybe),
        413 | 415 | 422 => verdict_of(Fault::Job, Next::Reject, Paid::Maybe),
        _ => verdict_of(Fault::Peer, Next::Elsewhere, Paid::Maybe),
    }
}

/// How an orchestrator itself refuses a brought job, with 400 and before its worker is asked (byoc.md
/// section 5.1). Anything else with that status is the worker's word on the job.
pub const BYOC_REFUSALS: [&str; 4] = [
    BYOC_BALANCE,
    "Could not get job price",
    "Could not verify job creds",
    "Unable to unmarshal job request details",
];
const BYOC_BALANCE: &str = "Insufficient balance for request";

/// Errors of `/process/request/…` (byoc.md section 5). Most texts are a worker's own, so only the
/// orchestrator's beginnings count; ours go on with numbers.
fn brought(status: u16, message: &str) -> Verdict {
    match (status, message.trim()) {
        // Checked right after the payment was credited.
        (400, text) if text.starts_with(BYOC_BALANCE) => {
            verdict_of(Fault::Us, Next::BuyMore, Paid::Yes)
        }
        // The others may have a clock or a reader that works.
        (400, text) if BYOC_REFUSALS.iter().any(|words| text.starts_with(words)) => {
            verdict_of(Fault::Peer, Next::Elsewhere, Paid::No)
        }
        (503, text) if text.starts_with("No capacity available for capability") => {
            verdict_of(Fault::Peer, Next::Busy, Paid::No)
        }
        (400..=499, _) => verdict_of(Fault::Job, Next::Reject, Paid::Maybe),
        _ => verdict_of(Fault::Peer, Next::Elsewhere, Paid::Maybe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(operation: Operation, status: u16, message: &str) -> Verdict {
        let message = message.to_owned();
        let kind = CallErrorKind::Status { status, message, code: None, retry_after_s: None };
        verdict(operation, &kind)
    }

    #[test]
    fn signer_statuses() {
        let next = |status| at(Operation::GeneratePayment, status, "").next;
        assert_eq!(next(480), Next::Refresh);
        assert_eq!(next(481), Next::PriceTooHigh);
        assert_eq!(next(482), Next::NoTickets);
        assert_eq!(next(503), Next::RetrySame);
        for refused in [400, 401, 403, 404, 409, 429] {
            assert_eq!(next(refused), Next::GiveUp, "{refused}");
        }
        let named = |status, code: &str| {
            let (message, code) = (String::new(), Some(code.to_owned()));
            let kind = CallErrorKind::Status { status, message, code, retry_after_s: None };
            verdict(Operation::GeneratePayment, &kind).next
        };
        assert_eq!(named(403, "max_ticket_ev"), Next::PriceTooHigh, "of this orchestrator");
        assert_eq!(named(403, "forbidden"), Next::GiveUp);
        // The texts of orchestrators mean nothing in a signer's mouth.
        let odd = at(Operation::GeneratePayment, 400, "TicketParams expired");
        assert_eq!(odd.next, Next::GiveUp);
    }

    #[test]
    fn orchestrator_texts() {
        for (operation, status, text, next, paid) in [
            (Operation::Segment, 400, "TicketParams expired", Next::Refresh, Paid::Maybe),
            (Operation::Segment, 400, "Insufficient balance", Next::BuyMore, Paid::Yes),
            (Operation::Segment, 403, "expired auth token", Next::Refresh, Paid::No),
            (Operation::Segment, 403, "ErrSegSig", Next::Elsewhere, Paid::No),
            (Operation::Segment, 403, "Forbidden", Next::Elsewhere, Paid::Yes),
            (Operation::Segment, 403, "OrchestratorCapped", Next::Busy, Paid::No),
            (Operation::Segment, 402, "base64 decode error", Next::Elsewhere, Paid::No),
            (Operation::Payment, 400, "invalid ticket senderNonce: 3", Next::Busy, Paid::Maybe),
            (Operation::AiJob, 503, "insufficient capacity", Next::Busy, Paid::No),
            (
                Operation::AiJob,
                500,
                "audio-to-text container returned 400: x",
                Next::Reject,
                Paid::Yes,
            ),
            (Operation::AiJob, 500, "oops", Next::Elsewhere, Paid::Maybe),
            (Operation::Download, 404, "ErrNotFound", Next::Elsewhere, Paid::No),
        ] {
            let v = at(operation, status, text);
            assert_eq!((v.next, v.paid), (next, paid), "{operation} {status} {text}");
        }
    }

    #[test]
    fn a_workers_words_decide_nothing() {
        let next = |status, text| at(Operation::ByocJob, status, text).next;
        assert_eq!(next(400, "Insufficient balance for request\n"), Next::BuyMore);
        assert_eq!(next(400, "Could not verify job creds"), Next::Elsewhere);
        assert_eq!(next(400, "Unable to unmarshal job request details: x"), Next::Elsewhere);
        assert_eq!(next(400, "no such style"), Next::Reject);
        assert_eq!(next(402, "insufficient balance"), Next::Reject);
        assert_eq!(next(403, "expired auth token"), Next::Reject);
        assert_eq!(next(429, "slow down"), Next::Reject);
        assert_eq!(next(500, "worker returned 400"), Next::Elsewhere);
        assert_eq!(next(503, "No capacity available for capability"), Next::Busy);
        assert_eq!(at(Operation::ByocToken, 400, "Insufficient balance").next, Next::Elsewhere);
    }

    #[test]
    fn connections() {
        let connect = CallErrorKind::Connect(String::new());
        let broken = CallErrorKind::Broken(String::new());
        assert_eq!(verdict(Operation::Segment, &connect).paid, Paid::No);
        assert_eq!(verdict(Operation::Segment, &broken).paid, Paid::Maybe);
        assert_eq!(verdict(Operation::Segment, &broken).next, Next::Elsewhere);
        assert_eq!(verdict(Operation::GeneratePayment, &broken).next, Next::RetrySame);
        assert_eq!(verdict(Operation::GetOrchestrator, &broken).paid, Paid::No);
    }

    #[test]
    fn jobs() {
        let of = |text: &str| verdict(Operation::Segment, &CallErrorKind::Job(text.into()));
        assert_eq!(of("No keyframes in input").next, Next::Reject);
        assert_eq!(of("no keyframes in input").next, Next::Elsewhere);
        assert_eq!(of("OrchestratorBusy").next, Next::Busy);
        assert_eq!(of("ZeroSegments").paid, Paid::Yes);
    }
}

//! What a failed try means: whose fault it was, whether another orchestrator is worth asking, whether
//! the try may have been charged, and against whom it is held. The table in `docs/selection.md` is
//! checked against [`Cause::ALL`].

use super::error::{JobError, TryError};
use penstock_clients::{CallError, CallErrorKind, Fault as Blame, Next, Paid};
use penstock_selection::{Fault, suspension_ms};

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No connection; nothing was sent.
    Connect,
    /// No answer in time.
    Timeout,
    /// It, or its host, gave no sign of life while it had the job: a ping was left unanswered.
    Silent,
    /// The connection broke before the answer ended.
    Broken,
    /// It has no room now: busy, capped, out of capacity.
    Busy,
    /// Its own error, 5xx among them, or a job that failed there.
    Failed,
    /// Something that is not the result: wrong signature, count, size or form.
    BadResult,
    /// Dearer than agreed or than the limit, or beyond what is bought for one job.
    Price,
    /// Token or ticket parameters (480) that stay expired after they were renewed.
    Expired,
    /// It finds no balance although it was paid.
    Unpaid,
    /// An offer that no job can be paid on, or a service URI where we do not go.
    BadOffer,
    /// The signer does not take its offer, for this caller's job.
    RefusedOffer,
    /// Others buy credit there and did not finish in time.
    LeaseBusy,
    /// One job of this size would take more credit than is bought for one, at this place's terms.
    TooLarge,
    /// The caller's budget at the signer is used up.
    Budget,
    /// The job: it would fail anywhere.
    Job,
    /// The client hung up before a streamed answer began.
    ClientGone,
    /// The signer cannot be reached, or refuses us.
    Signer,
    /// The store.
    Store,
}

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The orchestrator, or the way to it.
    Orchestrator,
    /// The caller.
    Caller,
    /// The operator of this gateway, or another job of it.
    Gateway,
}

/// From whom an orchestrator is kept away after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFrom {
    /// It stays where it is.
    Nobody,
    /// The caller whose job failed.
    Caller,
    /// The caller at once, because the job may be to blame; everybody as soon as another
    /// orchestrator has done that very job.
    CallerFirst,
    /// All callers.
    Everybody,
}

/// What one failed try means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why it failed.
    pub cause: Cause,
    /// Whether the try may have been charged for. Its estimate is then taken for spent.
    pub paid: Paid,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Connect,
        Self::Timeout,
        Self::Silent,
        Self::Broken,
        Self::Busy,
        Self::Failed,
        Self::BadResult,
        Self::Price,
        Self::Expired,
        Self::Unpaid,
        Self::BadOffer,
        Self::RefusedOffer,
        Self::LeaseBusy,
        Self::TooLarge,
        Self::Budget,
        Self::Job,
        Self::ClientGone,
        Self::Signer,
        Self::Store,
    ];

    /// A stable word for logs, metrics and documents.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Silent => "silent",
            Self::Broken => "broken",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::BadResult => "bad_result",
            Self::Price => "price",
            Self::Expired => "expired",
            Self::Unpaid => "unpaid",
            Self::BadOffer => "bad_offer",
            Self::RefusedOffer => "refused_offer",
            Self::LeaseBusy => "lease_busy",
            Self::TooLarge => "too_large",
            Self::Budget => "budget",
            Self::Job => "job",
            Self::ClientGone => "client_gone",
            Self::Signer => "signer",
            Self::Store => "store",
        }
    }

    /// Whose fault it is.
    pub fn whose(self) -> Whose {
        match self {
            Self::TooLarge | Self::Budget | Self::Job | Self::ClientGone => Whose::Caller,
            Self::LeaseBusy | Self::Signer | Self::Store => Whose::Gateway,
            _ => Whose::Orchestrator,
        }
    }

    /// Whether another orchestrator is asked. The others answer at once.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::Budget | Self::Job | Self::ClientGone | Self::Signer | Self::Store)
    }

    /// What it is held against the orchestrator as; `None`: it is left in the pool.
    pub fn held_against(self) -> Option<Fault> {
        match self {
            Self::Connect | Self::Timeout | Self::Silent | Self::Broken => Some(Fault::Unreachable),
            Self::Busy => Some(Fault::Busy),
            Self::Failed | Self::Expired | Self::Unpaid | Self::BadOffer | Self::RefusedOffer => {
                Some(Fault::Failed)
            }
            Self::BadResult => Some(Fault::BadResult),
            Self::Price => Some(Fault::Price),
            Self::LeaseBusy
            | Self::TooLarge
            | Self::Budget
            | Self::Job
            | Self::ClientGone
            | Self::Signer
            | Self::Store => None,
        }
    }

    /// From whom it is kept away. One caller's jobs must not take orchestrators from the others: what
    /// may come from the job is the caller's alone until somebody else has done it, and ceilings are
    /// each caller's own.
    pub fn kept_from(self) -> KeptFrom {
        match self {
            Self::Connect | Self::Busy | Self::Expired | Self::Unpaid | Self::BadOffer => {
                KeptFrom::Everybody
            }
            // Silent: a replica that stood still itself believes it of everybody that it had asked.
            Self::Timeout
            | Self::Silent
            | Self::Broken
            | Self::Failed
            | Self::BadResult
            | Self::RefusedOffer => KeptFrom::CallerFirst,
            Self::Price => KeptFrom::Caller,
            Self::LeaseBusy
            | Self::TooLarge
            | Self::Budget
            | Self::Job
            | Self::ClientGone
            | Self::Signer
            | Self::Store => KeptFrom::Nobody,
        }
    }

    /// Milliseconds that the orchestrator is kept out after a first failure.
    pub fn suspended_ms(self) -> u64 {
        self.held_against().map_or(0, |fault| suspension_ms(fault, 1))
    }
}

impl Failure {
    /// What the error of a try means.
    pub fn of(error: &TryError) -> Self {
        let (cause, paid) = match error {
            TryError::Call(call) => (cause_of(call), call.paid()),
            TryError::Offer(_) => (Cause::BadOffer, Paid::No),
            TryError::BadResult(_) => (Cause::BadResult, Paid::Yes),
            TryError::TooDear { .. } => (Cause::TooLarge, Paid::No),
            TryError::PriceAboveLimit => (Cause::Price, Paid::No),
            TryError::LeaseBusy => (Cause::LeaseBusy, Paid::No),
            TryError::Unheard { sent: true } => (Cause::ClientGone, Paid::Maybe),
            TryError::Unheard { sent: false } => (Cause::ClientGone, Paid::No),
            TryError::Store(_) => (Cause::Store, Paid::No),
        };
        Self { cause, paid }
    }
}

fn cause_of(call: &CallError) -> Cause {
    let at_signer = call.operation.is_signer();
    match call.next() {
        Next::Reject => Cause::Job,
        Next::PriceTooHigh => Cause::Price,
        Next::Busy => Cause::Busy,
        Next::Refresh => Cause::Expired,
        Next::BuyMore | Next::NoTickets => Cause::Unpaid,
        // The signer's own trouble is the same for every orchestrator, and so is what it refuses this
        // caller, except what it says about one orchestrator's offer (400), which another one's may not
        // have.
        Next::RetrySame if at_signer => Cause::Signer,
        Next::GiveUp if at_signer => match call.status() {
            Some(400) => Cause::RefusedOffer,
            Some(429) => Cause::Budget,
            _ => Cause::Signer,
        },
        Next::GiveUp if matches!(call.status(), Some(401 | 403 | 404) | None) => Cause::Signer,
        Next::GiveUp => Cause::BadOffer,
        Next::RetrySame | Next::Elsewhere => match &call.kind {
            CallErrorKind::Connect(_) => Cause::Connect,
            CallErrorKind::HeaderTimeout | CallErrorKind::BodyTimeout => Cause::Timeout,
            CallErrorKind::Silent => Cause::Silent,
            CallErrorKind::Broken(_) => Cause::Broken,
            CallErrorKind::Url(_) => Cause::BadOffer,
            CallErrorKind::Answer(_)
            | CallErrorKind::AnswerTooLong { .. }
            | CallErrorKind::NoResult
                if call.operation.carries_payment() =>
            {
                Cause::BadResult
            }
            _ if call.fault() == Blame::Network => Cause::Broken,
            _ => Cause::Failed,
        },
    }
}

/// What ends a job at once, in the job's words.
pub(super) fn final_error(cause: Cause, error: TryError) -> JobError {
    match (cause, error) {
        (_, TryError::Store(error)) => JobError::Store(error),
        // Nobody hears it.
        (Cause::Job | Cause::ClientGone, error) => JobError::Rejected(error.to_string()),
        (Cause::Budget, TryError::Call(error)) => {
            JobError::Budget { retry_after_s: error.retry_after_s(), why: error.message() }
        }
        (Cause::Signer, TryError::Call(error)) if is_forbidden(&error) => {
            JobError::Forbidden(error.message())
        }
        (Cause::Signer, error) => JobError::Signer(error.to_string()),
        (_, error) => JobError::Internal(error.to_string()),
    }
}

/// Whether the rules of the caller's account are what the signer refuses by. Its other refusals, such as
/// of our own credential, are the operator's to look at.
fn is_forbidden(error: &CallError) -> bool {
    error.operation.is_signer() && error.status() == Some(403) && error.code() == Some("forbidden")
}

/// Units that a failed try may have been charged for. Refusals before the 200, and jobs that failed,
/// cost nothing; of a call that broke off nothing is known, so its estimate is taken for spent. So it
/// is for an answer that is no result: it was charged all the same.
pub fn spent_on_failure(error: &TryError, estimate_units: u64) -> u64 {
    use CallErrorKind as K;
    match error {
        TryError::Call(call) if call.operation.carries_payment() => match &call.kind {
            K::HeaderTimeout | K::BodyTimeout | K::Silent | K::Broken(_) => estimate_units,
            K::Answer(_) | K::AnswerTooLong { .. } | K::NoResult => estimate_units,
            _ => 0,
        },
        TryError::BadResult(_) | TryError::Unheard { sent: true } => estimate_units,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_clients::Operation;
    use penstock_store::StoreError;
    use penstock_wire::WireError;

    fn call(operation: Operation, kind: CallErrorKind) -> TryError {
        TryError::Call(CallError { operation, peer: "https://o:1".into(), kind })
    }

    fn said(operation: Operation, status: u16, message: &str) -> TryError {
        let message = message.to_owned();
        call(operation, CallErrorKind::Status { status, message, code: None, retry_after_s: None })
    }

    #[test]
    fn every_failure_has_its_cause() {
        use CallErrorKind as K;
        use Operation as O;
        let broken = || K::Broken(String::new());
        for (error, cause, paid) in [
            (call(O::Segment, K::Connect(String::new())), Cause::Connect, Paid::No),
            (call(O::Segment, K::HeaderTimeout), Cause::Timeout, Paid::Maybe),
            (call(O::AiJob, K::BodyTimeout), Cause::Timeout, Paid::Maybe),
            (call(O::AiJob, K::Silent), Cause::Silent, Paid::Maybe),
            (call(O::Segment, broken()), Cause::Broken, Paid::Maybe),
            (call(O::GetOrchestrator, broken()), Cause::Broken, Paid::No),
            (said(O::AiJob, 503, "insufficient capacity"), Cause::Busy, Paid::No),
            (call(O::Segment, K::Job("OrchestratorBusy".into())), Cause::Busy, Paid::Yes),
            (said(O::Segment, 500, "oops"), Cause::Failed, Paid::Maybe),
            (said(O::Download, 404, "ErrNotFound"), Cause::Failed, Paid::No),
            (call(O::Segment, K::NoResult), Cause::BadResult, Paid::Yes),
            (call(O::AiJob, K::AnswerTooLong { max: 1 }), Cause::BadResult, Paid::Maybe),
            (TryError::BadResult("x"), Cause::BadResult, Paid::Yes),
            (said(O::GeneratePayment, 481, ""), Cause::Price, Paid::No),
            (TryError::PriceAboveLimit, Cause::Price, Paid::No),
            (TryError::TooDear { units: 1 }, Cause::TooLarge, Paid::No),
            (said(O::GeneratePayment, 429, ""), Cause::Budget, Paid::No),
            (said(O::GeneratePayment, 480, ""), Cause::Expired, Paid::No),
            (said(O::AiJob, 400, "TicketParams expired"), Cause::Expired, Paid::Maybe),
            (said(O::Segment, 400, "Insufficient balance"), Cause::Unpaid, Paid::Yes),
            (call(O::GetOrchestrator, K::Url("x".into())), Cause::BadOffer, Paid::No),
            (TryError::Offer(WireError::Missing("price")), Cause::BadOffer, Paid::No),
            (said(O::GeneratePayment, 400, "bad info"), Cause::RefusedOffer, Paid::No),
            (said(O::GeneratePayment, 402, "pay first"), Cause::Signer, Paid::No),
            (said(O::GeneratePayment, 413, "too long"), Cause::Signer, Paid::No),
            (TryError::LeaseBusy, Cause::LeaseBusy, Paid::No),
            (TryError::Unheard { sent: true }, Cause::ClientGone, Paid::Maybe),
            (TryError::Unheard { sent: false }, Cause::ClientGone, Paid::No),
            (call(O::Segment, K::Job("No keyframes in input".into())), Cause::Job, Paid::Yes),
            (said(O::GeneratePayment, 503, ""), Cause::Signer, Paid::No),
            (said(O::SignSegment, 401, ""), Cause::Signer, Paid::No),
            (TryError::Store(StoreError::Full("x")), Cause::Store, Paid::No),
        ] {
            assert_eq!(Failure::of(&error), Failure { cause, paid }, "{error:?}");
        }
    }

    /// The table of `docs/selection.md` says what the code does.
    #[test]
    fn the_documented_failures() {
        let document = include_str!("../../../docs/selection.md");
        for cause in Cause::ALL {
            let whose = match cause.whose() {
                Whose::Orchestrator => "orchestrator",
                Whose::Caller => "caller",
                Whose::Gateway => "gateway",
            };
            let next = if cause.is_retryable() { "the next best" } else { "answer at once" };
            let out = match cause.suspended_ms() {
                0 => "no".to_owned(),
                ms => format!("{} s", ms / 1_000),
            };
            let from = match cause.kept_from() {
                KeptFrom::Nobody => "",
                KeptFrom::Caller => "the caller",
                KeptFrom::CallerFirst => "the caller, then everybody",
                KeptFrom::Everybody => "everybody",
            };
            let row = format!("| `{}` | {whose} | {next} | {out} | {from} |", cause.label());
            let row = row.replace("|  |", "| |");
            assert!(document.contains(&row), "docs/selection.md lacks {row:?}");
        }
    }

    #[test]
    fn only_orchestrators_are_kept_out_and_only_their_failures_go_on() {
        for cause in Cause::ALL {
            let kept_out = cause.suspended_ms() > 0;
            assert_eq!(kept_out, cause.whose() == Whose::Orchestrator, "{cause:?}");
            assert_eq!(kept_out, cause.kept_from() != KeptFrom::Nobody, "{cause:?}");
            assert!(cause.is_retryable() || !kept_out, "{cause:?}");
        }
    }

    #[test]
    fn what_may_have_been_charged_is_spent() {
        let spent = |error: &TryError| spent_on_failure(error, 5);
        assert_eq!(spent(&TryError::BadResult("x")), 5);
        assert_eq!(spent(&call(Operation::Segment, CallErrorKind::HeaderTimeout)), 5);
        assert_eq!(spent(&call(Operation::AiJob, CallErrorKind::Broken(String::new()))), 5);
        assert_eq!(spent(&call(Operation::AiJob, CallErrorKind::Silent)), 5);
        assert_eq!(spent(&call(Operation::Download, CallErrorKind::HeaderTimeout)), 0);
        assert_eq!(spent(&said(Operation::Segment, 500, "x")), 0);
        assert_eq!(spent(&TryError::LeaseBusy), 0);
        assert_eq!(spent(&TryError::Unheard { sent: true }), 5);
        assert_eq!(spent(&TryError::Unheard { sent: false }), 0);
    }
}

//! Jobs for brought capabilities (byoc.md sections 4 and 6): who offers the capability now, and then the
//! same payment, credit and classes of failure as every other job. A second of work is the unit.
//!
//! Tickets are bought on the terms of the capability's token and delivered with `POST /payment` into
//! the account that bears the capability's name, before the job goes out without any: so the notes that
//! make a purchase repeatable hold here too.

mod events;
mod likely;
mod search;
mod work;

pub use events::Events;
pub use search::Search;

use super::{
    Gateway,
    attempts::{Failures, Limits, Plan, Served},
    choose::{Ask, Chosen, Tried as Offered},
    error::{JobError, TryError},
    explain::Trail,
    failure::{Cause, final_error},
    own_time::OwnTime,
    seen,
    session::{Account, Purpose},
};
use crate::{
    front::{
        caller::Caller,
        timing::{self, Phase},
    },
    trace,
};
use bytes::Bytes;
use http::HeaderValue;
use penstock_clients::PaymentContext;
use penstock_domain::{Address, Capabilities, ManifestId};
use penstock_wire::json::ByocJobRequest;
use search::Found;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use work::{Begun, BegunBody, Signed, Tried};

/// What an orchestrator wants to see in the account before any job: a minute's worth.
const LEAST_SECONDS: u64 = 60;

/// A job as the client sent it.
#[derive(Debug, Clone)]
pub struct BroughtJob {
    /// The job request.
    pub request: ByocJobRequest,
    /// The path after `/process/request/`.
    pub path: String,
    /// The body's type.
    pub content_type: Option<HeaderValue>,
    /// The body.
    pub body: Bytes,
    /// How long to look.
    pub search: Search,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ByocError {
    /// The capability's name cannot be an account.
    #[error("capability must be at most 64 printable characters")]
    Capability,
    /// It wants more time than a job may take here.
    #[error("timeout_seconds is {asked}, and a job may take {most} s here (--ai-job-timeout-ms)")]
    TooLong {
        /// Seconds.
        asked: u32,
        /// Seconds.
        most: u64,
    },
    /// The caller's account does not have it.
    #[error("this caller may not use byoc/{0}")]
    NotAllowed(String),
    /// Nobody offers it now, or has room.
    #[error("No orchestrators found for capability {0}")]
    Nobody(String),
    /// An orchestrator or its worker refuses the job.
    #[error("{message}")]
    Refused {
        /// 400 to 499.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The network.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// The beginning of an answer.
pub struct Brought {
    /// Who gave it.
    pub orchestrator: String,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `X-Metadata`.
    pub metadata: Option<String>,
    /// `Livepeer-Balance`, or what streams call it.
    pub balance: Option<String>,
    /// The rest.
    pub body: BroughtBody,
}

/// An answer's body.
pub enum BroughtBody {
    /// All of it.
    Whole(Bytes),
    /// Events, as they come.
    Events(Box<Events>),
}

impl Gateway {
    /// Has a brought job done.
    pub async fn brought(
        self: &Arc<Self>,
        caller: &Caller,
        job: &BroughtJob,
    ) -> Result<Brought, ByocError> {
        let name = &job.request.capability;
        if !caller.may_use(&format!("byoc/{name}")) {
            return Err(ByocError::NotAllowed(name.clone()));
        }
        // A job keeps its place and its credit for so long, whether or not anybody waits for it.
        let most = self.settings.ai.job_timeout_ms / 1_000;
        if u64::from(job.request.timeout_seconds) > most {
            let asked = job.request.timeout_seconds;
            return Err(ByocError::TooLong { asked, most });
        }
        // The account's name is what is signed: 64 printable characters (architecture.md rule 7).
        let account = ManifestId::new(name.clone()).map_err(|_| ByocError::Capability)?;
        let found = timing::span(Phase::Selection, self.search(caller, job)).await?;
        if !found.has_room {
            seen::over(seen::BYOC, seen::End::Nobody);
            return Err(ByocError::Nobody(name.clone()));
        }
        let mut plan = self.plan_of(caller, &account, job, &found);
        let mut trail = Trail::of(&plan);
        let began = Instant::now();
        let done = Box::pin(self.brought_by_one(&mut plan, job, &found, &mut trail)).await;
        self.note(trail);
        seen::ended(&plan, end_of(&done), began.elapsed());
        let Served { orchestrator, output: begun, .. } = done?;
        metrics::counter!("penstock_gateway_ai_jobs_total", "pipeline" => "byoc").increment(1);
        Ok(self.begun(orchestrator, begun))
    }

    fn plan_of(
        &self,
        caller: &Caller,
        account: &ManifestId,
        job: &BroughtJob,
        found: &Found,
    ) -> Plan<'static> {
        let pool = search::pool_of(account.as_str());
        let scope = pool.0.clone();
        let account = Account::Brought { name: account.clone(), price: None };
        Plan {
            name: scope.clone(),
            capability: seen::BYOC,
            model: None,
            pool,
            purpose: Purpose::new(caller, &scope, account, Capabilities::default()),
            estimate_units: u64::from(job.request.timeout_seconds).max(LEAST_SECONDS),
            sticky: None,
            // Each that was found is tried once, as long as not too many may have been charged; what
            // limits a try is the job's own time.
            limits: Limits {
                attempts: u32::try_from(found.pool.members.len()).unwrap_or(u32::MAX),
                charged: self.settings.args.max_attempts,
                budget: Duration::MAX,
                wait_for_first: Duration::ZERO,
            },
        }
    }

    /// Tries those that were found, each once: chosen as for every other job, and kept out like there
    /// when they fail.
    async fn brought_by_one(
        &self,
        plan: &mut Plan<'static>,
        job: &BroughtJob,
        found: &Found,
        trail: &mut Trail,
    ) -> Result<Served<Begun>, ByocError> {
        let (mut tried, mut failures, mut signed) = (Offered::default(), Failures::default(), None);
        loop {
            if !failures.leave_room(&plan.limits, Duration::ZERO) {
                return Err(JobError::Exhausted(failures.last.unwrap_or_default()).into());
            }
            let ask = Ask {
                caller: &plan.purpose.caller,
                pool: &plan.pool,
                job: &found.job,
                stream: None,
                sticky: None,
                tried: &tried,
            };
            let choice = Box::pin(self.choose_among(Some(&found.pool), &ask, &found.policy));
            let considered = timing::span(Phase::Selection, choice).await?;
            let Some(at) = considered.chosen.clone() else {
                let why = considered.summary();
                trail.decided(considered);
                let Some(last) = failures.last else {
                    return Err(JobError::NoOrchestrators(why).into());
                };
                let all_busy = failures.causes.iter().all(|cause| *cause == Cause::LeaseBusy);
                let error = if all_busy { JobError::Busy(last) } else { JobError::Exhausted(last) };
                return Err(error.into());
            };
            trail.decided(considered);
            if let Account::Brought { price, .. } = &mut plan.purpose.account {
                *price = found.prices.get(&at.uri).copied().flatten();
            }
            if signed.is_none() {
                // The signature covers what is asked, whoever does it.
                let signing = self.sign_job(&plan.purpose.caller, &job.request);
                signed = Some(timing::span(Phase::Payment, signing).await?);
            }
            let Some(signed) = &signed else { continue };
            let began = Instant::now();
            let (work, clock) = (Tried { job, signed }, OwnTime::new(false));
            let error = match Box::pin(self.attempt_at(plan, &work, &at, &clock)).await {
                Ok(done) => {
                    trail.ended(&at.uri, None, began.elapsed());
                    self.succeeded(plan, &at, done.latency_score).await;
                    self.not_to_blame(plan, &failures).await;
                    let failed_tries = u32::try_from(failures.causes.len()).unwrap_or(u32::MAX);
                    let Chosen { uri: orchestrator, facts, .. } = at;
                    return Ok(Served { orchestrator, facts, output: done.output, failed_tries });
                }
                Err(error) => error,
            };
            let cause = self.failed(plan, &at, &error, &mut failures).await;
            trail.ended(&at.uri, Some((cause, &error.to_string())), began.elapsed());
            if let Some(last_word) = end_of_job(cause, error) {
                return Err(last_word);
            }
            tried.0.insert(at.uri);
        }
    }

    /// The job request with who pays, and the signature that says so. Off-chain nobody signs, and orchestrators that want
    /// no money do not look.
    async fn sign_job(
        &self,
        caller: &Caller,
        request: &ByocJobRequest,
    ) -> Result<Signed, ByocError> {
        let request = request.clone().signable();
        if self.settings.front.offchain {
            return Ok(Signed(request.to_header(&Address::ZERO.to_string(), "")));
        }
        let trace = trace::outgoing();
        let context = PaymentContext {
            auth_id: Some(&caller.auth_id),
            traceparent: trace.as_deref(),
            ..PaymentContext::default()
        };
        let signed = self.signer.sign_byoc_job(&request, context).await;
        let (sender, signature) = signed.map_err(|error| JobError::Signer(error.message()))?;
        Ok(Signed(request.to_header(&sender, &signature)))
    }

    fn begun(self: &Arc<Self>, orchestrator: String, begun: Begun) -> Brought {
        let body = match begun.body {
            BegunBody::Whole(body) => BroughtBody::Whole(body),
            BegunBody::Events(upstream, funded) => {
                BroughtBody::Events(Box::new(Events::new(Arc::clone(self), *upstream, *funded)))
            }
        };
        Brought {
            orchestrator,
            content_type: begun.content_type,
            metadata: begun.metadata,
            balance: begun.balance,
            body,
        }
    }
}

/// For the metrics.
fn end_of(done: &Result<Served<Begun>, ByocError>) -> seen::End<'_> {
    match done {
        Ok(Served { orchestrator, facts, failed_tries, .. }) => {
            seen::End::Done { orchestrator, facts, failed_tries: *failed_tries }
        }
        Err(ByocError::Job(error)) => error.into(),
        Err(ByocError::Nobody(_)) => seen::End::Nobody,
        Err(
            ByocError::Capability
            | ByocError::TooLong { .. }
            | ByocError::NotAllowed(_)
            | ByocError::Refused { .. },
        ) => seen::End::Refused,
    }
}

/// What a failed try means for the whole job; `None`: the next one.
fn end_of_job(cause: Cause, error: TryError) -> Option<ByocError> {
    match (cause, error) {
        (Cause::Job, TryError::Call(call)) => Some(ByocError::Refused {
            status: call.status().filter(|s| (400..500).contains(s)).unwrap_or(400),
            message: call.message(),
        }),
        (cause, error) => (!cause.is_retryable()).then(|| final_error(cause, error).into()),
    }
}

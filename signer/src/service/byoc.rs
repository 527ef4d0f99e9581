//! `POST /sign-byoc-job`: the signature by which a job for a brought capability says who pays
//! (byoc.md sections 1.3 and 9).
//!
//! The nodes verify `request ‖ parameters` and nothing else, so whoever sees a signed job can send
//! it on; what it costs is paid with tickets, which this does not give.

use super::{
    Signer,
    key_room::Job,
    policy::{byoc_name, check_names},
    to_the_end,
};
use crate::{auth::Caller, error::SignerError};
use penstock_keys::{ByocJob, KeyError};
use penstock_payments::Signature;
use penstock_wire::json::SignByocJobRequest;
use std::sync::Arc;

/// Longest job id or capability in an audit record's reference.
const REFERENCE_PART: usize = 200;

impl Signer {
    /// Authorised, then recorded, then signed. Goes on when the client has hung up, so that a record
    /// has its signature or its `void`.
    pub async fn sign_byoc_job(
        self: Arc<Self>,
        caller: Caller,
        request: SignByocJobRequest,
    ) -> Result<Signature, SignerError> {
        to_the_end(async move { self.byoc_job(&caller, &request).await }).await
    }

    async fn byoc_job(
        &self,
        caller: &Caller,
        request: &SignByocJobRequest,
    ) -> Result<Signature, SignerError> {
        self.check_known(caller, "BYOC jobs")?;
        let names = [byoc_name(&request.capability)];
        let payers = self.accounts.payers(&caller.account, caller.auth_id.as_ref()).await?;
        for payer in &payers {
            check_names(payer.account.name(), &payer.policy, &names)?;
        }
        let job = ByocJob::new(&request.request, &request.parameters).map_err(KeyError::from)?;
        let reference = format!("{}/{}", short(&request.id), short(&request.capability));
        let what = Job { job, reference };
        let void = self.void(&what, Some(caller));
        let proof = self.audited(what, Some(caller)).await?;
        let signature = self.or_void(self.key.sign_byoc_job(proof).await, void).await?;
        metrics::counter!("signer_byoc_jobs_total").increment(1);
        tracing::debug!(
            job_id = request.id,
            capability = request.capability,
            account = caller.account.name(),
            "BYOC job signed"
        );
        Ok(signature)
    }
}

fn short(text: &str) -> &str {
    let end = (0..=REFERENCE_PART.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_body_is_read_or_refused(noise in r#"[\{\}"a-z_:, 0-9\\é]{0,60}"#, key in 0usize..5) {
            let _ = SignByocJobRequest::parse(noise.as_bytes());
            let key = ["id", "capability", "request", "parameters", "timeout_seconds"][key];
            let mut job = serde_json::json!({
                "id": "1", "capability": "c", "request": "{}", "parameters": "", "timeout_seconds": 1,
            });
            job[key] = noise.clone().into();
            if let Ok(job) = SignByocJobRequest::parse(job.to_string().as_bytes()) {
                let _ = ByocJob::new(&job.request, &job.parameters);
            }
            prop_assert!(short(&noise.repeat(9)).len() <= REFERENCE_PART);
        }
    }
}

//! Who pays: the signer's address and its constant signature, asked for once and kept. It also
//! tells readiness whether the signer answers.

use crate::trace;
use penstock_clients::{CallError, OfferRequest, SignerClient};
use penstock_domain::{Address, Capabilities};
use penstock_wire::json::SignOrchestratorInfo;
use tokio::sync::RwLock;

/// The last answer and how the last attempt went.
#[derive(Debug, Default)]
pub struct Identity {
    known: RwLock<Option<SignOrchestratorInfo>>,
    trouble: RwLock<Option<String>>,
}

impl Identity {
    /// Nobody: where nothing is paid there is no account, and requests carry no signature.
    pub fn nobody() -> Self {
        let nobody = SignOrchestratorInfo { address: Address::ZERO, signature: Vec::new() };
        Self { known: RwLock::new(Some(nobody)), trouble: RwLock::default() }
    }

    /// The payer; asks the signer when it is not known yet.
    pub async fn payer(&self, signer: &SignerClient) -> Result<SignOrchestratorInfo, CallError> {
        if let Some(known) = self.known.read().await.clone() {
            return Ok(known);
        }
        self.refresh(signer).await
    }

    /// Asks again: a signer that was restarted with another key must not go unnoticed.
    pub async fn refresh(&self, signer: &SignerClient) -> Result<SignOrchestratorInfo, CallError> {
        if let Some(nobody) = self.known.read().await.clone().filter(|k| k.address.is_zero()) {
            return Ok(nobody);
        }
        match signer.sign_orchestrator_info().await {
            Ok(info) => {
                *self.known.write().await = Some(info.clone());
                *self.trouble.write().await = None;
                Ok(info)
            }
            Err(error) => {
                let reason = format!("{error}: {}", error.message());
                *self.trouble.write().await = Some(reason);
                Err(error)
            }
        }
    }

    /// Why the signer is of no use now; `None` when the last attempt succeeded.
    pub async fn trouble(&self) -> Option<String> {
        if let Some(trouble) = self.trouble.read().await.clone() {
            return Some(trouble);
        }
        let unknown = self.known.read().await.is_none();
        unknown.then(|| "not asked yet".to_owned())
    }
}

/// The question to an orchestrator, on the payer's behalf.
pub fn offer_request(payer: &SignOrchestratorInfo, job: &Capabilities) -> OfferRequest {
    OfferRequest {
        address: payer.address,
        sig: payer.signature.clone(),
        capabilities: Some(job.clone()),
        ignore_capacity_check: false,
        traceparent: trace::outgoing(),
    }
}

/// The payer's address, for credit accounts.
pub fn sender(payer: &SignOrchestratorInfo) -> Address {
    payer.address
}

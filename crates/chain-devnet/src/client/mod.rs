//! [`DevnetChain`]: the chain port over a devnet server's HTTP.

mod http;

use crate::{
    location::{ChainLocation, parse_chain},
    wire::{
        AccountView, Action, ClaimView, ClaimableView, FundRequest, MineRequest, OrchestratorView,
        Payload, ReceiptView, RedeemRequest, RedemptionView, SenderView, Status, TicketView,
        TransactionRequest,
    },
};
use async_trait::async_trait;
use http::Http;
pub(crate) use http::code;
use penstock_chain::{
    ActiveOrchestrator, Chain, ChainError, Notes, OnChainTicket, Receipt, Redemption, Rounds,
    SenderInfo, WinningTicket,
};
use penstock_domain::{Address, B256, Wei, address_lower};
use penstock_keys::TypedSigner;
use std::sync::Arc;

/// Gas of a redemption on every network that is not Arbitrum (on-chain.md section 10.1).
const REDEEM_GAS: u64 = 350_000;
/// How often a signed transaction is made again because another one took its nonce.
const NONCE_ATTEMPTS: usize = 5;

/// A devnet, reached over HTTP. Cheap to clone. Connecting does no I/O, so that roles may start
/// in any order; the first call tells whether the devnet is there.
#[derive(Debug, Clone)]
pub struct DevnetChain {
    http: Http,
    account: Option<TypedSigner>,
}

impl DevnetChain {
    /// A chain without an account, from `devnet:http://HOST:PORT` or the bare `http://…`.
    pub fn connect(url: &str) -> Result<Self, ChainError> {
        let text =
            if url.starts_with("devnet:") { url.to_owned() } else { format!("devnet:{url}") };
        let location = parse_chain(&text)
            .map_err(|error| ChainError::Refused { reason: error.to_string() })?;
        Self::open(&location)
    }

    /// The same, from what `--chain` was parsed to.
    pub fn open(location: &ChainLocation) -> Result<Self, ChainError> {
        let ChainLocation::Devnet(base) = location;
        Ok(Self { http: Http::new(base.clone())?, account: None })
    }

    /// Acts as this key's account from now on.
    #[must_use]
    pub fn with_account(self, signer: TypedSigner) -> Self {
        Self { account: Some(signer), ..self }
    }

    /// Everything there is one of, in one consistent answer.
    pub async fn status(&self) -> Result<Status, ChainError> {
        self.http.get("/v1/status").await
    }

    /// An account's nonce, earnings and withdrawals.
    pub async fn account(&self, address: Address) -> Result<AccountView, ChainError> {
        self.http.get(&format!("/v1/accounts/{}", address_lower(&address))).await
    }

    /// The newest redemptions first, at most `limit`.
    pub async fn redemptions(&self, limit: u32) -> Result<Vec<Redemption>, ChainError> {
        let views: Vec<RedemptionView> =
            self.http.get(&format!("/v1/redemptions?limit={limit}")).await?;
        Ok(views.into_iter().map(Redemption::from).collect())
    }

    /// How the ticket of this hash was redeemed.
    pub async fn redemption_of(&self, ticket_hash: B256) -> Result<Option<Redemption>, ChainError> {
        let view: TicketView = self.http.get(&format!("/v1/tickets/{ticket_hash}")).await?;
        Ok(view.redemption.map(Redemption::from))
    }

    /// Mines, and answers with the state after it.
    pub async fn mine(&self, request: &MineRequest) -> Result<Status, ChainError> {
        self.http.post("/mine", request).await
    }

    /// Funds the own account in its own name, which cancels an unlock in progress.
    pub async fn fund_own(&self, deposit: Wei, reserve: Wei) -> Result<Receipt, ChainError> {
        self.act("fund", Action::Fund { deposit_wei: deposit, reserve_wei: reserve }).await
    }

    /// Leaves the orchestrator pool as the own account.
    pub async fn resign(&self) -> Result<Receipt, ChainError> {
        self.act("resign", Action::Resign {}).await
    }

    /// Signs an action with the account's next nonce and sends it. When another transaction of the
    /// account takes the nonce first, the action is signed again.
    async fn act(&self, operation: &'static str, action: Action) -> Result<Receipt, ChainError> {
        let signer = self.account.as_ref().ok_or(ChainError::NoAccount { operation })?;
        let chain_id = self.status().await?.chain_id;
        for _ in 0..NONCE_ATTEMPTS {
            let account = signer.address();
            let nonce = self.account(account).await?.nonce;
            let payload = Payload { chain_id, account, nonce, action: action.clone() };
            let request = sign(signer, &payload).await?;
            match self.http.transact(&request).await? {
                http::Transacted::Done(view) => return Ok(view.into()),
                http::Transacted::NonceTaken => {}
            }
        }
        Err(ChainError::Unavailable {
            reason: "other transactions of the account kept taking the nonce".to_owned(),
        })
    }
}

/// The request that carries a payload, signed.
async fn sign(signer: &TypedSigner, payload: &Payload) -> Result<TransactionRequest, ChainError> {
    let payload = serde_json::to_string(payload)
        .map_err(|error| ChainError::Refused { reason: error.to_string() })?;
    let sig = signer.sign_devnet_transaction(payload.as_bytes()).await.map_err(|error| {
        ChainError::Key { retryable: error.is_retryable(), reason: error.to_string() }
    })?;
    Ok(TransactionRequest { payload, sig: sig.as_bytes().to_vec() })
}

#[async_trait]
impl Chain for DevnetChain {
    async fn sender_info(&self, sender: Address) -> Result<SenderInfo, ChainError> {
        let path = format!("/v1/senders/{}", address_lower(&sender));
        self.http.get::<SenderView>(&path).await.map(SenderInfo::from)
    }

    async fn claimed_reserve(&self, holder: Address, claimant: Address) -> Result<Wei, ChainError> {
        let path =
            format!("/v1/senders/{}/claims/{}", address_lower(&holder), address_lower(&claimant));
        self.http.get::<ClaimView>(&path).await.map(|view| view.claimed_wei)
    }

    async fn claimable_reserve(
        &self,
        holder: Address,
        claimant: Address,
    ) -> Result<Wei, ChainError> {
        let path = format!(
            "/v1/senders/{}/claimable/{}",
            address_lower(&holder),
            address_lower(&claimant)
        );
        self.http.get::<ClaimableView>(&path).await.map(|view| view.claimable_wei)
    }

    async fn rounds(&self) -> Result<Rounds, ChainError> {
        self.status().await.map(|status| Rounds::from(&status))
    }

    async fn active_orchestrators(&self) -> Result<Vec<ActiveOrchestrator>, ChainError> {
        let views: Vec<OrchestratorView> = self.http.get("/v1/orchestrators").await?;
        Ok(views.into_iter().map(ActiveOrchestrator::from).collect())
    }

    async fn is_active(&self, orchestrator: Address) -> Result<bool, ChainError> {
        let path = format!("/v1/orchestrators/{}", address_lower(&orchestrator));
        self.http.get::<OrchestratorView>(&path).await.map(|view| view.active)
    }

    async fn deactivation_round(&self, orchestrator: Address) -> Result<u64, ChainError> {
        let path = format!("/v1/orchestrators/{}", address_lower(&orchestrator));
        self.http.get::<OrchestratorView>(&path).await.map(|view| view.deactivation_round)
    }

    async fn pool_size(&self) -> Result<u64, ChainError> {
        self.status().await.map(|status| status.pool_size)
    }

    async fn gas_price(&self) -> Result<Wei, ChainError> {
        self.status().await.map(|status| status.gas_price_wei)
    }

    fn redeem_gas(&self) -> u64 {
        REDEEM_GAS
    }

    async fn is_used_ticket(&self, ticket_hash: B256) -> Result<bool, ChainError> {
        self.http.get::<TicketView>(&format!("/v1/tickets/{ticket_hash}")).await.map(|v| v.used)
    }

    async fn redemption(&self, ticket: &OnChainTicket) -> Result<Option<Redemption>, ChainError> {
        self.redemption_of(ticket.hash()).await
    }

    async fn redeem(&self, winner: &WinningTicket) -> Result<Redemption, ChainError> {
        let request = RedeemRequest::from(winner);
        let view: RedemptionView = self.http.post("/v1/tickets/redeem", &request).await?;
        Ok(view.into())
    }

    /// The devnet answers when it is done.
    fn noting(&self, _: Arc<dyn Notes>) -> Arc<dyn Chain> {
        Arc::new(self.clone())
    }

    async fn fund_deposit_and_reserve_for(
        &self,
        account: Address,
        deposit: Wei,
        reserve: Wei,
    ) -> Result<Receipt, ChainError> {
        let request = FundRequest { account, deposit_wei: deposit, reserve_wei: reserve };
        self.http.post::<_, ReceiptView>("/v1/fund", &request).await.map(Receipt::from)
    }

    async fn unlock(&self) -> Result<Receipt, ChainError> {
        self.act("unlock", Action::Unlock {}).await
    }

    async fn cancel_unlock(&self) -> Result<Receipt, ChainError> {
        self.act("cancel_unlock", Action::CancelUnlock {}).await
    }

    async fn withdraw(&self) -> Result<Receipt, ChainError> {
        self.act("withdraw", Action::Withdraw {}).await
    }

    async fn register(&self, service_uri: &str) -> Result<Option<Receipt>, ChainError> {
        let action = Action::Register { service_uri: service_uri.to_owned() };
        self.act("register", action).await.map(Some)
    }
}

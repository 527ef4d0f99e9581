//! The money side of an orchestrator without sockets and workers, for simulations: offers, payments, jobs
//! that are paid for, redemption, by the same cashier, redeemer and books as in a node.

use crate::{
    chain_view::ChainView,
    clock,
    config::Args,
    error::JobError,
    pricing::book::Prices,
    secrets,
    service::{
        cashier::{Cashier, MoneyError},
        credentials::{HeaderRefusal, payment},
        offers::params_fields,
        redemption::Redeemer,
    },
};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use penstock_chain::Chain;
use penstock_clients::{EthUsd, EthUsdSettings};
use penstock_domain::{Address, Capabilities, SessionId};
use penstock_ledger::orchestrator::{AccountKey, OrchestratorLedger};
use penstock_payments::{
    AuthTokenError, AuthTokenSecret, OfferConfig, Payment, RecipientSecret, Signature,
    TOKEN_LIFETIME_S, segment_digest, wire_price,
};
use penstock_wire::{AuthToken, OrchestratorOffer, SegmentCredential, SegmentRefusal, header, net};
use prost::Message as _;
use std::{sync::Arc, time::Duration};

/// What it is made of.
pub struct Parts {
    /// Settings: prices, worth of a ticket, highest face value.
    pub args: Args,
    /// Where gateways reach it.
    pub uri: String,
    /// Who is paid.
    pub recipient: Address,
    /// Behind offers and tokens; the same after a restart.
    pub secret: [u8; 32],
    /// The books.
    pub ledger: Arc<dyn OrchestratorLedger>,
    /// The chain.
    pub chain: Arc<dyn Chain>,
}

/// One process's.
pub struct MoneySide {
    cashier: Cashier,
    redeemer: Redeemer,
    tokens: AuthTokenSecret,
    uri: String,
}

/// A checked request.
struct Admitted {
    sender: Address,
    payment: Payment,
    credential: SegmentCredential,
}

impl MoneySide {
    /// Knows nothing of the chain before the first [`Self::look`] or request. `None`: the prices in the
    /// settings make no sense.
    pub fn new(parts: Parts) -> Option<Self> {
        let Parts { args, uri, recipient, secret, ledger, chain } = parts;
        let ether = Arc::new(EthUsd::new(EthUsdSettings::default()).ok()?);
        let prices =
            Prices::open((&args).into(), ether, args.auto_adjust_price, &args.limits).ok()?;
        let config = OfferConfig {
            ticket_ev: args.ticket_ev,
            redeem_gas: chain.redeem_gas(),
            max_face_value: args.max_face_value,
        };
        let cashier = Cashier {
            recipient,
            secret: RecipientSecret::new(secret),
            config,
            prices: Arc::new(prices),
            auto_adjust: args.auto_adjust_price,
            ledger,
            chain: Arc::new(ChainView::new(
                Arc::clone(&chain),
                recipient,
                args.chain_max_age(),
                args.sender_questions(),
            )),
            floats: None,
        };
        let redeemer = Redeemer::new(chain, cashier.funds(), Duration::from_secs(15));
        Some(Self { cashier, redeemer, tokens: AuthTokenSecret::new(secret), uri })
    }

    /// `GetOrchestrator`: message in, message out, or why not.
    pub async fn offer(&self, request: &[u8]) -> Result<Bytes, String> {
        let request = net::OrchestratorRequest::decode(request).map_err(|e| e.to_string())?;
        let sender = Address::try_from(request.address.as_slice()).map_err(|e| e.to_string())?;
        let job = request.capabilities.as_ref().map(penstock_wire::capabilities::read);
        let job = job.transpose().map_err(|e| e.to_string())?;
        let offer = self.info(sender, job.as_ref(), None).await.map_err(|e| e.to_string())?;
        Ok(offer.encode().into())
    }

    async fn info(
        &self,
        sender: Address,
        job: Option<&Capabilities>,
        token: Option<&AuthToken>,
    ) -> Result<OrchestratorOffer, MoneyError> {
        let token = match token {
            Some(token) => token.clone(),
            None => {
                let session_id = hex::encode(secrets::random::<4>()?);
                let expiration_s = clock::now_s().saturating_add(TOKEN_LIFETIME_S);
                let id = SessionId::new(&session_id).map_err(|_| MoneyError::Internal)?;
                let token = self.tokens.issue(&id, expiration_s).to_vec();
                AuthToken { token, session_id, expiration_s }
            }
        };
        let session = AccountKey::new(sender, token.session_id.clone()).ok();
        let asked = self.cashier.price(sender, session.as_ref(), job).await?;
        let params = self.cashier.offer_as_asked(sender, &asked).await?;
        Ok(OrchestratorOffer {
            transcoder: Some(self.uri.clone()),
            address: Some(self.cashier.recipient),
            price: Some(wire_price(&asked.price)?),
            ticket_params: Some(params_fields(&params)),
            capabilities: job.cloned(),
            auth_token: Some(token),
            storage: None,
            capabilities_prices: Vec::new(),
            hardware: Vec::new(),
            nodes: Vec::new(),
        })
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Admitted, HeaderRefusal> {
        let payment = payment(headers)?;
        let text = headers.get(header::SEGMENT).map_or(Ok(""), |value| value.to_str());
        let credential =
            SegmentCredential::from_header(text.map_err(|_| SegmentRefusal::Encoding)?)?;
        let sender = payment.sender.unwrap_or(Address::ZERO);
        let digest = segment_digest(
            credential.manifest_id.as_str().as_bytes(),
            credential.seq,
            &credential.hash,
            &credential.rendition_names(),
        );
        Signature::from_slice(&credential.sig)
            .and_then(|signature| signature.verify(&digest, sender))
            .map_err(|_| SegmentRefusal::Signature)?;
        let token = credential.auth_token.clone()?;
        self.tokens
            .check(&token.token, &token.session_id, token.expiration_s, clock::now_s())
            .map_err(|error| match error {
                AuthTokenError::Invalid => SegmentRefusal::InvalidToken,
                AuthTokenError::Expired => SegmentRefusal::ExpiredToken,
            })?;
        Ok(Admitted { sender, payment, credential })
    }

    /// `POST /payment`.
    pub async fn payment(&self, headers: &HeaderMap) -> Response {
        self.paid(headers).await.unwrap_or_else(IntoResponse::into_response)
    }

    async fn paid(&self, headers: &HeaderMap) -> Result<Response, JobError> {
        let admitted = self.admit(headers)?;
        let (job, token) =
            (admitted.credential.capabilities.clone().ok(), admitted.credential.auth_token.clone());
        let token = token.map_err(HeaderRefusal::Credential)?;
        let info = self.info(admitted.sender, job.as_ref(), Some(&token)).await;
        let info = info.map_err(JobError::of_money)?;
        let account = account_of(&admitted)?;
        self.cashier.take(&account, admitted.payment).await.map_err(JobError::Payment)?;
        let result = net::PaymentResult { info: Some((&info).into()) };
        Ok(Bytes::from(result.encode_to_vec()).into_response())
    }

    /// A job of so many units whose work takes `work`: payment, room on the balance, work, fee.
    pub async fn job(
        &self,
        headers: &HeaderMap,
        job_id: String,
        units: u64,
        work: Duration,
    ) -> Response {
        let done = self.served(headers, job_id, units, work).await;
        done.map_or_else(IntoResponse::into_response, |()| StatusCode::OK.into_response())
    }

    async fn served(
        &self,
        headers: &HeaderMap,
        job_id: String,
        units: u64,
        work: Duration,
    ) -> Result<(), JobError> {
        let admitted = self.admit(headers)?;
        let account = account_of(&admitted)?;
        self.cashier.take(&account, admitted.payment).await.map_err(JobError::Payment)?;
        let hold = self.cashier.begin(&account, units).await.map_err(JobError::Payment)?;
        let hold = hold.map_err(JobError::InsufficientBalance)?;
        tokio::time::sleep(work).await;
        self.cashier.debit(&hold, job_id, units).await.map_err(JobError::of_money)
    }

    /// Looks at the chain, as at each poll: old nonces go, what was won is redeemed.
    pub async fn look(&self) {
        let Ok(snapshot) = self.cashier.chain.refresh().await else { return };
        let block = snapshot.rounds.last_seen_l1_block;
        self.cashier.prices.see_block(block);
        if let Err(error) = self.cashier.ledger.forget_nonces(block).await {
            tracing::debug!(%error, "old nonces stay for now");
        }
        self.redeemer.run_once(&snapshot).await;
    }
}

/// The account that a credential names.
fn account_of(admitted: &Admitted) -> Result<AccountKey, JobError> {
    AccountKey::new(admitted.sender, admitted.credential.manifest_id.as_str())
        .map_err(|_| JobError::BadRequest("invalid manifest id".into()))
}

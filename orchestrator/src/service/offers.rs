//! `OrchestratorInfo`: what a gateway is told (orchestrator-wire.md section 3).

use super::cashier::{Asked, MoneyError};
use crate::{clock, node::Node, pricing::list::is_pixels, secrets};
use penstock_domain::{Address, Capabilities, Capability, Rational, SessionId};
use penstock_ledger::orchestrator::AccountKey;
use penstock_payments::{TOKEN_LIFETIME_S, TicketParams, wire_price};
use penstock_wire::{
    AuthToken, CapabilityPrice, ExpirationFields, OrchestratorOffer, TicketParamsFields,
};

const LIVE: Capability = Capability::LiveVideoToVideo;

/// Whom an answer is for.
#[derive(Debug)]
pub struct OfferFor<'a> {
    /// Who will pay; zero off-chain.
    pub sender: Address,
    /// The account whose pinned price holds, if there is a session already.
    pub account: Option<&'a AccountKey>,
    /// What is asked for; without it the answer is the full menu.
    pub job: Option<&'a Capabilities>,
    /// The request's own token, echoed; without it a new session begins.
    pub token: Option<&'a AuthToken>,
}

impl Node {
    /// The answer.
    pub async fn info(&self, to: &OfferFor<'_>) -> Result<OrchestratorOffer, MoneyError> {
        self.info_at(to, None).await
    }

    /// The same where the operator's webhook said what pixels cost this gateway.
    pub async fn info_at(
        &self,
        to: &OfferFor<'_>,
        told: Option<&Rational>,
    ) -> Result<OrchestratorOffer, MoneyError> {
        let token = match to.token {
            Some(token) => token.clone(),
            None => self.new_token()?,
        };
        let storage = self.objects.grant(&token.session_id);
        let full = to.job.is_none();
        let mut capabilities = self.capabilities();
        if to.job.is_some_and(|job| job.models.contains_key(&LIVE.number())) {
            tell_idle(&mut capabilities);
        }
        let mut offer = OrchestratorOffer {
            transcoder: Some(self.service_uri().to_owned()),
            address: self.address(),
            price: None,
            ticket_params: None,
            capabilities: Some(capabilities),
            auth_token: Some(token),
            storage,
            capabilities_prices: Vec::new(),
            hardware: if full { self.hardware() } else { Vec::new() },
            nodes: self.nodes.clone(),
        };
        let Some(cashier) = &self.cashier else { return Ok(offer) };
        let told = told.filter(|_| is_pixels(to.job));
        let asked = match told {
            Some(told) => Asked::now(wire_price(told)?.rational(), to.job),
            None => cashier.price(to.sender, to.account, to.job).await?,
        };
        let params = cashier.offer_as_asked(to.sender, &asked).await?;
        offer.ticket_params = Some(params_fields(&params));
        offer.price = Some(wire_price(&asked.price)?);
        if told.is_some() {
            // Now that it has an offer: who has no deposit takes no memory.
            cashier.prices.tell(to.sender, &asked.price);
        }
        if full {
            let offered = offer.capabilities.iter();
            offer.capabilities_prices = offered
                .flat_map(|offered| cashier.prices.menu(to.sender, offered))
                .map(|(capability, constraint, price)| CapabilityPrice {
                    capability,
                    constraint,
                    price,
                })
                .chain(self.byoc.prices(&cashier.prices, to.sender))
                .collect();
        }
        Ok(offer)
    }

    /// A token for a new session.
    pub fn new_token(&self) -> Result<AuthToken, MoneyError> {
        let id = hex::encode(secrets::random::<4>()?);
        let expiration_s = clock::now_s().saturating_add(TOKEN_LIFETIME_S);
        self.token_for(&id, expiration_s)
    }

    /// A token for a known session id.
    pub fn token_for(&self, id: &str, expiration_s: i64) -> Result<AuthToken, MoneyError> {
        let session_id = SessionId::new(id).map_err(|_| MoneyError::Internal)?;
        let token = self.tokens.issue(&session_id, expiration_s).to_vec();
        Ok(AuthToken { token, session_id: id.to_owned(), expiration_s })
    }
}

/// Who asks for live video is told what is idle as the capacity (live-video.md section 11).
fn tell_idle(capabilities: &mut Capabilities) {
    for model in
        capabilities.models.get_mut(&LIVE.number()).into_iter().flat_map(|m| m.values_mut())
    {
        model.capacity = model.capacity.saturating_sub(model.capacity_in_use);
    }
}

/// Ticket parameters as the wire has them.
pub fn params_fields(params: &TicketParams) -> TicketParamsFields {
    TicketParamsFields {
        recipient: params.recipient,
        face_value: params.face_value,
        win_prob: params.win_prob,
        recipient_rand_hash: params.recipient_rand_hash,
        seed: params.seed,
        expiration_block: params.expiration_block,
        expiration_params: ExpirationFields {
            creation_round: params.expiration_params.creation_round,
            creation_round_block_hash: params.expiration_params.creation_round_block_hash,
        },
    }
}

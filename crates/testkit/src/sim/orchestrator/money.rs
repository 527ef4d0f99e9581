//! Offers and the taking of payments, by the same pure functions that a real recipient uses.

use super::{SimOrchestrator, is_free};
use crate::sim::now_s;
use penstock_domain::{
    Address, Capabilities, Capability, CapabilitySet, ManifestId, ModelConstraint, PriceInfo,
    Rational, SessionId, U256, Wei,
};
use penstock_payments::{
    Effect, ExpirationParams, OfferConfig, OfferRequest, Payment, PaymentContext, RecipientContext,
    SessionPrice, SignedNonce, TicketParams, fee, make_offer, verify_payment,
};
use penstock_wire::{
    AuthToken, ExpirationFields, OrchestratorOffer, PaymentFields, TicketParamsFields,
    hardware::{Gpu, Hardware},
};
use std::collections::BTreeMap;

/// A session whose number of characters is that of the network's.
fn session_id() -> SessionId {
    SessionId::new(format!("{:08x}", rand::random::<u32>())).unwrap()
}

impl SimOrchestrator {
    /// A token of a session that did not exist before.
    pub fn token(&self) -> AuthToken {
        let session = session_id();
        let expiration_s = now_s() + self.terms.lock().unwrap().token_life_s;
        AuthToken {
            token: self.token_secret.issue(&session, expiration_s).to_vec(),
            session_id: session.to_string(),
            expiration_s,
        }
    }

    /// What GetOrchestrator answers to `sender`.
    pub fn offer(&self, sender: Address, token: AuthToken) -> OrchestratorOffer {
        let price = self.terms.lock().unwrap().price;
        self.offer_at(sender, token, price)
    }

    /// The same for a job that names a model.
    pub(super) fn offer_for(
        &self,
        sender: Address,
        token: AuthToken,
        wanted: Option<&Capabilities>,
    ) -> OrchestratorOffer {
        let named = wanted.into_iter().flat_map(|w| &w.models);
        let accounts = named.flat_map(|(n, models)| models.keys().map(move |m| format!("{n}_{m}")));
        let own = accounts.into_iter().find_map(|account| self.ai.price(&account));
        let price = own.unwrap_or_else(|| self.terms.lock().unwrap().price);
        let mut offer = self.offer_at(sender, token, price);
        if wanted.is_none() {
            // Who names no job is told all prices, and the hardware.
            offer.capabilities_prices = [self.ai.prices(), self.byoc.prices()].concat();
            offer.hardware = self.hardware();
        }
        offer
    }

    fn hardware(&self) -> Vec<Hardware> {
        let names = self.terms.lock().unwrap().gpus.clone();
        let gpu = |(n, name): (usize, &str)| {
            (n.to_string(), Gpu { name: name.to_owned(), ..Gpu::default() })
        };
        let gpus: BTreeMap<_, _> = names.into_iter().enumerate().map(gpu).collect();
        if gpus.is_empty() { Vec::new() } else { vec![Hardware { gpus, ..Hardware::default() }] }
    }

    /// What an account pays a unit.
    pub(super) fn price_of(&self, account: &str) -> PriceInfo {
        let own = self.ai.price(account).or_else(|| self.byoc.price(account));
        own.unwrap_or_else(|| self.terms.lock().unwrap().price)
    }

    pub(super) fn offer_at(
        &self,
        sender: Address,
        token: AuthToken,
        price: PriceInfo,
    ) -> OrchestratorOffer {
        let terms = self.terms.lock().unwrap().clone();
        let mut set = CapabilitySet::default_video();
        set.insert(Capability::AudioToText);
        let others = self.ai.models.lock().unwrap().clone();
        others.iter().for_each(|other| set.insert(other.capability));
        let mut capabilities = Capabilities::of_set(set);
        capabilities.version = terms.version.to_owned();
        let mut add = |capability: Capability, model: String, warm: bool| {
            let constraint = ModelConstraint {
                warm,
                capacity: 1,
                runner_version: match capability {
                    Capability::AudioToText => terms.runner_version.to_owned(),
                    _ => String::new(),
                },
                ..ModelConstraint::default()
            };
            capabilities.models.entry(capability.number()).or_default().insert(model, constraint);
        };
        add(Capability::AudioToText, terms.model, true);
        for other in others {
            add(other.capability, other.model, other.warm);
        }
        OrchestratorOffer {
            transcoder: Some(terms.service_uri.unwrap_or_else(|| self.uri())),
            address: Some(self.key.address()),
            price: (!terms.free).then_some(price),
            ticket_params: (!terms.free)
                .then(|| params_fields(&self.ticket_params(sender, &price))),
            capabilities: Some(capabilities),
            auth_token: Some(token),
            storage: None,
            capabilities_prices: vec![],
            hardware: vec![],
            nodes: vec![],
        }
    }

    /// Fresh ticket parameters.
    pub fn ticket_params(&self, sender: Address, price: &PriceInfo) -> TicketParams {
        let (ticket_ev_wei, offer_blocks) = {
            let terms = self.terms.lock().unwrap();
            (terms.ticket_ev_wei, terms.offer_blocks)
        };
        let config = OfferConfig {
            ticket_ev: Wei::from_u64(ticket_ev_wei),
            redeem_gas: 0,
            max_face_value: Wei::ZERO,
        };
        let mut rounds = *self.rounds.lock().unwrap();
        // An offer's end is counted from the block at which it is made.
        rounds.last_seen_l1_block = (rounds.last_seen_l1_block + offer_blocks)
            .saturating_sub(penstock_payments::OFFER_LIFETIME_BLOCKS);
        let request = OfferRequest {
            recipient: self.key.address(),
            sender,
            price: &price.rational(),
            gas_price: Wei::ZERO,
            // Every sender is good for any face value.
            max_float: &Rational::from(Wei(U256::MAX >> 1)),
            rounds,
            seed: U256::from_be_bytes(rand::random::<[u8; 32]>()),
        };
        make_offer(&config, &self.recipient_secret, &request).unwrap()
    }

    /// The exact worth of a ticket on today's terms, in wei.
    pub fn ticket_ev(&self) -> Rational {
        let price = self.terms.lock().unwrap().price;
        self.ticket_params(Address::ZERO, &price).ev()
    }

    /// Takes a payment into the account of a session, or says why not. As at a real recipient,
    /// tickets before the first bad one are credited.
    pub(super) fn credit(
        &self,
        payment: &PaymentFields,
        session: &ManifestId,
    ) -> Result<(), String> {
        if is_free(self) {
            return Ok(());
        }
        let taken = self.take(payment, session);
        if let Err(reason) = &taken {
            self.seen.lock().unwrap().refusals.push(reason.clone());
        }
        taken
    }

    fn take(&self, payment: &PaymentFields, session: &ManifestId) -> Result<(), String> {
        let payment = self::payment(payment);
        let rounds = *self.rounds.lock().unwrap();
        let recipient = self.key.address();
        let named = payment.ticket_params.as_ref().map(|params| params.recipient);
        let context = PaymentContext {
            recipient: RecipientContext {
                recipient,
                secret: &self.recipient_secret,
                withdraw_round: Ok(0),
                last_initialized_round: rounds.last_initialized_round,
            },
            recipient_active: named.is_none_or(|named| named == recipient),
        };
        let verified = verify_payment(&payment, &context).map_err(|e| e.to_string())?;
        let own = self.price_of(session.as_str()).rational();
        // Two copies of a payment may arrive together: nonces and books move under one lock.
        let mut nonces = self.nonces.lock().unwrap();
        let seen = verified.nonce_key().and_then(|key| nonces.get(&key).cloned());
        let session_price = SessionPrice { fixed: None, own: &own };
        let outcome =
            verified.settle(seen.unwrap_or_default(), rounds.last_seen_l1_block, &session_price);
        for effect in &outcome.effects {
            match effect {
                Effect::RecordNonce { recipient_rand_hash, sender_nonce, .. } => {
                    nonces.entry(*recipient_rand_hash).or_default().record(*sender_nonce).unwrap();
                }
                Effect::Credit { ev, .. } => {
                    let mut books = self.books.lock().unwrap();
                    let book = books.entry(session.to_string()).or_default();
                    book.credited = &book.credited + ev;
                    book.tickets += 1;
                }
                // It redeems nothing, and a session's price is today's.
                Effect::QueueWinner(_) | Effect::FixPrice(_) => {}
            }
        }
        outcome.error.map_or(Ok(()), |error| Err(error.to_string()))
    }

    pub(super) fn debit(&self, session: &str, units: u64) {
        let price = self.price_of(session).rational();
        let mut books = self.books.lock().unwrap();
        let book = books.entry(session.to_owned()).or_default();
        book.debited = &book.debited + &fee(units, &price);
    }

    pub(super) fn has_balance(&self, session: &str) -> bool {
        is_free(self) || self.book(session).balance() >= self.ticket_ev()
    }
}

/// What an offer is on the wire.
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

fn round(fields: ExpirationFields) -> ExpirationParams {
    ExpirationParams {
        creation_round: fields.creation_round,
        creation_round_block_hash: fields.creation_round_block_hash,
    }
}

/// From the wire to what `penstock_payments` works with.
pub fn params(p: &TicketParamsFields) -> TicketParams {
    TicketParams {
        recipient: p.recipient,
        face_value: p.face_value,
        win_prob: p.win_prob,
        recipient_rand_hash: p.recipient_rand_hash,
        seed: p.seed,
        expiration_block: p.expiration_block,
        expiration_params: round(p.expiration_params),
    }
}

/// The same of a whole payment.
pub fn payment(payment: &PaymentFields) -> Payment {
    Payment {
        sender: payment.sender,
        ticket_params: payment.ticket_params.as_ref().map(params),
        expiration_params: round(payment.expiration_params),
        tickets: payment
            .tickets
            .iter()
            .map(|t| SignedNonce { sender_nonce: t.sender_nonce, signature: t.sig.clone() })
            .collect(),
        expected_price: payment.expected_price.map(Ok),
    }
}

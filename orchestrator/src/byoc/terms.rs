//! `GET /process/token`: room, price, balance and ticket parameters for one sender and capability
//! (byoc.md section 3).

use super::{
    admission::account,
    error::ByocError,
    registry::{Brought, work},
};
use crate::{
    node::Node,
    pricing::list::Around,
    service::{cashier::Cashier, offers::params_fields, terms::Terms},
};
use http::HeaderMap;
use penstock_domain::{Address, Rational};
use penstock_payments::{orchestrator_request_digest, verify_bytes, wire_price};
use penstock_wire::json::{BYOC_CAPABILITY_HEADER, ByocTerms, ETH_ADDRESS_HEADER, EthAddressProof};
use serde_json::Value;

impl Node {
    /// The terms.
    pub async fn byoc_terms(&self, headers: &HeaderMap) -> Result<Value, ByocError> {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let said = text(ETH_ADDRESS_HEADER);
        if said.is_empty() {
            return Err(ByocError::NoAddress);
        }
        let proof = self.proven_sender(said)?;
        let name = text(BYOC_CAPABILITY_HEADER);
        if name.is_empty() {
            return Err(ByocError::NoCapability);
        }
        let brought = self.byoc.get(name);
        let mut terms = ByocTerms {
            sender_address: &proof.said,
            ticket_params: None,
            balance_wei: 0,
            price: None,
            service_addr: self.service_uri(),
            available_capacity: brought
                .as_ref()
                .map_or(0, |brought| brought.available(proof.address)),
        };
        let Some(cashier) = &self.cashier else { return Ok(terms.to_json()) };
        let key = account(proof.address, name)?;
        let asked = match &brought {
            Some(brought) => {
                let terms = brought_terms(cashier, brought, proof.address, &brought.around());
                cashier.price_by(&key, terms).await
            }
            // One that nobody has registered has no price of its own, and no room either.
            None => match cashier.prices.base(proof.address, None) {
                Ok(pixels) => cashier.price_of(proof.address, pixels).await,
                Err(error) => Err(error.into()),
            },
        };
        let asked = asked.map_err(ByocError::Terms)?;
        let params = cashier.offer_as_asked(proof.address, &asked).await;
        let params = params.map_err(ByocError::Terms)?;
        let fields = params_fields(&params);
        let balance = self.byoc_balance(cashier, &key).await?;
        terms.balance_wei = whole(&balance);
        terms.price = wire_price(&asked.price).ok();
        terms.ticket_params = Some(&fields);
        Ok(terms.to_json())
    }
}

impl Node {
    /// Who asks, as the header `Livepeer-Eth-Address` says and, where there are payments, proves it.
    pub fn proven_sender(&self, said: &str) -> Result<EthAddressProof, ByocError> {
        let proof = EthAddressProof::from_header(said).map_err(|_| ByocError::Address)?;
        let digest = orchestrator_request_digest(proof.address);
        let proven = verify_bytes(&proof.sig, &digest, proof.address).is_ok();
        if self.cashier.is_some() && !proven {
            return Err(ByocError::Address);
        }
        Ok(proof)
    }
}

/// What a second of a capability costs a sender, with this around it. Only an offer for this capability pins a price: what
/// was asked for other work is no price of a second.
pub(super) fn brought_terms(
    cashier: &Cashier,
    brought: &Brought,
    sender: Address,
    around: &Around,
) -> Terms {
    let own = brought.asked(&cashier.prices, sender, around).wei;
    Terms { own, floor: None, work: Some(work(&brought.name)) }
}

/// Whole wei, towards zero, as far as they fit.
fn whole(balance: &Rational) -> i64 {
    let whole = balance.truncate(0);
    let largest = if whole.is_negative() { i64::MIN } else { i64::MAX };
    whole.floor_i64().unwrap_or(largest)
}

//! The orchestrator's part of a payment request: bytes in, a checked offer out.
//!
//! In two steps, because the documented order of checks puts the payment state between them: first
//! what rows 3 to 6 ask, later what is needed to make tickets.

use super::bounded::Bounded;
use crate::error::SignerError;
use penstock_domain::{Address, PriceInfo, Rational};
use penstock_payments::{ExpirationParams, TicketParams};
use penstock_wire::{AuthToken, TicketParamsFields, WireError, checked_url, net};
use prost::Message;
use std::sync::Arc;

/// An `OrchestratorInfo` with a price and ticket parameters (rows 3 to 6). The rest is read at once
/// too, but what is wrong with it is said when its row comes.
#[derive(Debug, Clone)]
pub struct PaymentOffer {
    /// Where to ask for a fresh one.
    pub url: String,
    /// Both numbers above zero.
    pub price: PriceInfo,
    /// As sent, to be copied whole into the payment.
    pub price_as_sent: net::PriceInfo,
    params: Result<OfferedTickets, String>,
    auth_token: Result<AuthToken, String>,
    address: Option<Address>,
}

/// Ticket parameters with what follows from them.
#[derive(Debug, Clone)]
pub struct OfferedTickets {
    /// The parameters.
    pub params: TicketParams,
    /// Expected value of each ticket, wei.
    pub ev_wei: Rational,
}

impl PaymentOffer {
    /// Rows 3 to 6.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignerError> {
        if bytes.is_empty() {
            return Err(SignerError::MissingOrchestrator);
        }
        let info = net::OrchestratorInfo::decode(bytes)
            .map_err(|e| SignerError::BadOrchestrator(e.to_string()))?;
        let price = info.price_info.ok_or(SignerError::MissingPrice)?;
        if price.price_per_unit == 0 || price.pixels_per_unit == 0 {
            return Err(SignerError::MissingPrice);
        }
        let token = info.auth_token.as_ref().ok_or(WireError::Missing("auth token"));
        Ok(Self {
            url: info.transcoder,
            price: PriceInfo::new(price.price_per_unit, price.pixels_per_unit)
                .map_err(|_| SignerError::NegativePrice)?,
            price_as_sent: price,
            params: offered(&info.ticket_params.ok_or(SignerError::MissingTicketParams)?),
            auth_token: token.and_then(AuthToken::try_from).map_err(|error| error.to_string()),
            address: Address::try_from(info.address.as_slice()).ok(),
        })
    }

    /// The orchestrator's own address (row 9). Strictly 20 bytes.
    pub fn address(&self) -> Result<Address, SignerError> {
        let bad = || SignerError::BadField("orchestrator address must be 20 bytes".to_owned());
        self.address.ok_or_else(bad)
    }

    /// Rows 14 and 15: the token is there and not old at `now_s`.
    pub fn auth_token(&self, now_s: i64) -> Result<AuthToken, SignerError> {
        let token = self.auth_token.as_ref().map_err(|error| cannot_check(error))?;
        if token.needs_refresh(now_s) { Err(self.refresh()) } else { Ok(token.clone()) }
    }

    /// The 480 of this offer. A text that is no URL is not sent on.
    pub fn refresh(&self) -> SignerError {
        let orchestrator_url = checked_url("transcoder", &self.url).unwrap_or_default();
        SignerError::RefreshSession { orchestrator_url }
    }

    /// The ticket parameters, strictly: 20-byte recipient, 32-byte hash, integers of at most 32
    /// bytes (payments.md section 2).
    pub fn tickets(&self) -> Result<&OfferedTickets, SignerError> {
        self.params.as_ref().map_err(|error| cannot_check(error))
    }
}

fn offered(sent: &net::TicketParams) -> Result<OfferedTickets, String> {
    let sent = TicketParamsFields::try_from(sent).map_err(|error| error.to_string())?;
    let params = TicketParams {
        recipient: sent.recipient,
        face_value: sent.face_value,
        win_prob: sent.win_prob,
        recipient_rand_hash: sent.recipient_rand_hash,
        seed: sent.seed,
        expiration_block: sent.expiration_block,
        expiration_params: ExpirationParams {
            creation_round: sent.expiration_params.creation_round,
            creation_round_block_hash: sent.expiration_params.creation_round_block_hash,
        },
    };
    Ok(OfferedTickets { ev_wei: params.ev(), params })
}

/// Offers as read, by their bytes: a gateway sends the same one with each payment until the
/// orchestrator makes a new one.
pub struct KnownOffers(Bounded<Vec<u8>, Arc<PaymentOffer>>);

/// Offers remembered, of at most [`MAX_KNOWN_BYTES`] and about as much again for what they say.
const HALF: usize = 1_024;
/// Longer ones are read each time.
const MAX_KNOWN_BYTES: usize = 2_048;

impl Default for KnownOffers {
    fn default() -> Self {
        Self(Bounded::new(HALF))
    }
}

impl KnownOffers {
    /// [`PaymentOffer::parse`].
    pub fn parse(&self, bytes: &[u8]) -> Result<Arc<PaymentOffer>, SignerError> {
        if let Some(offer) = self.0.get(bytes) {
            return Ok(offer);
        }
        let offer = Arc::new(PaymentOffer::parse(bytes)?);
        if bytes.len() <= MAX_KNOWN_BYTES {
            self.0.put(bytes.to_vec(), Arc::clone(&offer));
        }
        Ok(offer)
    }
}

/// Row 17.
fn cannot_check(error: &str) -> SignerError {
    SignerError::CannotCheckRefresh(error.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info() -> net::OrchestratorInfo {
        net::OrchestratorInfo {
            transcoder: "https://o:8935".into(),
            address: vec![7; 20],
            price_info: Some(net::PriceInfo {
                price_per_unit: 3,
                pixels_per_unit: 4,
                ..Default::default()
            }),
            ticket_params: Some(net::TicketParams {
                recipient: vec![8; 20],
                face_value: vec![1, 0],
                win_prob: vec![255],
                recipient_rand_hash: vec![9; 32],
                seed: vec![],
                expiration_block: vec![50],
                expiration_params: Some(net::TicketExpirationParams {
                    creation_round: 3,
                    creation_round_block_hash: vec![1; 32],
                }),
            }),
            auth_token: Some(net::AuthToken {
                expiration: 1000,
                token: vec![1],
                session_id: "a1b2c3d4".into(),
            }),
            ..Default::default()
        }
    }

    fn changed(change: impl Fn(&mut net::OrchestratorInfo)) -> Result<PaymentOffer, SignerError> {
        let mut info = info();
        change(&mut info);
        PaymentOffer::parse(&info.encode_to_vec())
    }

    #[test]
    fn rows_three_to_six_in_order() {
        let text = |r: Result<PaymentOffer, SignerError>| r.unwrap_err().to_string();
        assert_eq!(text(PaymentOffer::parse(b"")), "missing orchestrator");
        assert!(text(PaymentOffer::parse(&[255])).contains("proto:"));
        assert_eq!(
            text(changed(|i| {
                i.price_info = None;
                i.ticket_params = None;
            })),
            "missing or zero priceInfo"
        );
        assert_eq!(
            text(changed(|i| i.price_info.as_mut().unwrap().pixels_per_unit = 0)),
            "missing or zero priceInfo"
        );
        assert_eq!(
            text(changed(|i| i.price_info.as_mut().unwrap().price_per_unit = -1)),
            "negative priceInfo"
        );
        assert_eq!(
            text(changed(|i| i.ticket_params = None)),
            "missing ticketParams in OrchestratorInfo"
        );
        assert!(changed(|_| {}).is_ok());
    }

    #[test]
    fn an_offer_is_known_by_all_its_bytes() {
        let known = KnownOffers::default();
        let first = known.parse(&info().encode_to_vec()).unwrap();
        assert!(Arc::ptr_eq(&first, &known.parse(&info().encode_to_vec()).unwrap()));
        let mut other = info();
        other.ticket_params.as_mut().unwrap().face_value = vec![1, 1];
        let second = known.parse(&other.encode_to_vec()).unwrap();
        let face_value = |offer: &PaymentOffer| offer.tickets().unwrap().params.face_value;
        assert_ne!(face_value(&first), face_value(&second));
        assert!(known.parse(b"").is_err());
        // A long one is read again and not kept.
        other.transcoder = "https://o:8935/".to_owned() + &"x".repeat(MAX_KNOWN_BYTES);
        let long = other.encode_to_vec();
        assert!(!Arc::ptr_eq(&known.parse(&long).unwrap(), &known.parse(&long).unwrap()));
    }

    #[test]
    fn tokens_get_old() {
        let offer = changed(|_| {}).unwrap();
        assert!(offer.auth_token(820).is_ok());
        assert_eq!(offer.auth_token(821).unwrap_err().status().as_u16(), 480);
        let none = changed(|i| i.auth_token = None).unwrap();
        assert_eq!(
            none.auth_token(0).unwrap_err().to_string(),
            "remote signer could not check whether to refresh session: missing auth token"
        );
        let absurd = changed(|i| i.auth_token.as_mut().unwrap().expiration = i64::MIN).unwrap();
        assert!(absurd.auth_token(0).is_err());
    }

    #[test]
    fn lengths_are_strict() {
        let params = |change: fn(&mut net::TicketParams)| {
            changed(|i| change(i.ticket_params.as_mut().unwrap())).unwrap().tickets().cloned()
        };
        assert!(params(|_| {}).is_ok());
        assert!(params(|p| p.expiration_params = None).is_ok());
        assert!(params(|p| p.recipient.push(0)).is_err());
        assert!(params(|p| p.recipient_rand_hash.truncate(31)).is_err());
        assert!(params(|p| p.face_value = vec![1; 33]).is_err());
        assert!(params(|p| p.win_prob = vec![1; 33]).is_err());
        assert!(params(|p| p.seed = vec![1; 33]).is_err());
        assert!(params(|p| p.expiration_block = vec![1; 33]).is_err());
        assert!(params(|p| p.expiration_params.as_mut().unwrap().creation_round = -1).is_err());
        assert!(
            params(|p| p.expiration_params.as_mut().unwrap().creation_round_block_hash = vec![1])
                .is_err()
        );
        assert!(changed(|i| i.address.truncate(19)).unwrap().address().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_bytes_are_read_or_refused(noise in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..200, with in any::<u8>()) {
            let _ = PaymentOffer::parse(&noise).map(|o| (o.address(), o.tickets().is_ok(), o.auth_token(0)).2);
            let mut bytes = info().encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = with;
            if let Ok(offer) = PaymentOffer::parse(&bytes) {
                let _ = (offer.address(), offer.tickets().is_ok(), offer.auth_token(5));
            }
        }
    }
}

//! The orchestrator's part of a payment request: bytes in, a checked offer out.
//!
//! In two steps, because the documented order of checks puts the payment state between them: first
//! what rows 3 to 6 ask, later what is needed to make tickets.

use crate::error::SignerError;
use penstock_domain::{Address, PriceInfo};
use penstock_payments::{ExpirationParams, TicketParams};
use penstock_wire::{AuthToken, TicketParamsFields, WireError, checked_url, net};
use prost::Message;

/// An `OrchestratorInfo` with a price and ticket parameters (rows 3 to 6).
#[derive(Debug, Clone)]
pub struct PaymentOffer {
    /// Where to ask for a fresh one.
    pub url: String,
    /// Both numbers above zero.
    pub price: PriceInfo,
    /// As sent, to be copied whole into the payment.
    pub price_as_sent: net::PriceInfo,
    params_as_sent: net::TicketParams,
    auth_token: Option<net::AuthToken>,
    address: Vec<u8>,
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
        Ok(Self {
            url: info.transcoder,
            price: PriceInfo::new(price.price_per_unit, price.pixels_per_unit)
                .map_err(|_| SignerError::NegativePrice)?,
            price_as_sent: price,
            params_as_sent: info.ticket_params.ok_or(SignerError::MissingTicketParams)?,
            auth_token: info.auth_token,
            address: info.address,
        })
    }

    /// The orchestrator's own address (row 9). Strictly 20 bytes.
    pub fn address(&self) -> Result<Address, SignerError> {
        Address::try_from(self.address.as_slice())
            .map_err(|_| SignerError::BadField("orchestrator address must be 20 bytes".to_owned()))
    }

    /// Rows 14 and 15: the token is there and not old at `now_s`.
    pub fn auth_token(&self, now_s: i64) -> Result<AuthToken, SignerError> {
        let token = self.auth_token.as_ref().ok_or(WireError::Missing("auth token"));
        let token = token.and_then(AuthToken::try_from).map_err(cannot_check)?;
        if token.needs_refresh(now_s) { Err(self.refresh()) } else { Ok(token) }
    }

    /// The 480 of this offer. A text that is no URL is not sent on.
    pub fn refresh(&self) -> SignerError {
        let orchestrator_url = checked_url("transcoder", &self.url).unwrap_or_default();
        SignerError::RefreshSession { orchestrator_url }
    }

    /// The ticket parameters, strictly: 20-byte recipient, 32-byte hash, integers of at most 32
    /// bytes (payments.md section 2).
    pub fn ticket_params(&self) -> Result<TicketParams, SignerError> {
        let sent = TicketParamsFields::try_from(&self.params_as_sent).map_err(cannot_check)?;
        Ok(TicketParams {
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
        })
    }
}

/// Row 17.
fn cannot_check(error: WireError) -> SignerError {
    SignerError::CannotCheckRefresh(error.to_string())
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
            changed(|i| change(i.ticket_params.as_mut().unwrap())).unwrap().ticket_params()
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
            let _ = PaymentOffer::parse(&noise).map(|o| (o.address(), o.ticket_params(), o.auth_token(0)).2);
            let mut bytes = info().encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = with;
            if let Ok(offer) = PaymentOffer::parse(&bytes) {
                let _ = (offer.address(), offer.ticket_params(), offer.auth_token(5));
            }
        }
    }
}

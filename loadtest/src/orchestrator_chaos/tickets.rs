//! Tickets that a client signs with its own key, and which of them win: the run knows the orchestrators'
//! secret, so that no winner can be lost unseen.

use crate::payment;
use penstock_clients::PaidHeaders;
use penstock_domain::{Address, B256, ManifestId, PriceInfo};
use penstock_keys::{SegmentCredential, TypedSigner};
use penstock_payments::{
    MAX_NONCES, OfferClaim, RecipientContext, RecipientSecret, VerifiedOffer, verify_offer, wins,
};
use penstock_testkit::sim::orchestrator::params;
use penstock_wire::{
    AuthToken, OrchestratorOffer, PaymentFields, SegmentSpec, TicketParamsFields, header,
};

/// Whom clients pay, and its secret.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Its account.
    pub address: Address,
    /// Behind its offers.
    pub secret: RecipientSecret,
}

/// An offer in a client's hands.
#[derive(Debug, Clone)]
pub struct Offer {
    verified: VerifiedOffer,
    fields: TicketParamsFields,
    price: PriceInfo,
    next_nonce: u32,
}

/// A payment that is signed and not taken yet.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Value of `Livepeer-Payment`.
    pub payment: String,
    /// Whose tickets these are.
    pub offer: VerifiedOffer,
    /// Block at which that offer ends.
    pub ends_at: u64,
    /// For each ticket its hash, if it wins.
    pub won: Vec<Option<B256>>,
}

impl Offer {
    /// Reads what an orchestrator offered. An offer that is not its own is an error.
    pub fn read(
        offer: &OrchestratorOffer,
        sender: Address,
        recipient: &Recipient,
    ) -> Result<Self, String> {
        let fields = offer.ticket_params.clone().ok_or("no ticket parameters")?;
        Self::of(fields, offer.price.ok_or("no price")?, sender, recipient)
    }

    /// The same of these terms, however they came.
    pub fn of(
        fields: TicketParamsFields,
        price: PriceInfo,
        sender: Address,
        recipient: &Recipient,
    ) -> Result<Self, String> {
        let params = params(&fields);
        let context = RecipientContext {
            recipient: recipient.address,
            secret: &recipient.secret,
            withdraw_round: Ok(0),
            last_initialized_round: 0,
        };
        let price_of_unit = price.rational();
        let expiration_params = params.expiration_params;
        let claim =
            OfferClaim { sender, params: &params, expiration_params, price: &price_of_unit };
        let verified = verify_offer(&context, &claim).map_err(|error| error.to_string())?;
        Ok(Self { verified, fields, price, next_nonce: 1 })
    }

    /// Block at which it ends.
    pub fn ends_at(&self) -> u64 {
        u64::try_from(self.fields.expiration_block).expect("a block's number")
    }

    /// Wei a unit.
    pub fn price(&self) -> PriceInfo {
        self.price
    }

    /// Whether it has nonces for so many tickets.
    pub fn has(&self, tickets: u32) -> bool {
        u64::from(self.next_nonce + tickets) <= MAX_NONCES as u64
    }

    /// A payment of nothing: it says who pays, and at which price.
    pub fn nothing(&self) -> Signed {
        let payment = PaymentFields {
            sender: Some(self.verified.sender()),
            expected_price: Some(self.price),
            ..PaymentFields::default()
        };
        Signed {
            payment: header::encode_payment(&payment.to_message()),
            offer: self.verified.clone(),
            ends_at: self.ends_at(),
            won: Vec::new(),
        }
    }

    /// So many tickets.
    pub async fn sign(&mut self, signer: &TypedSigner, tickets: u32) -> Signed {
        let nonces = self.next_nonce..self.next_nonce + tickets;
        self.next_nonce = nonces.end;
        let unsigned: Vec<_> = nonces.clone().map(|nonce| self.verified.ticket(nonce)).collect();
        let signatures = signer.sign_tickets(&unsigned).await.expect("a key in memory signs");
        let (rand, win_prob) = (self.verified.recipient_rand(), self.verified.params().win_prob);
        let won = unsigned
            .iter()
            .zip(&signatures)
            .map(|(ticket, signature)| wins(signature, &rand, win_prob).then(|| ticket.hash()));
        let (sender, price) = (self.verified.sender(), Some(self.price));
        Signed {
            payment: payment::of_tickets(sender, &self.fields, price, nonces.zip(&signatures)),
            offer: self.verified.clone(),
            ends_at: self.ends_at(),
            won: won.collect(),
        }
    }
}

impl Signed {
    /// The offer's name in the books.
    pub fn offer_hash(&self) -> B256 {
        self.offer.params().recipient_rand_hash
    }

    /// With the credential of a payment into this account.
    pub async fn for_account(
        &self,
        signer: &TypedSigner,
        token: &AuthToken,
        account: &str,
    ) -> PaidHeaders {
        let manifest = ManifestId::new(account).expect("an account's name");
        self.with(signer, &SegmentSpec::empty(manifest, None, token.clone())).await
    }

    /// With the credential of this job.
    pub async fn with(&self, signer: &TypedSigner, spec: &SegmentSpec) -> PaidHeaders {
        let names = spec.rendition_names();
        let credential = SegmentCredential {
            manifest_id: spec.manifest_id.as_str().as_bytes(),
            sequence: spec.seq,
            data_hash: spec.hash.as_slice(),
            rendition_names: &names,
        };
        let signature = signer.sign_segment(&credential).await.expect("a key in memory signs");
        PaidHeaders {
            payment: self.payment.clone(),
            segment: header::encode_segment(&spec.to_message(signature.as_bytes().to_vec())),
            traceparent: None,
        }
    }
}

//! Tickets of one offer as the header of a payment: what drivers pay with, by keys of their own.

use penstock_domain::{Address, PriceInfo};
use penstock_keys::TypedSigner;
use penstock_payments::{Signature, Ticket};
use penstock_testkit::sim::orchestrator::params;
use penstock_wire::{PaymentFields, SenderFields, TicketParamsFields, header};

/// Value of `Livepeer-Payment`: a ticket of each of these nonces, signed here.
pub async fn signed(
    signer: &TypedSigner,
    offer: &TicketParamsFields,
    price: Option<PriceInfo>,
    nonces: impl Iterator<Item = u32> + Clone,
) -> String {
    let (sender, params) = (signer.address(), params(offer));
    let of = |nonce| Ticket::from_params(&params, params.expiration_params, sender, nonce);
    let tickets: Vec<Ticket> = nonces.clone().map(of).collect();
    let signatures = signer.sign_tickets(&tickets).await.expect("a key in memory signs");
    of_tickets(sender, offer, price, nonces.zip(&signatures))
}

/// The same of tickets that are signed.
pub fn of_tickets<'a>(
    sender: Address,
    offer: &TicketParamsFields,
    price: Option<PriceInfo>,
    tickets: impl Iterator<Item = (u32, &'a Signature)>,
) -> String {
    let fields = PaymentFields {
        sender: Some(sender),
        ticket_params: Some(offer.clone()),
        expiration_params: offer.expiration_params,
        tickets: tickets
            .map(|(sender_nonce, signature)| SenderFields {
                sender_nonce,
                sig: signature.as_bytes().to_vec(),
            })
            .collect(),
        expected_price: price,
    };
    header::encode_payment(&fields.to_message())
}

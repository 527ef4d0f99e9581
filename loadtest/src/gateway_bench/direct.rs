//! The orchestrator without a gateway: credit is bought once, from the same signer, and every job goes
//! out with the same credential and a payment without tickets, as a gateway's jobs do.

use super::load::Job;
use crate::{client, fleet::Fleet, rig};
use penstock_clients::{OrchestratorClient, OrchestratorOptions, PaidHeaders, Trust};
use penstock_wire::{PaymentFields, header};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use std::sync::Arc;

/// Units of one purchase: so much that a run does not use it up.
const UNITS: u64 = 90 * crate::fleet::TICKET_EV_WEI;

/// A paid account at the first orchestrator.
pub struct Direct {
    /// Where the orchestrator is.
    pub uri: String,
    headers: HeaderMap,
}

impl Direct {
    /// Buys credit.
    pub async fn prepare(fleet: &Fleet) -> Self {
        let orchestrator = Arc::clone(&fleet.rig.orchestrators[0].sim);
        let manifest = format!("31_{}", crate::fleet::MODEL);
        let uri = orchestrator.uri();
        let (http, signer) = (rig::http(), fleet.rig.url(0));
        let mut session =
            client::Session::new(Arc::clone(&orchestrator), fleet.rig.sender, manifest);
        let client = OrchestratorClient::new(OrchestratorOptions {
            trust: Trust::AcceptAny,
            ..OrchestratorOptions::default()
        })
        .unwrap();
        let mut last = None;
        let mut purchases = 0;
        while purchases < PURCHASES {
            let answer = match session.pay(&http, &signer, UNITS).await {
                client::Answer::Paid(answer) => answer,
                // An offer is good for 600 tickets.
                client::Answer::Refresh => {
                    session.refresh();
                    continue;
                }
                other => panic!("the signer did not pay: {other:?}"),
            };
            session.advance(&answer);
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let text = |name: &str| answer[name].as_str().unwrap().to_owned();
            let paid = PaidHeaders {
                payment: text("payment"),
                segment: text("segCreds"),
                traceparent: None,
            };
            client.pay(&uri, &paid).await.expect("the orchestrator takes the payment");
            last = Some(paid);
            purchases += 1;
        }
        let paid = last.expect("a purchase");
        // The same payment, its tickets taken out: they are spent.
        let message = header::decode_payment(&paid.payment).unwrap();
        let mut fields = PaymentFields::try_from(&message).unwrap();
        fields.tickets.clear();
        let empty = header::encode_payment(&fields.to_message());
        let mut headers = HeaderMap::new();
        headers.insert("livepeer-payment", HeaderValue::from_str(&empty).unwrap());
        headers.insert("livepeer-segment", HeaderValue::from_str(&paid.segment).unwrap());
        Self { uri, headers }
    }

    /// A job by way of this address.
    pub fn job(&self, url: &str) -> Arc<Job> {
        Job::paid(url, self.headers.clone())
    }
}

/// Purchases of [`UNITS`], each worth 9,000 jobs.
const PURCHASES: usize = 40;

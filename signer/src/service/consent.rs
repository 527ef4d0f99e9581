//! The last questions before anything is taken: the auth webhook's yes, then the rules of everyone
//! who pays (the account, and the client that it named), then which counters are charged.

use super::{
    Signer,
    authorise::{Authorised, Decision, Identified},
    charges::{Charges, NoEthPrice},
    offer::PaymentOffer,
    policy,
};
use crate::{
    auth::{
        Caller,
        webhook::{NewState, check_price, is_due, next_auth_id},
    },
    error::SignerError,
};
use penstock_domain::StateId;
use penstock_ledger::signer::StoredPayment;

/// An authorised payment that its payers may make, with what they are charged. Only
/// [`Signer::consent`] makes one.
pub(super) struct Consented {
    authorised: Authorised,
    charges: Charges,
}

impl Consented {
    pub(super) fn authorised(&self) -> &Authorised {
        &self.authorised
    }

    pub(super) fn charges(&self) -> &Charges {
        &self.charges
    }

    pub(super) fn into_authorised(self) -> Authorised {
        self.authorised
    }
}

impl Signer {
    /// Rows 29 to 32, and whose money it is.
    pub(super) async fn consent(
        &self,
        decision: Decision,
        caller: &Caller,
        state_id: &StateId,
    ) -> Result<Consented, SignerError> {
        let Decision { mut authorised, names, session_auth_id, auth_expiry_s } = decision;
        let terms = authorised.terms();
        let mut verdict = None;
        let mut expiry_s = auth_expiry_s;
        if let Some(webhook) = self.accounts.webhook()
            && is_due(auth_expiry_s, terms.now_ns.div_euclid(1_000_000_000))
        {
            let state = NewState {
                state_id: state_id.clone(),
                recipient_rand_hash: terms.params.recipient_rand_hash,
                last_update_ns: terms.now_ns,
                orchestrator: terms.binding.orchestrator,
                app: terms.binding.app.clone(),
                auth_expiry_s,
                sender_nonce: terms.num_tickets,
                balance_wei: terms.balance_after_wei(),
                initial_price: terms.initial_price,
                job_type: terms.binding.job_type,
                sequence: terms.sequence,
                auth_id: session_auth_id.clone(),
            };
            let said = webhook.ask(&caller.headers, &state).await?;
            check_price(&said, terms.binding.job_type, &terms.price)?;
            expiry_s = said.expiry_s;
            verdict = Some(said);
        }
        let auth_id =
            next_auth_id(verdict.as_ref(), caller.auth_id.as_ref(), session_auth_id.as_ref())?;
        authorised.belongs_to(auth_id, expiry_s);
        let terms = authorised.terms();
        let payers = self.accounts.payers(&caller.account, terms.binding.auth_id.as_ref()).await?;
        for payer in &payers {
            policy::check(payer, &names, &terms.price, &terms.ticket_ev_wei)?;
        }
        let dollars = payers.iter().any(Charges::in_dollars);
        let ether = if dollars { self.accounts.eth_usd().micro_usd_per_eth() } else { None };
        let recipient = terms.params.recipient;
        let charges = Charges::of(&payers, recipient, &self.limits, terms.now_ms(), ether.as_ref())
            .map_err(|NoEthPrice| SignerError::NoEthPrice)?;
        Ok(Consented { authorised, charges })
    }

    /// Whether a caller whom only the webhook knows may have a stored answer again: asked as for the
    /// payment itself, unless what it said for the session last still holds.
    pub(super) async fn consent_again(
        &self,
        identified: &Identified,
        offer: &PaymentOffer,
        stored: &StoredPayment,
    ) -> Result<(), SignerError> {
        let Some(webhook) = self.accounts.webhook() else { return Ok(()) };
        let session = identified.session.as_ref().ok_or(SignerError::InvalidState)?;
        let now_ns = (self.clock)();
        if !is_due(session.auth_expiry_s, now_ns.div_euclid(1_000_000_000)) {
            return Ok(());
        }
        let binding = &stored.binding;
        let state = NewState {
            state_id: stored.state_id.clone(),
            recipient_rand_hash: offer.tickets()?.params.recipient_rand_hash,
            last_update_ns: session.last_update_ns,
            orchestrator: binding.orchestrator,
            app: binding.app.clone(),
            auth_expiry_s: session.auth_expiry_s,
            // No ticket is new.
            sender_nonce: 0,
            balance_wei: session.balance_wei.clone(),
            initial_price: session.initial_price,
            job_type: binding.job_type,
            sequence: stored.sequence,
            auth_id: binding.auth_id.clone(),
        };
        let caller = &identified.asked.caller;
        let said = webhook.ask(&caller.headers, &state).await?;
        check_price(&said, binding.job_type, &offer.price.rational())?;
        next_auth_id(Some(&said), caller.auth_id.as_ref(), binding.auth_id.as_ref())?;
        Ok(())
    }

    /// Refuses callers whom only the webhook knows: it is asked about payments alone.
    pub(super) fn check_known(&self, caller: &Caller, what: &str) -> Result<(), SignerError> {
        if !self.accounts.is_stranger(caller) {
            return Ok(());
        }
        Err(SignerError::Forbidden(format!(
            "{what} are for callers with a credential, since the auth webhook is asked about payments \
             alone: set --accounts or --auth-token-file"
        )))
    }
}

//! What an account may pay for (its policy), and what a request says it pays for. Pure.
//!
//! An orchestrator's prices and its ticket's recipient bind the money; these names are the caller's
//! own word and keep honest tenants within what they have bought. An account with a list therefore
//! has to name something that is on it.

use crate::{
    auth::{Payer, Policy},
    error::SignerError,
};
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_payments::{BillingType, CeilingSource, check_ceilings};

/// Every name under which a request asks: `pipeline/model` for each model, the application, the
/// brought capability. If it says nothing, what its type stands for, without a model.
pub(super) fn names(
    capabilities: Option<&Capabilities>,
    app: &str,
    byoc_capability: &str,
    job_type: &str,
) -> Vec<String> {
    let mut names = Vec::new();
    for (number, models) in capabilities.into_iter().flat_map(|c| &c.models) {
        let pipeline = Capability::from_number(*number)
            .map_or_else(|| number.to_string(), Capability::pipeline);
        names.extend(models.keys().map(|model| format!("{pipeline}/{model}")));
    }
    if !app.is_empty() {
        names.push(app.to_owned());
    }
    if !byoc_capability.is_empty() {
        names.push(byoc_name(byoc_capability));
    }
    if names.is_empty() {
        names.push(match job_type.parse() {
            Ok(BillingType::Lv2v) => "live-video-to-video/".to_owned(),
            Ok(BillingType::Units) => "transcode/".to_owned(),
            _ => format!("{job_type}/"),
        });
    }
    names
}

/// Under which name a brought capability is allowed.
pub(super) fn byoc_name(capability: &str) -> String {
    format!("byoc/{capability}")
}

/// Whether this payer may pay for all of that, at that price, with such tickets.
pub(super) fn check(
    payer: &Payer,
    names: &[String],
    price: &Rational,
    ticket_ev_wei: &Rational,
) -> Result<(), SignerError> {
    let (account, policy) = (payer.account.name(), &payer.policy);
    check_names(account, policy, names)?;
    check_ceilings(price, &[(CeilingSource::Account, policy.max_price.as_ref())])?;
    match &policy.max_ticket_ev_wei {
        Some(max) if ticket_ev_wei > max => Err(SignerError::AccountTicketEv {
            account: account.to_owned(),
            ev: ticket_ev_wei.clone(),
            max: max.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether an account may use what is named.
pub(super) fn check_names(
    account: &str,
    policy: &Policy,
    names: &[String],
) -> Result<(), SignerError> {
    match names.iter().find(|name| !policy.allows(name)) {
        None => Ok(()),
        Some(name) => {
            Err(SignerError::Forbidden(format!("account {account} may not pay for {name:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{ModelConstraint, Models};

    #[test]
    fn a_request_has_names() {
        let models: Models = [("a/b".to_owned(), ModelConstraint::default())].into();
        let asks = Capabilities { models: [(27, models)].into(), ..Capabilities::default() };
        assert_eq!(names(Some(&asks), "", "", ""), ["text-to-image/a/b"]);
        assert_eq!(names(Some(&asks), "scope", "x", ""), ["text-to-image/a/b", "scope", "byoc/x"]);
        let none = Capabilities::default();
        assert_eq!(names(Some(&none), "", "", "lv2v"), ["live-video-to-video/"]);
        assert_eq!(names(None, "", "", ""), ["transcode/"]);
        assert_eq!(names(None, "", "", "live"), ["live/"]);
        assert_eq!(names(None, "", "", "nonsense"), ["nonsense/"]);
    }
}

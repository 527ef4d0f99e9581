//! `OrchestratorInfo` ⇄ [`OrchestratorOffer`]: what an orchestrator says of itself, checked once
//! at the door.

use crate::{
    bytes, capabilities,
    error::{WireError, at_most, bounded},
    hardware::Hardware,
    header, limits, net,
    price::{self, CapabilityPrice},
    storage::{self, Bucket},
    ticket::TicketParamsFields,
    token::AuthToken,
};
use penstock_domain::{Address, Capabilities, PriceInfo};
use prost::Message;

/// An orchestrator's answer. What only a paid network sends is optional here;
/// [`Self::terms`] gives it without options to those who need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrchestratorOffer {
    /// Service URI, http(s) without credentials; `None` means that this node does no work itself.
    pub transcoder: Option<String>,
    /// The node's own key, which signs results; `None` when it sent none.
    pub address: Option<Address>,
    /// Price for what was asked, or the base price.
    pub price: Option<PriceInfo>,
    /// What tickets must look like.
    pub ticket_params: Option<TicketParamsFields>,
    /// What it can do; `None` when it sent none.
    pub capabilities: Option<Capabilities>,
    /// Lets us work there.
    pub auth_token: Option<AuthToken>,
    /// Where it wants sources uploaded, if it does.
    pub storage: Option<Bucket>,
    /// Price list; only in the full menu.
    pub capabilities_prices: Vec<CapabilityPrice>,
    /// GPUs; only in the full menu.
    pub hardware: Vec<Hardware>,
    /// Other service URIs of the operator, http(s) only.
    pub nodes: Vec<String>,
}

/// The parts of an offer that a paid job needs, all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaidTerms<'a> {
    /// Where to send the job.
    pub transcoder: &'a str,
    /// Wei per unit.
    pub price: PriceInfo,
    /// What tickets must look like.
    pub ticket_params: &'a TicketParamsFields,
    /// Lets us work there.
    pub auth_token: &'a AuthToken,
}

impl OrchestratorOffer {
    /// Parses and checks an encoded `OrchestratorInfo`.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let what = "orchestrator info";
        let m: net::OrchestratorInfo =
            header::decode_message(what, bytes, limits::ORCHESTRATOR_INFO_BYTES)?;
        Self::try_from(&m)
    }

    /// Encodes what an orchestrator of ours answers, or what a challenge carries.
    pub fn encode(&self) -> Vec<u8> {
        net::OrchestratorInfo::from(self).encode_to_vec()
    }

    /// What a paid job needs, or which part is missing.
    pub fn terms(&self) -> Result<PaidTerms<'_>, WireError> {
        Ok(PaidTerms {
            transcoder: self.transcoder.as_deref().ok_or(WireError::Missing("transcoder"))?,
            price: self.price.ok_or(WireError::Missing("price"))?,
            ticket_params: self
                .ticket_params
                .as_ref()
                .ok_or(WireError::Missing("ticket parameters"))?,
            auth_token: self.auth_token.as_ref().ok_or(WireError::Missing("auth token"))?,
        })
    }
}

/// A peer's http(s) URL with a host and no user part, at most 2048 bytes. Whether its host may be
/// called is for the caller's address policy; this only keeps other schemes and hidden
/// credentials out.
pub fn checked_url(what: &'static str, text: &str) -> Result<String, WireError> {
    bounded(what, text.len(), limits::URL_BYTES)?;
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| {
            let head = text.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then(|| text.get(scheme.len()..))?
        })
        .ok_or(WireError::invalid(what, "must begin with http:// or https://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let printable = text.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'\\');
    if authority.is_empty() || authority.contains('@') || !printable {
        return Err(WireError::invalid(what, "must be a plain URL with a host"));
    }
    Ok(text.to_owned())
}

impl TryFrom<&net::OrchestratorInfo> for OrchestratorOffer {
    type Error = WireError;

    fn try_from(m: &net::OrchestratorInfo) -> Result<Self, WireError> {
        at_most("capability prices", m.capabilities_prices.len(), limits::CAPABILITY_ENTRIES)?;
        at_most("hardware list", m.hardware.len(), limits::CAPABILITY_ENTRIES)?;
        at_most("nodes", m.nodes.len(), limits::NODES)?;
        let transcoder = match m.transcoder.as_str() {
            "" => None,
            url => Some(checked_url("transcoder", url)?),
        };
        Ok(Self {
            transcoder,
            // A node without a key sends zeros, or nothing.
            address: bytes::address("orchestrator address", &m.address)?.filter(|a| !a.is_zero()),
            price: m.price_info.as_ref().map(price::read).transpose()?,
            ticket_params: m.ticket_params.as_ref().map(TryInto::try_into).transpose()?,
            capabilities: m.capabilities.as_ref().map(capabilities::read).transpose()?,
            auth_token: m.auth_token.as_ref().map(TryInto::try_into).transpose()?,
            storage: storage::read(&m.storage)?,
            // One bad entry of a menu spoils that entry, not the whole answer.
            capabilities_prices: keep(&m.capabilities_prices, |p| p.try_into()),
            hardware: keep(&m.hardware, |h| h.try_into()),
            nodes: keep(&m.nodes, |n| checked_url("node", n)),
        })
    }
}

fn keep<'a, M, T>(list: &'a [M], read: impl Fn(&'a M) -> Result<T, WireError>) -> Vec<T> {
    list.iter().filter_map(|m| read(m).ok()).collect()
}

impl From<&OrchestratorOffer> for net::OrchestratorInfo {
    fn from(o: &OrchestratorOffer) -> Self {
        Self {
            transcoder: o.transcoder.clone().unwrap_or_default(),
            ticket_params: o.ticket_params.as_ref().map(TicketParamsFields::to_offer_message),
            price_info: o.price.map(price::write),
            // Zeros, not nothing: gateways of the reference take an orchestrator with no address for
            // one on their (empty) list of blocked ones.
            address: o.address.unwrap_or_default().to_vec(),
            capabilities: o.capabilities.as_ref().map(capabilities::write_report),
            auth_token: o.auth_token.as_ref().map(Into::into),
            hardware: o.hardware.iter().map(Into::into).collect(),
            storage: o.storage.iter().map(Into::into).collect(),
            capabilities_prices: o.capabilities_prices.iter().map(Into::into).collect(),
            nodes: o.nodes.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_peers() {
        for good in ["https://o:8935", "http://127.0.0.1:1/x?y=1", "HTTPS://[::1]:8935/"] {
            assert_eq!(checked_url("u", good).unwrap(), good);
        }
        let long = format!("https://{}", "a".repeat(3000));
        let bad = ["", "o:8935", "ftp://o", "https://", "https:///x", "file:///etc/passwd"];
        let worse =
            ["https://user:pw@o", "https://o/ x", "https://o\n", "https://é", "https:\\\\o"];
        for url in bad.into_iter().chain(worse).chain([long.as_str()]) {
            assert!(checked_url("u", url).is_err(), "{url}");
        }
    }

    #[test]
    fn unpaid_offers_have_no_terms() {
        let m = net::OrchestratorInfo { transcoder: "https://o:8935".into(), ..Default::default() };
        let offer = OrchestratorOffer::try_from(&m).unwrap();
        assert_eq!(offer.terms(), Err(WireError::Missing("price")));
        // Zeros for no address, as the reference sends and takes them.
        let zeros = net::OrchestratorInfo { address: vec![0; 20], ..m };
        assert_eq!(net::OrchestratorInfo::from(&offer), zeros);
        assert_eq!(OrchestratorOffer::try_from(&zeros).unwrap(), offer);
        let none = OrchestratorOffer::decode(&[]).unwrap();
        assert_eq!(none.transcoder, None);
    }
}

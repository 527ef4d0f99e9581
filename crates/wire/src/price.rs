//! `PriceInfo` ⇄ prices.

use crate::{
    error::{WireError, bounded},
    limits, net,
};
use penstock_domain::PriceInfo;

/// Price of one model under one capability (`capabilities_prices`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityPrice {
    /// Its number.
    pub capability: u32,
    /// The model id; for BYOC the capability's name.
    pub constraint: String,
    /// Wei per unit.
    pub price: PriceInfo,
}

/// Reads both numbers; zero units and negative numbers are refused (payments.md section 2).
pub fn read(m: &net::PriceInfo) -> Result<PriceInfo, WireError> {
    use penstock_domain::BadPrice;
    PriceInfo::new(m.price_per_unit, m.pixels_per_unit).map_err(|e| match e {
        BadPrice::ZeroUnits => WireError::invalid("price", "pixels per unit is 0"),
        BadPrice::Negative => WireError::invalid("price", "numbers must not be negative"),
    })
}

/// The message, without capability and constraint.
pub fn write(price: PriceInfo) -> net::PriceInfo {
    net::PriceInfo {
        price_per_unit: price.price_per_unit(),
        pixels_per_unit: price.pixels_per_unit(),
        ..net::PriceInfo::default()
    }
}

impl TryFrom<&net::PriceInfo> for CapabilityPrice {
    type Error = WireError;

    fn try_from(m: &net::PriceInfo) -> Result<Self, WireError> {
        bounded("price constraint", m.constraint.len(), limits::NAME_BYTES)?;
        Ok(Self { capability: m.capability, constraint: m.constraint.clone(), price: read(m)? })
    }
}

impl From<&CapabilityPrice> for net::PriceInfo {
    fn from(p: &CapabilityPrice) -> Self {
        Self { capability: p.capability, constraint: p.constraint.clone(), ..write(p.price) }
    }
}

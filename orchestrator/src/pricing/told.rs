//! Prices of transcoding that single gateways were offered because the operator's webhook says so. Each holds as
//! long as the offer's ticket parameters, as all offers do; what was paid at it goes on at it (`book.rs`).

use penstock_domain::{Address, Rational};
use std::collections::HashMap;

/// Gateways whose prices are remembered: those with a deposit, who got an offer. The one whose last offer is oldest goes first.
const MOST_GATEWAYS: usize = 10_000;
/// Prices of one gateway that may be valid together.
const MOST_PRICES: usize = 8;

/// A price, and the last block of an offer by it.
type Offered = (Rational, u64);

/// Those of all gateways; the newest of each last.
#[derive(Debug, Default)]
pub struct Told(HashMap<Address, Vec<Offered>>);

impl Told {
    /// A gateway is offered a price that holds until `last`. What ended before `block` is forgotten.
    pub fn offer(&mut self, gateway: Address, price: &Rational, block: u64, last: u64) {
        if self.0.len() >= MOST_GATEWAYS && !self.0.contains_key(&gateway) {
            self.0.retain(|_, offered| offered.iter().any(|(_, last)| *last >= block));
            let end = |offered: &[Offered]| offered.iter().map(|(_, last)| *last).max();
            let oldest = self.0.iter().min_by_key(|(_, offered)| end(offered)).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| self.0.len() >= MOST_GATEWAYS) {
                self.0.remove(&oldest);
            }
        }
        let offered = self.0.entry(gateway).or_default();
        offered.retain(|(known, last)| known != price && *last >= block);
        if offered.len() >= MOST_PRICES {
            offered.remove(0);
        }
        offered.push((price.clone(), last));
    }

    /// The price of a gateway now.
    pub fn newest(&self, gateway: Address, block: u64) -> Option<Rational> {
        let (price, last) = self.0.get(&gateway)?.last()?;
        (*last >= block).then(|| price.clone())
    }

    /// The lowest that an offer to it may carry which is still valid.
    pub fn lowest(&self, gateway: Address, block: u64) -> Option<Rational> {
        let valid = self.0.get(&gateway)?.iter().filter(|(_, last)| *last >= block);
        valid.map(|(price, _)| price.clone()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_hold_as_long_as_their_offers() {
        let (mut told, gateway) = (Told::default(), Address::repeat_byte(1));
        let price = |n: i128| Rational::from_int(n);
        told.offer(gateway, &price(3), 10, 50);
        told.offer(gateway, &price(5), 20, 60);
        assert_eq!(told.newest(gateway, 20), Some(price(5)));
        assert_eq!(told.lowest(gateway, 50), Some(price(3)), "offered before");
        assert_eq!(told.lowest(gateway, 51), Some(price(5)));
        assert_eq!(told.newest(gateway, 61), None);
        assert_eq!(told.newest(Address::repeat_byte(2), 20), None);
        told.offer(gateway, &price(3), 55, 95);
        assert_eq!(told.newest(gateway, 55), Some(price(3)), "again the price of before");
    }

    #[test]
    fn memory_is_bounded() {
        let mut told = Told::default();
        let gateway = |n: usize| Address::left_padding_from(&n.to_be_bytes());
        for n in 0..MOST_GATEWAYS + 5 {
            told.offer(gateway(n), &Rational::ONE, 0, n as u64);
        }
        assert_eq!(told.0.len(), MOST_GATEWAYS);
        assert!(told.newest(gateway(4), 0).is_none() && told.newest(gateway(5), 0).is_some());
        for n in 1..100 {
            told.offer(gateway(7), &Rational::from_int(n), 0, 9);
        }
        assert_eq!(told.0[&gateway(7)].len(), MOST_PRICES);
    }
}

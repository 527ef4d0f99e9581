//! Prices of transcoding that single gateways were offered because the operator's webhook says so. Each holds as
//! long as the offer's ticket parameters, as all offers do; what was paid at it goes on at it (`book.rs`).

use penstock_domain::{Address, Rational};
use std::collections::HashMap;

/// Prices of one gateway that may be valid together.
const MOST_PRICES: usize = 8;

/// A price, and the last block of an offer by it.
type Offered = (Rational, u64);

/// Those of all gateways; the newest of each last.
#[derive(Debug)]
pub struct Told {
    all: HashMap<Address, Vec<Offered>>,
    /// Gateways whose prices are remembered: those with a deposit, who got an offer. The one whose last offer is
    /// oldest goes first.
    most: usize,
}

impl Told {
    /// Those of at most so many gateways.
    pub fn new(most: usize) -> Self {
        Self { all: HashMap::new(), most }
    }

    /// A gateway is offered a price that holds until `last`. What ended before `block` is forgotten.
    pub fn offer(&mut self, gateway: Address, price: &Rational, block: u64, last: u64) {
        if self.all.len() >= self.most && !self.all.contains_key(&gateway) {
            self.all.retain(|_, offered| offered.iter().any(|(_, last)| *last >= block));
            let end = |offered: &[Offered]| offered.iter().map(|(_, last)| *last).max();
            let oldest =
                self.all.iter().min_by_key(|(_, offered)| end(offered)).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| self.all.len() >= self.most) {
                self.all.remove(&oldest);
            }
        }
        let offered = self.all.entry(gateway).or_default();
        offered.retain(|(known, last)| known != price && *last >= block);
        if offered.len() >= MOST_PRICES {
            offered.remove(0);
        }
        offered.push((price.clone(), last));
    }

    /// The price of a gateway now.
    pub fn newest(&self, gateway: Address, block: u64) -> Option<Rational> {
        let (price, last) = self.all.get(&gateway)?.last()?;
        (*last >= block).then(|| price.clone())
    }

    /// The lowest that an offer to it may carry which is still valid.
    pub fn lowest(&self, gateway: Address, block: u64) -> Option<Rational> {
        let valid = self.all.get(&gateway)?.iter().filter(|(_, last)| *last >= block);
        valid.map(|(price, _)| price.clone()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_hold_as_long_as_their_offers() {
        let (mut told, gateway) = (Told::new(9), Address::repeat_byte(1));
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
        const MOST_GATEWAYS: usize = 10;
        let mut told = Told::new(MOST_GATEWAYS);
        let gateway = |n: usize| Address::left_padding_from(&n.to_be_bytes());
        for n in 0..MOST_GATEWAYS + 5 {
            told.offer(gateway(n), &Rational::ONE, 0, n as u64);
        }
        assert_eq!(told.all.len(), MOST_GATEWAYS);
        assert!(told.newest(gateway(4), 0).is_none() && told.newest(gateway(5), 0).is_some());
        for n in 1..100 {
            told.offer(gateway(7), &Rational::from_int(n), 0, 9);
        }
        assert_eq!(told.all[&gateway(7)].len(), MOST_PRICES);
    }
}

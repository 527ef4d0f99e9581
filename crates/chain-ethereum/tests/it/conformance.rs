//! The port's own suite, on anvil with the test contracts.

use crate::world::World;

penstock_chain::chain_conformance!(World::start);

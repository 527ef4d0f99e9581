//! The port's own suite, over HTTP and SQLite.

use crate::devnet::UnderTest;

penstock_chain::chain_conformance!(UnderTest::start);

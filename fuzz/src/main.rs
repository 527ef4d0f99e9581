//! libFuzzer over one target, which `PENSTOCK_FUZZ_TARGET` names. `cargo xtask fuzz` builds and runs this.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_fuzz::{Target, named};
use std::sync::LazyLock;

static TARGET: LazyLock<Option<Target>> =
    LazyLock::new(|| named(&std::env::var("PENSTOCK_FUZZ_TARGET").unwrap_or_default()));

fuzz_target!(
    init: {
        assert!(TARGET.is_some(), "PENSTOCK_FUZZ_TARGET names no target");
        penstock_http_kit::tls::install_crypto_provider();
    },
    |data: &[u8]| {
        if let Some(target) = *TARGET {
            target.run_alone(data);
        }
    }
);

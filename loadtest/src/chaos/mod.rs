//! Signer replicas and their database connections killed under load.

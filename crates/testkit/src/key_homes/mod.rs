//! Stand-ins for the services that hold keys, over their real protocols.
//!
//! None of these can be installed here, so that they are written from their documentation: they
//! enforce what the real ones enforce (credentials, leases, signatures of requests, conditions on
//! writes) and really sign, but that the real ones do the same is only as sure as the documentation.

pub mod aws_kms;
pub mod gcp_kms;
#[allow(clippy::result_large_err, reason = "an error is an HTTP answer here, made once a request")]
pub mod vault;

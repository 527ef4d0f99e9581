//! How much of a peer's data is read before anything is decided about it.
//!
//! The reference mostly has no such limits. Each of these is several times what real messages use.

/// gRPC message, as in the reference (orchestrator-wire.md section 1).
pub const GRPC_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// gRPC request to an orchestrator, which is decoded before it is known whose it is, and may then take a hundred
/// times the memory. The registration of a worker with dozens of models on eight cards has some 40 KiB.
pub const GRPC_REQUEST_BYTES: usize = 256 * 1024;
/// Cards in one message: an offer has room for more beside them in [`ORCHESTRATOR_INFO_BYTES`], a registration in
/// [`GRPC_REQUEST_BYTES`].
pub const HARDWARE_BYTES: usize = 128 * 1024;
/// `Livepeer-Payment` header text: [`TICKETS_PER_PAYMENT`] tickets of about 73 bytes, in base64.
pub const PAYMENT_HEADER_BYTES: usize = 128 * 1024;
/// `Livepeer-Segment` header text.
pub const SEGMENT_HEADER_BYTES: usize = 64 * 1024;
/// Encoded `OrchestratorInfo`, for example in a 402 challenge: the full menu with hardware and
/// prices of hundreds of models fits.
pub const ORCHESTRATOR_INFO_BYTES: usize = 1024 * 1024;
/// Encoded `Capabilities`.
pub const CAPABILITIES_BYTES: usize = 256 * 1024;
/// Tickets in one payment; a batch of the reference's signer has at most 100.
pub const TICKETS_PER_PAYMENT: usize = 1000;
/// Text of a URL.
pub const URL_BYTES: usize = 2048;
/// A short text: a name, a model id, a version.
pub const NAME_BYTES: usize = 256;
/// Token bytes inside an auth token (the reference's HMAC has 32).
pub const AUTH_TOKEN_BYTES: usize = 128;
/// Session id inside an auth token (the reference's has 8 characters).
pub const SESSION_ID_BYTES: usize = 64;
/// Models under one capability.
pub const MODELS_PER_CAPABILITY: usize = 1024;
/// Entries in `capacities`, in `PerCapability`, in `capabilities_prices`, in `hardware`.
pub const CAPABILITY_ENTRIES: usize = 1024;
/// Entries in `nodes`.
pub const NODES: usize = 256;
/// Entries in a `storage` list.
pub const STORAGES: usize = 4;
/// Text of one storage field; a policy is a base64 JSON of some hundred bytes.
pub const STORAGE_FIELD_BYTES: usize = 8 * 1024;
/// Renditions of one segment.
pub const PROFILES: usize = 16;
/// Segment data, as in the reference (orchestrator-wire.md section 6 row 12).
pub const SEGMENT_BYTES: u64 = 300_000_000;
/// Longest segment, milliseconds (orchestrator-wire.md section 6 row 4).
pub const SEGMENT_DURATION_MS: i32 = 300_000;
/// JSON body of a request to the signer: an `OrchestratorInfo` in base64, capabilities, a state.
pub const SIGNER_REQUEST_BYTES: usize = 2 * 1024 * 1024;
/// JSON body of a request to sign a BYOC job: 768 KiB of texts, which JSON may write at twice the
/// length.
pub const SIGN_BYOC_JOB_BYTES: usize = 2 * 1024 * 1024;
/// Opaque payment state, either part, decoded.
pub const STATE_BYTES: usize = 16 * 1024;
/// JSON body of a discovery answer.
pub const DISCOVERY_BYTES: usize = 4 * 1024 * 1024;
/// Entries of a discovery answer.
pub const DISCOVERY_ENTRIES: usize = 4096;
/// Runner metadata in a discovery answer (remote-signer.md section 10).
pub const RUNNER_METADATA_BYTES: usize = 1024;

//! JSON shapes of the HTTP interfaces. Keys are matched without regard to case, as Go does, null
//! counts as absent, and decimals are read exactly.

mod ai;
mod byoc;
mod byoc_orchestrator;
mod byoc_stream;
mod challenge;
mod discovery;
mod envelope;
mod live_runner;
mod live_video;
mod payment;
mod profile;
mod read;
mod segment_credentials;
mod sign_byoc_job;
mod sign_info;
mod signer_state;
mod verify;

pub use ai::{
    AiResult, CaptionAnswer, ImageAnswer, LlmAnswer, LlmChoice, LlmMessage, LlmUsage, MasksAnswer,
    MediaAnswer, SpeechAnswer, TextAnswer, TextChunk, UrlAnswer,
};
pub use byoc::{ByocJobRequest, ByocToken, JOB as JOB_HEADER, eth_address_header};
pub use byoc_orchestrator::{
    BALANCE as BALANCE_HEADER, ByocRegistration, ByocTerms, CAPABILITY as BYOC_CAPABILITY_HEADER,
    ETH_ADDRESS as ETH_ADDRESS_HEADER, EthAddressProof, MAX_REGISTRATION_BYTES,
    PAYMENT_BALANCE as PAYMENT_BALANCE_HEADER, SignedByocJob,
};
pub use byoc_stream::{ByocStreamOptions, byoc_stream_id};
pub use challenge::{PaymentChallenge, RefreshPaymentRequest};
pub use discovery::{DiscoveryEntry, Runner, RunnerPrice, parse_discovery};
pub use envelope::ErrorEnvelope;
pub use live_runner::{
    MAX_HEARTBEAT_BYTES, MAX_STATIC_RUNNERS_BYTES, RunnerGpu, RunnerSaid, SaidPrice,
    StaticRunnerSaid, WantedChannel, parse_proxy_target,
};
pub use live_video::{
    DEFAULT_MODEL as DEFAULT_LIVE_MODEL, LiveVideoStart, LiveVideoUrls, MAX_START_BYTES,
};
pub use payment::{
    LivePaymentAnswer, LivePaymentCall, LivePaymentRequest, MaxPrice, PaymentState, SignedState,
};
pub use profile::{parse_profiles, profile_to_json};
pub use segment_credentials::{SegmentCredentialsAnswer, SegmentCredentialsRequest};
pub use sign_byoc_job::{SignByocJobRequest, sign_byoc_job_answer};
pub use sign_info::SignOrchestratorInfo;
pub use signer_state::GoSignerState;
pub use verify::{Verified, VerifiedPolicy, VerifyAnswer};

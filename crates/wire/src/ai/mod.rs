//! The nine batch pipelines as gateways, orchestrators, workers and runners know them: what each takes
//! and answers ([`pipeline`]), a request of it in JSON or as a form ([`request`]), what it costs ([`units`]), how large a picture is
//! ([`image_size`]), files inside JSON ([`data_url`]), an answer in pieces ([`events`]), and models named without a file
//! ([`inline`]). Facts: `shared/protocol/ai-pipelines.md`.

pub mod data_url;
pub mod events;
pub mod image_size;
pub mod inline;
pub mod pipeline;
pub mod request;
pub mod units;

pub use inline::{InlineModel, inline_models};
pub use pipeline::{Answer, Pipeline};
pub use request::{AiRequest, BadRequest, FieldValue, Upload};

/// Generated cases for parsers: a hundred thousand a parser in about a second. The seed is fixed, so a
/// failure repeats.
#[cfg(test)]
mod generated {
    use rand::{SeedableRng, rngs::StdRng};

    /// Runs `case` so often.
    pub(crate) fn cases(count: u32, mut case: impl FnMut(&mut StdRng)) {
        let mut rng = StdRng::seed_from_u64(0x70656e73746f636b);
        (0..count).for_each(|_| case(&mut rng));
    }
}

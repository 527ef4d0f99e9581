//! Batch AI jobs: the nine pipelines, one path (ai-pipelines.md sections 2 to 5). A request is checked
//! and priced, then goes through the same attempts as video, and what comes back is checked for its
//! shape. What differs between pipelines is in [`pipeline`]'s tables, [`units`] and [`media`].

pub mod events;
pub mod job;
pub mod later;
pub mod media;
pub mod menu;
pub mod pipeline;
pub mod price_list;
pub mod request;
pub mod stream;
pub mod units;

pub use job::{AiError, AiJob};
pub use pipeline::Pipeline;
pub use request::{AiRequest, BadRequest, FieldValue, Upload};

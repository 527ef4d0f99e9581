//! Batch AI jobs: the nine pipelines, one path (ai-pipelines.md sections 2 to 5). A request is checked
//! and priced, then goes through the same attempts as video, and what comes back is checked for its
//! shape. What differs between pipelines is in the tables of `penstock_wire::ai`, [`units`] and [`media`].

pub mod job;
pub mod later;
pub mod media;
pub mod menu;
mod persistence;
pub mod price_list;
pub mod stream;
pub mod units;
pub mod watched;

pub use job::{AiError, AiJob};
pub use penstock_wire::ai::{
    AiRequest, BadRequest, FieldValue, Pipeline, Upload, events, pipeline, request,
};

//! The nine batch AI pipelines, one path for all (ai-pipelines.md section 6): a request is read
//! ([`form`]), priced (`penstock_wire::ai::units`, and [`audio`] for how long sound is), given room, paid
//! and worked on ([`job`]); what workers upload becomes an answer ([`result`]), or one in pieces
//! ([`words`]), and is charged ([`bill`]). What differs between pipelines is in the tables of `penstock_wire::ai`.

pub mod audio;
pub mod bill;
pub mod form;
pub mod job;
pub mod result;
pub mod words;

//! RTMP ingest: what publishers say ([`chunk`], [`amf`], [`session`]) and what becomes of it
//! ([`segmenter`]), without sockets; [`server`] is the listener.

pub mod amf;
pub mod chunk;
pub mod room;
pub mod segmenter;
pub mod server;
pub mod session;

//! The generated protobuf package `net`: messages, clients and servers of orchestrator-wire.md
//! section 2. These are shapes, not checked values; convert them at the door.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("net");

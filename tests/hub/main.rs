//! `unsee pull` against a server that speaks as the Hugging Face hub does: redirects to a storage,
//! ranges, refusals, connections that are cut.
#![cfg(feature = "hub")]
#![expect(clippy::print_stdout, reason = "says what is skipped")]

mod copies;
mod pulling;
mod server;

//! Where models come from and where they live.
//!
//! ```text
//! NAME ─▶ files and hashes ─▶ downloads, verified ─▶ (load, pack, verify: cli/pull.rs) ─▶ store
//! names.rs   remote.rs          download.rs                                              store.rs
//! ```
//! The store (names, records, locks) is part of `cli`; everything that speaks to a network is behind the feature `hub`.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
mod copies;
#[cfg(feature = "hub")]
mod download;
mod error;
#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod hash;
mod lock;
pub(crate) mod names;
#[cfg(feature = "hub")]
mod remote;
#[cfg(feature = "hub")]
mod select;
#[cfg(feature = "hub")]
mod siblings;
mod store;

#[cfg(feature = "hub")]
pub(crate) use cache::endpoint_is_loopback;
#[cfg(feature = "hub")]
pub(crate) use client::Patience;
#[cfg(feature = "otel")]
pub(crate) use client::system_tls;
pub(crate) use copies::{Copies, Listing, PackedCopy};
#[cfg(feature = "hub")]
pub(crate) use download::Progress;
pub(crate) use error::{HubError, HubErrorKind};
#[cfg(feature = "hub")]
pub(crate) use fetch::{FetchOptions, Fetched, fetch};
#[cfg(feature = "hub")]
pub(crate) use remote::Hub;
pub(crate) use store::{Choice, Record, Store};

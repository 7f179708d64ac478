//! Where models come from and where they live.
//!
//! ```text
//! NAME ─▶ files and hashes ─▶ downloads, verified ─▶ load, pack (staged.rs), verify ─▶ store
//! names.rs   remote.rs          download.rs            pull.rs                           store.rs
//! ```
//! The store (names, records, locks) is always compiled; everything that uses a network is behind the feature `fetch`.

#[cfg(feature = "fetch")]
mod address;
#[cfg(feature = "fetch")]
mod cache;
#[cfg(feature = "fetch")]
mod client;
mod copies;
#[cfg(feature = "fetch")]
mod download;
mod error;
#[cfg(feature = "fetch")]
mod fetch;
#[cfg(feature = "fetch")]
mod hash;
#[cfg(feature = "fetch")]
mod listing;
mod locate;
mod lock;
pub mod names;
mod packed;
#[cfg(feature = "fetch")]
mod pull;
#[cfg(feature = "fetch")]
mod remote;
#[cfg(feature = "fetch")]
mod select;
#[cfg(feature = "fetch")]
mod siblings;
pub mod staged;
mod store;

#[cfg(feature = "fetch")]
pub use cache::endpoint_is_loopback;
#[cfg(feature = "fetch")]
pub use client::Patience;
#[cfg(feature = "fetch")]
pub use client::system_tls;
pub use copies::{Copies, Listing, PackedCopy};
#[cfg(feature = "fetch")]
pub use download::Progress;
pub use error::{HubError, HubErrorKind};
#[cfg(feature = "fetch")]
pub use fetch::{FetchOptions, Fetched, fetch};
#[cfg(feature = "fetch")]
pub use listing::Hub;
pub use locate::{Located, locate, locate_default};
pub use packed::{CopyError, CopyProgress, load_packed};
#[cfg(feature = "fetch")]
pub use pull::{Made, PullOptions, PullProgress, Pulled, pull};
pub use store::{Choice, Record, Store};

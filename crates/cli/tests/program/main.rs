//! The tests of the program `trivec`, one file for each subject. They run it as a child process.

#[cfg(feature = "serve")]
mod cache;
mod cli;
mod cli_import;
mod cli_input;
mod cli_not_finite;
#[cfg(feature = "serve")]
mod cli_options;
mod cli_pack;
mod cli_rerank;
#[cfg(all(feature = "serve", unix))]
mod cli_terminal;
mod cli_verify;
mod cli_weights;
mod mixed;
mod plan;
#[cfg(feature = "serve")]
mod prompts;
#[cfg(feature = "hub")]
mod pull;
#[cfg(feature = "hub")]
mod pull_hubs;
#[cfg(feature = "hub")]
mod pull_resume;
#[cfg(feature = "search")]
mod search;
#[cfg(all(feature = "search", unix))]
mod search_interrupt;
#[cfg(feature = "search")]
mod search_options;
#[cfg(feature = "serve")]
mod server;
#[cfg(feature = "serve")]
mod server_guard;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod server_limits;
#[cfg(all(feature = "search", feature = "serve", unix))]
mod server_lost_index;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod server_memory;
#[cfg(all(feature = "otel", unix))]
mod server_otel;
#[cfg(all(feature = "search", feature = "serve", unix))]
mod server_search;
#[cfg(feature = "serve")]
mod server_wire;
#[cfg(feature = "train")]
mod train;

//! The indexes of `trivec serve --index`.

use trivec_serve::IndexPlace;

use crate::exit::{Failure, Result};

/// Parses the values of `--index`: DIR, or NAME=DIR.
pub(crate) fn places(given: &[String]) -> Result<Vec<IndexPlace>> {
    given.iter().map(|text| text.parse().map_err(|what: String| Failure::option("index", what))).collect()
}

/// Fails if a value of `--index` is invalid, or if indexes may be written to without an API key.
pub(crate) fn check_served(given: &[String], may_write: bool, has_key: bool) -> Result<()> {
    if may_write && !given.is_empty() && !has_key {
        let what =
            "found no API key beside it: whoever reaches the service could change the indexes; give --api-key-file";
        return Err(Failure::option("index-write", what));
    }
    places(given).map(drop)
}

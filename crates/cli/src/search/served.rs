//! The indexes of `trivec serve --index`.

use trivec_serve::IndexPlace;

use crate::exit::{Failure, Result};

/// The indexes to serve.
pub(crate) fn places(given: &[String]) -> Result<Vec<IndexPlace>> {
    given.iter().map(|text| text.parse().map_err(|what: String| Failure::option("index", what))).collect()
}

/// Refuses invalid names, and writable indexes without a key.
pub(crate) fn check_served(given: &[String], may_write: bool, has_key: bool) -> Result<()> {
    if may_write && !given.is_empty() && !has_key {
        let what =
            "found no API key beside it: whoever reaches the service could change the indexes; give --api-key-file";
        return Err(Failure::option("index-write", what));
    }
    places(given).map(drop)
}

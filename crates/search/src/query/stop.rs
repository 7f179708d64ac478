//! The flags that end a search early, and how the threads of a search look at them.

use std::thread::ThreadId;

use trivec::Cancel;

use super::ask::Query;
use crate::error::Result;

/// The flags of the queries that are searched together. If one of them is set, the whole call ends.
#[derive(Debug)]
pub(crate) struct Stop<'a> {
    flags: Vec<&'a Cancel>,
    /// The thread of the call. A flag made by [`Cancel::asking`] calls its function only on that thread.
    caller: ThreadId,
}

impl<'a> Stop<'a> {
    /// The flags of `queries`. This thread is the one that searches for them.
    pub fn of(queries: impl IntoIterator<Item = &'a Query>) -> Stop<'a> {
        let mut flags: Vec<&Cancel> = queries.into_iter().filter_map(|query| query.cancel.as_ref()).collect();
        flags.dedup();
        Stop { flags, caller: std::thread::current().id() }
    }

    /// Fails with [`trivec::Error::Cancelled`] if a flag is set.
    pub fn check(&self) -> Result<()> {
        let is_set = |flag: &&Cancel| match std::thread::current().id() == self.caller {
            true => flag.is_cancelled(),
            false => flag.is_set(),
        };
        match self.flags.iter().any(is_set) {
            true => Err(trivec::Error::Cancelled.into()),
            false => Ok(()),
        }
    }

    /// One flag, which is set when any of these is, because a call of the model has room for one; `None` if there are none.
    pub fn flag(&self) -> Option<Cancel> {
        match self.flags.as_slice() {
            [] => None,
            [one] => Some((*one).clone()),
            several => {
                let several: Vec<Cancel> = several.iter().map(|flag| (*flag).clone()).collect();
                Some(Cancel::asking(move || several.iter().any(Cancel::is_cancelled)))
            }
        }
    }
}

//! The flags that end a search early, as the threads of a search look at them.

use std::thread::ThreadId;

use trivec::Cancel;

use super::ask::Query;
use crate::error::Result;

/// The flags of the queries that are searched together: if one of them is set, all of the call ends.
#[derive(Debug)]
pub(crate) struct Stop<'a> {
    flags: Vec<&'a Cancel>,
    /// The thread that called: some flags can be asked for on that one alone.
    caller: ThreadId,
}

impl<'a> Stop<'a> {
    /// The flags of `queries`, which this thread searches.
    pub fn of(queries: impl IntoIterator<Item = &'a Query>) -> Stop<'a> {
        let mut flags: Vec<&Cancel> = queries.into_iter().filter_map(|query| query.cancel.as_ref()).collect();
        flags.dedup();
        Stop { flags, caller: std::thread::current().id() }
    }

    /// An error once a flag is set.
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

    /// One flag for all, as the model takes it.
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

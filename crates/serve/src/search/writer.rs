//! Lets requests write to an index one after another: the request that has the turn has the index's only writer.
//!
//! A request that commits opens the writer and ends it again, so that other processes can write between requests. A request that does not commit
//! leaves the writer open for the next one, with its pending changes; the index stays locked for other processes until a request commits.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedMutexGuard;
use trivec_search::{Committed, Error, Writer};

use super::served::Served;
use crate::app::App;
use crate::error::{ApiError, Result};

/// When so many documents are pending, they are committed even if no request asks for it.
pub(crate) const MOST_PENDING: u64 = 10_000;

/// A request's turn to write. If it is dropped before [`Turn::commit`] or [`Turn::keep`] (the client has disconnected, or something failed), its
/// changes are discarded, unless changes of other requests are pending too.
pub(crate) struct Turn {
    slot: Option<OwnedMutexGuard<Option<Writer>>>,
    writer: Option<Writer>,
    /// Whether changes of earlier requests are pending.
    others: bool,
}

impl Turn {
    /// Waits until it is this request's turn, and opens the writer if it is not open.
    pub async fn take(app: &App, served: &Arc<Served>) -> Result<Turn> {
        let mut slot = Arc::clone(&served.slot).lock_owned().await;
        let open = slot.take();
        let (others, index) = (open.is_some(), served.index.clone());
        let turn = Turn { slot: Some(slot), writer: open, others };
        if others {
            return Ok(turn);
        }
        turn.run(app, move |turn| {
            turn.writer = Some(index.writer()?);
            Ok(())
        })
        .await
        .map(|(turn, ())| turn)
    }

    /// Waits for the turn of a request that commits what earlier ones left pending; `None` if nothing is pending.
    pub async fn pending(served: &Served) -> Option<Turn> {
        let mut slot = Arc::clone(&served.slot).lock_owned().await;
        let writer = slot.take()?;
        Some(Turn { slot: Some(slot), writer: Some(writer), others: true })
    }

    /// Calls `work` on a blocking thread. If the writer fails, it is dropped together with all pending changes.
    pub async fn run<T: Send + 'static>(
        mut self,
        app: &App,
        work: impl FnOnce(&mut Turn) -> std::result::Result<T, Error> + Send + 'static,
    ) -> Result<(Turn, T)> {
        let held = app.held();
        let job = move || {
            let result = work(&mut self);
            drop(held);
            (self, result)
        };
        let (mut turn, result) = tokio::task::spawn_blocking(job).await.map_err(|_| ApiError::internal())?;
        match result {
            Ok(value) => Ok((turn, value)),
            Err(e @ (Error::Document { .. } | Error::NoField { .. } | Error::FieldType { .. })) => Err(e.into()),
            Err(e) => {
                let lost = std::mem::take(&mut turn.others);
                let mut error = ApiError::from(e);
                if lost {
                    error.message.push_str("; what was pending is lost");
                }
                Err(error)
            }
        }
    }

    /// The writer, which is open from [`Turn::take`] on until [`Turn::end`]; an error after that.
    pub fn writer(&mut self) -> std::result::Result<&mut Writer, Error> {
        self.writer.as_mut().ok_or_else(|| Error::WriterFailed { what: "it was closed".to_owned() })
    }

    /// Commits all pending changes, so that searches see them and a crash does not lose them, and ends the writer.
    pub async fn commit(self, app: &App) -> Result<Committed> {
        let begin = Instant::now();
        let commit = |turn: &mut Turn| {
            let done = turn.writer()?.commit()?;
            turn.end();
            Ok(done)
        };
        let (_, done) = self.run(app, commit).await?;
        app.search.metrics.committed(begin.elapsed());
        Ok(done)
    }

    /// Ends the writer after a commit. A failure is only logged: what is left to do are merges of tantivy, which save space.
    pub fn end(&mut self) {
        self.others = false;
        if let Some(Err(error)) = self.writer.take().map(Writer::end) {
            tracing::warn!(%error, "merging an index's files failed");
        }
    }

    /// Leaves the pending changes to the next turn.
    pub fn keep(mut self) {
        self.others = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (Some(mut slot), Some(writer)) = (self.slot.take(), self.writer.take()) else { return };
        if self.others {
            *slot = Some(writer);
            return;
        }
        // Dropping waits for the writer's threads, so it runs on a blocking thread.
        let end = move || drop((writer, slot));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}

//! `/v1/index`: describes an index, commits to it, compacts it, and makes snapshots of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::documents::{WhichIndex, check_write};
use crate::app::App;
use crate::body::{Body, NoFields, OptionalBody, QueryPart};
use crate::error::{ApiError, Dialect, Result};
use crate::search::writer::Turn;
use trivec_search::{Error, Stats};

/// The description of an index: its statistics, under the same names as on the command line.
#[derive(Serialize)]
struct Described {
    index: String,
    /// The names of all indexes of the service.
    indexes: Vec<String>,
    write: bool,
    #[serde(flatten)]
    stats: Stats,
}

/// The answer, or the answer of the error.
fn or_error(answer: Result<Response>) -> Response {
    answer.unwrap_or_else(|e| e.answer(Dialect::OpenAi))
}

/// `GET /v1/index`: describes an index.
pub(super) async fn stats(State(app): State<Arc<App>>, QueryPart(which): QueryPart<WhichIndex>) -> Response {
    or_error(stats_inner(&app, which).await)
}

async fn stats_inner(app: &Arc<App>, which: WhichIndex) -> Result<Response> {
    let served = app.search.get(which.index.as_deref())?;
    let own = Arc::clone(&served);
    let mut stats = app.beside(move || own.reader().and_then(|_| own.index.stats())).await??;
    // The model's own name may be a local path, so the served name replaces it.
    stats.model.name = app.names.first();
    let indexes = app.search.names().map(str::to_owned).collect();
    let described = Described { index: served.name.clone(), indexes, write: app.search.is_writable(), stats };
    Ok(Json(described).into_response())
}

/// `POST /v1/index/commit`: commits the changes that earlier requests left pending.
pub(super) async fn commit(
    State(app): State<Arc<App>>,
    QueryPart(which): QueryPart<WhichIndex>,
    OptionalBody(NoFields {}): OptionalBody<NoFields>,
) -> Response {
    or_error(commit_inner(&app, which).await)
}

async fn commit_inner(app: &Arc<App>, which: WhichIndex) -> Result<Response> {
    let served = check_write(app, which.index.as_deref())?;
    let Some(turn) = Turn::pending(&served).await else {
        // Nothing is pending, so there is nothing to commit.
        let own = Arc::clone(&served);
        let generation = app.beside(move || own.reader().map(|reader| reader.generation())).await??;
        return Ok(Json(json!({"generation": generation, "added": 0})).into_response());
    };
    let done = turn.commit(app).await?;
    Ok(Json(json!({"generation": done.generation, "added": done.added})).into_response())
}

/// The body of `/v1/index/compact`; `all` rewrites every segment with a deleted document.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CompactRequest {
    all: Option<bool>,
}

/// `POST /v1/index/compact`: gives back the space of deleted documents, and merges segments.
pub(super) async fn compact(
    State(app): State<Arc<App>>,
    QueryPart(which): QueryPart<WhichIndex>,
    OptionalBody(request): OptionalBody<CompactRequest>,
) -> Response {
    or_error(compact_inner(&app, which, request).await)
}

async fn compact_inner(app: &Arc<App>, which: WhichIndex, request: CompactRequest) -> Result<Response> {
    let served = check_write(app, which.index.as_deref())?;
    let all = request.all.unwrap_or(false);
    let turn = Turn::take(app, &served).await?;
    let compact = move |turn: &mut Turn| {
        let rewritten = turn.writer()?.compact(all)?;
        turn.end();
        Ok(rewritten)
    };
    let (_, rewritten) = turn.run(app, compact).await?;
    Ok(Json(json!({"rewritten_segments": rewritten})).into_response())
}

/// The body of `/v1/index/snapshot`: the name of the new directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotRequest {
    name: String,
}

/// `POST /v1/index/snapshot`: copies the last commit of an index into a new directory.
pub(super) async fn snapshot(
    State(app): State<Arc<App>>,
    QueryPart(which): QueryPart<WhichIndex>,
    Body(request): Body<SnapshotRequest>,
) -> Response {
    or_error(snapshot_inner(&app, which, request).await)
}

/// Whether a snapshot may have this name, which becomes a directory's: only characters that every file system allows, and no path.
fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && !name.ends_with(".partial")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Makes the copy in the service's directory for snapshots, and opens it to count what it has.
async fn snapshot_inner(app: &Arc<App>, which: WhichIndex, request: SnapshotRequest) -> Result<Response> {
    let served = check_write(app, which.index.as_deref())?;
    let Some(directory) = app.search.snapshots() else {
        let what = "this service makes no snapshots: start it with `--index-snapshots DIR`";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", what));
    };
    if !is_plain(&request.name) {
        let what = "name: expected 1 to 64 letters, digits, `.`, `-` and `_`, not beginning with `.`";
        return Err(ApiError::invalid("name", what));
    }
    let to = directory.join(&request.name);
    // One copy at a time, because two with the same target would collide.
    let turn = Arc::clone(&app.search.copying).lock_owned().await;
    let held = app.held();
    let copy = move || -> std::result::Result<(usize, usize), Error> {
        let result = served.index.snapshot(&to).and_then(|()| trivec_search::Index::open(&to)?.reader());
        drop((turn, held));
        result.and_then(|reader| Ok((reader.documents()?, reader.len())))
    };
    let (documents, entries) = tokio::task::spawn_blocking(copy).await.map_err(|_| ApiError::internal())??;
    Ok(Json(json!({"snapshot": request.name, "documents": documents, "entries": entries})).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_that_are_no_paths_name_a_snapshot() {
        for good in ["a", "2026-11-30", "notes_1.bak", &"x".repeat(64)] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "/etc", "a b", "ä", "a\0", "c.partial", &"x".repeat(65)] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}

//! Asks a hub for the listing of a repository: its revision and its files.

use serde::Deserialize;
use ureq::http::header;

use super::address::{Endpoint, encode};
use super::client::Client;
use super::error::{HubError, HubErrorKind};
use super::hash::Hash;
use super::listing::{Hub, Listing, RemoteFile, digest, hash_of, is_safe};
use super::names::is_commit;
use super::siblings::Names;

/// The most pages and files of a listing; no model's repository has as many.
const MAX_PAGES: usize = 50;
const MAX_FILES: usize = 100_000;

#[derive(Deserialize)]
struct HfRevision {
    sha: Option<String>,
}

#[derive(Deserialize)]
struct HfEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<HfLfs>,
}

#[derive(Deserialize)]
struct HfLfs {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsAnswer {
    code: Option<i64>,
    message: Option<String>,
    data: Option<MsData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsData {
    #[serde(default)]
    files: Vec<MsFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsFile {
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(rename = "Type", default)]
    kind: String,
}

/// Asks `hub` for a repository's files at `revision`.
pub(super) fn list(
    client: &Client,
    endpoint: &Endpoint,
    hub: Hub,
    repository: &str,
    revision: Option<&str>,
    note: &dyn Fn(&str),
) -> Result<Listing, HubError> {
    let revision = revision.unwrap_or(hub.default_revision());
    let listing = match hub {
        Hub::HuggingFace => list_hugging_face(client, endpoint, repository, revision, note),
        Hub::ModelScope => list_model_scope(client, endpoint, repository, revision, note),
    }?;
    if listing.files.is_empty() {
        return Err(HubError::model(format!("{repository}@{revision} has no files")));
    }
    Ok(listing)
}

/// Lists a repository on Hugging Face or on a mirror, which may tell less.
fn list_hugging_face(
    client: &Client,
    endpoint: &Endpoint,
    repository: &str,
    revision: &str,
    note: &dyn Fn(&str),
) -> Result<Listing, HubError> {
    let names = Names { client, endpoint, repository, note };
    match list_tree(client, endpoint, repository, revision, note) {
        // A mirror may not implement this part of Hugging Face's API.
        Err(error) if error.kind == HubErrorKind::NotFound => names.list(revision)?.ok_or(error),
        listing => names.complete(listing?),
    }
}

/// Lists a repository by the commit of `revision` and the pages of its tree.
fn list_tree(
    client: &Client,
    endpoint: &Endpoint,
    repository: &str,
    revision: &str,
    note: &dyn Fn(&str),
) -> Result<Listing, HubError> {
    let base = &endpoint.base;
    let answered = |what: String| HubError::new(HubErrorKind::Network, format!("{base}: {what}"));
    let commit = if is_commit(revision) {
        revision.to_owned()
    } else {
        let url = format!("{base}/api/models/{repository}/revision/{}", encode(revision).replace('/', "%2F"));
        let (answer, _) = client.json::<HfRevision>(endpoint, &url, note)?;
        answer.sha.filter(|sha| is_commit(sha)).ok_or_else(|| answered(format!("no commit of `{revision}`")))?
    };
    let mut files = Vec::new();
    let mut url = format!("{base}/api/models/{repository}/tree/{commit}?recursive=true");
    for page in 0.. {
        let (entries, headers) = client.json::<Vec<HfEntry>>(endpoint, &url, note)?;
        for entry in entries.into_iter().filter(|entry| entry.kind == "file" && is_safe(&entry.path)) {
            let (bytes, oid) = entry.lfs.map_or((entry.size, entry.oid), |lfs| (lfs.size, lfs.oid));
            let hash = hash_of(&oid).map_err(|what| answered(format!("{}: {what}", entry.path)))?;
            files.push(RemoteFile { path: entry.path, bytes, hash });
        }
        let next = headers.get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
        let Some(next) = next else { break };
        if page >= MAX_PAGES || files.len() > MAX_FILES {
            return Err(answered(format!("{repository} has more than {} files", files.len())));
        }
        // The next page is requested from the configured hub, even if a mirror's answer names another host.
        let at = next.find("/api/").ok_or_else(|| answered(format!("the next page is `{next}`")))?;
        url = format!("{base}{}", &next[at..]);
    }
    Ok(Listing {
        hub: Hub::HuggingFace,
        repository: repository.to_owned(),
        revision: commit.clone(),
        address: commit,
        files,
    })
}

/// The address with `rel="next"` in a `Link` header.
fn next_page(link: &str) -> Option<&str> {
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    part.split('<').nth(1)?.split('>').next()
}

/// Lists a repository on ModelScope.
fn list_model_scope(
    client: &Client,
    endpoint: &Endpoint,
    repository: &str,
    revision: &str,
    note: &dyn Fn(&str),
) -> Result<Listing, HubError> {
    let base = &endpoint.base;
    let url = format!("{base}/api/v1/models/{repository}/repo/files?Revision={}&Recursive=true", encode(revision));
    let (answer, _) = client.json::<MsAnswer>(endpoint, &url, note)?;
    let Some(data) = answer.data.filter(|_| answer.code.is_none_or(|code| code == 200)) else {
        let what = answer.message.unwrap_or_else(|| "no files".to_owned());
        return Err(HubError::model(format!("{base}: {repository}@{revision}: {what}")));
    };
    let mut files = Vec::new();
    for file in data.files.into_iter().filter(|file| file.kind != "tree" && is_safe(&file.path)) {
        // A file without a hash could not be checked, so it is left out.
        let Some(hash) = file.sha256.as_deref().and_then(Hash::parse) else { continue };
        files.push(RemoteFile { path: file.path, bytes: file.size, hash });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let revision_digest = digest(&files);
    Ok(Listing {
        hub: Hub::ModelScope,
        repository: repository.to_owned(),
        revision: revision_digest,
        address: revision.to_owned(),
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        let link = "<https://h/api/x?cursor=1>; rel=\"first\", <https://h/api/x?cursor=2>; rel=\"next\"";
        assert_eq!(next_page(link), Some("https://h/api/x?cursor=2"));
        assert_eq!(next_page("<a>; rel=\"prev\""), None);
        assert_eq!(next_page("rel=\"next\""), None);
    }
}

//! Hubs with a partial implementation of Hugging Face's API: mirrors that list files without sizes or hashes, or only serve files. A HEAD
//! request for each file fills the gaps.

use serde::Deserialize;

use super::address::{Endpoint, encode};
use super::client::{Client, Head};
use super::error::{HubError, HubErrorKind};
use super::hash::Hash;
use super::listing::{Hub, Listing, RemoteFile, digest, hash_of, is_safe};
use super::names::is_commit;
use super::select::{USUAL, may_be_needed};

/// The most files of one listing that are asked for one by one.
const MAX_ASKED: usize = 200;

/// What Hugging Face's API says of a repository.
#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Lists a repository on a hub that does not list all files with their hashes.
pub(super) struct Names<'a> {
    pub client: &'a Client,
    pub endpoint: &'a Endpoint,
    pub repository: &'a str,
    pub note: &'a dyn Fn(&str),
}

impl Names<'_> {
    /// The files at `revision`. `None` if the hub neither lists any nor has `config.json`, so that the repository is not there.
    pub(super) fn list(&self, revision: &str) -> Result<Option<Listing>, HubError> {
        let info = self.info(revision)?;
        let listed: Vec<RemoteFile> = match &info {
            Some(info) => info
                .siblings
                .iter()
                .filter_map(|s| s.file(&self.endpoint.base).transpose())
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let commit = info.and_then(|info| info.sha).filter(|sha| is_commit(sha));
        let address = commit.clone().unwrap_or_else(|| revision.to_owned());
        let listing = |files| Listing {
            hub: Hub::HuggingFace,
            repository: self.repository.to_owned(),
            revision: commit.clone().unwrap_or_default(),
            address: address.clone(),
            files,
        };
        if !listed.is_empty() {
            return self.complete(listing(listed)).map(Some);
        }
        // The server has no listing, so it is asked for each file that a model may have.
        let mut found = listing(Vec::new());
        for (index, path) in USUAL.iter().enumerate() {
            match self.ask(&found, path)? {
                Some(head) => self.add(&mut found, path, head)?,
                // Every model has the first of them, `config.json`.
                None if index == 0 => return Ok(None),
                None => {}
            }
        }
        Ok(Some(named(found)))
    }

    /// Asks the hub for the length and hash of each file without a hash that a model may need, and drops the other files without one. A hash
    /// that the hub does not tell stays unknown.
    pub(super) fn complete(&self, mut listing: Listing) -> Result<Listing, HubError> {
        let (known, unknown): (Vec<_>, Vec<_>) = std::mem::take(&mut listing.files)
            .into_iter()
            .filter(|file| file.hash != Hash::Unknown || may_be_needed(&file.path))
            .partition(|file| file.hash != Hash::Unknown);
        listing.files = known;
        if unknown.len() > MAX_ASKED {
            let what =
                format!("{}: files of {} without a hash: {}", self.endpoint.base, self.repository, unknown.len());
            return Err(HubError::new(HubErrorKind::Network, what));
        }
        for file in unknown {
            let head = self.ask(&listing, &file.path)?.ok_or_else(|| {
                let base = &self.endpoint.base;
                HubError::new(HubErrorKind::NotFound, format!("{base}: {} is listed, but not there (404)", file.path))
            })?;
            let bytes = head.bytes.or(Some(file.bytes).filter(|&bytes| bytes > 0));
            self.add(&mut listing, &file.path, Head { bytes, ..head })?;
        }
        Ok(named(listing))
    }

    /// What the API says of the repository at `revision`; `None` if the hub has no such answer.
    fn info(&self, revision: &str) -> Result<Option<Info>, HubError> {
        let model = format!("{}/api/models/{}", self.endpoint.base, self.repository);
        let mut urls = vec![format!("{model}/revision/{}?blobs=true", encode(revision).replace('/', "%2F"))];
        if revision == Hub::HuggingFace.default_revision() {
            urls.push(format!("{model}?blobs=true"));
        }
        for url in urls {
            match self.client.json::<Info>(self.endpoint, &url, self.note) {
                Ok((info, _)) => return Ok(Some(info)),
                Err(error) if error.kind == HubErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What the hub's headers say of a file; `None` if it is not there.
    fn ask(&self, listing: &Listing, path: &str) -> Result<Option<Head>, HubError> {
        let url = listing.url(self.endpoint, path);
        match self.client.retry(self.note, || self.client.head(self.endpoint, &url)) {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.kind == HubErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a file with what the hub says of it. If the listing has no commit yet, it gets the one that the hub names.
    fn add(&self, listing: &mut Listing, path: &str, head: Head) -> Result<(), HubError> {
        let bytes = head.bytes.ok_or_else(|| {
            let url = listing.url(self.endpoint, path);
            HubError::new(HubErrorKind::Network, format!("{url}: the server does not tell the file's length"))
        })?;
        if let (true, Some(commit)) = (listing.revision.is_empty(), head.commit) {
            listing.address.clone_from(&commit);
            listing.revision = commit;
        }
        listing.files.push(RemoteFile { path: path.to_owned(), bytes, hash: head.hash });
        Ok(())
    }
}

impl Sibling {
    /// The file as the hub lists it; `None` if its path is not safe to use.
    fn file(&self, base: &str) -> Result<Option<RemoteFile>, HubError> {
        if !is_safe(&self.rfilename) {
            return Ok(None);
        }
        let (bytes, oid) = match &self.lfs {
            Some(lfs) => (Some(lfs.size), lfs.sha256.as_str()),
            None => (self.size, self.blob_id.as_deref().unwrap_or_default()),
        };
        let hash = hash_of(oid)
            .map_err(|what| HubError::new(HubErrorKind::Network, format!("{base}: {}: {what}", self.rfilename)))?;
        // A hash without a length is dropped, so that `complete` asks for both.
        let hash = if bytes.is_some() { hash } else { Hash::Unknown };
        Ok(Some(RemoteFile { path: self.rfilename.clone(), bytes: bytes.unwrap_or(0), hash }))
    }
}

/// Sorts the files, and gives a listing without a commit a digest as its revision.
fn named(mut listing: Listing) -> Listing {
    listing.files.sort_by(|a, b| a.path.cmp(&b.path));
    if listing.revision.is_empty() {
        listing.revision = digest(&listing.files);
    }
    listing
}

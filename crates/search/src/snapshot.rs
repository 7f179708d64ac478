//! Copies an index while it is in use.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::commit::Commit;
use crate::directory::{Index, SEGMENTS, TEXT};
use crate::error::{Error, Result};
use crate::segment::path_of;
use crate::settings::SETTINGS_FILE;

/// How often copying an index is tried if it changes meanwhile.
const ATTEMPTS: usize = 20;

/// tantivy's own two lists of files.
const LISTS: [&str; 2] = ["meta.json", ".managed.json"];

/// Copies the last commit of `index` to `to`: first to a directory of another name, which is renamed to `to` when all of it is on the disk.
pub(crate) fn copy(index: &Index, to: &Path) -> Result<()> {
    if to.exists() {
        return Err(Error::Exists { path: to.to_path_buf(), what: "there is something already".to_owned() });
    }
    // `components` drops a separator at the end of `to`, so that `.partial` is appended to the name and is not a name inside of `to`.
    let mut partial = to.components().as_path().as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let result = copy_to(index, &partial).and_then(|()| {
        index.disk.rename(&partial, to).map_err(|e| Error::io(to, e))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        index.disk.sync_directory(parent).map_err(|e| Error::io(parent, e))
    });
    if result.is_err() && partial.exists() {
        fs::remove_dir_all(&partial).map_err(|e| Error::io(&partial, e))?;
    }
    result
}

/// Copies the files that the index has at one moment. Files of an index are never changed, but compaction and merges remove them. So each
/// file is first given a hard link in the copy, which takes almost no time and keeps the content even if the original is removed; its bytes
/// are copied afterwards. Where the file system has no hard links, a file is copied at once.
fn copy_to(index: &Index, to: &Path) -> Result<()> {
    let (text, segments) = (to.join(TEXT), to.join(SEGMENTS));
    let mut linked = None;
    for _ in 0..ATTEMPTS {
        if to.exists() {
            fs::remove_dir_all(to).map_err(|e| Error::io(to, e))?;
        }
        for path in [to, &text, &segments] {
            fs::create_dir(path).map_err(|e| Error::io(path, e))?;
        }
        let before = lists(index)?;
        let result = link_all(index, &before, &text, &segments);
        // If the lists have changed meanwhile, the links are not of one moment, and a file that was missing is no error: the attempt is
        // repeated.
        if lists(index)? == before {
            linked = Some(result?);
            break;
        }
    }
    let linked =
        linked.ok_or_else(|| Error::Changing { path: index.directory.clone(), what: "copied", attempts: ATTEMPTS })?;
    for path in &linked {
        // The copy must not share its bytes with the index, so that damage to one on the disk leaves the other intact.
        let mut own = path.clone().into_os_string();
        own.push(".own");
        let own = PathBuf::from(own);
        copy_file(index, path, &own)?;
        index.disk.rename(&own, path).map_err(|e| Error::io(path, e))?;
    }
    let settings = index.directory.join(SETTINGS_FILE);
    let settings = fs::read(&settings).map_err(|e| Error::io(&settings, e))?;
    write(index, &to.join(SETTINGS_FILE), &settings)?;
    for path in [&text, &segments, &to.to_path_buf()] {
        index.disk.sync_directory(path).map_err(|e| Error::io(path, e))?;
    }
    Index::open(to)?.reader().map(drop)
}

/// Reads tantivy's two lists. The first names the files of the last commit, or of a merge after it.
fn lists(index: &Index) -> Result<Vec<Vec<u8>>> {
    let read = |name: &&str| {
        let path = index.text.path.join(name);
        fs::read(&path).map_err(|e| Error::io(&path, e))
    };
    LISTS.iter().map(read).collect()
}

/// Gives the files that the last commit names hard links in the copy. Returns the links; files that could not be linked were copied.
fn link_all(index: &Index, lists: &[Vec<u8>], text: &Path, segments: &Path) -> Result<Vec<PathBuf>> {
    let files = crate::error::guarded(&index.text.path, || {
        let metas = index.text.index.load_metas().map_err(|e| Error::text(&index.text.path, e))?;
        Ok(metas.list_segment_files().into_iter().collect::<BTreeSet<_>>())
    })?;
    let mut linked = Vec::new();
    for name in files {
        let from = index.text.path.join(&name);
        // tantivy lists every file that a segment may have, and a segment has only some of them.
        if from.exists() {
            link(index, &from, &text.join(&name), &mut linked)?;
        }
    }
    for (name, content) in LISTS.iter().zip(lists) {
        write(index, &text.join(name), content)?;
    }
    let payload = index.text.payload()?;
    let commit = Commit::read(&index.text.path, payload.as_deref(), &index.settings.uuid)?;
    let directory = index.directory.join(SEGMENTS);
    for segment in &commit.segments {
        for file in &segment.files {
            let name = |directory: &Path| path_of(directory, segment.id, file.kind);
            link(index, &name(&directory), &name(segments), &mut linked)?;
        }
    }
    Ok(linked)
}

/// Makes `to` a hard link to `from` and adds it to `linked`; copies the file if that fails.
fn link(index: &Index, from: &Path, to: &Path, linked: &mut Vec<PathBuf>) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => linked.push(to.to_path_buf()),
        Err(_) => copy_file(index, from, to)?,
    }
    Ok(())
}

/// Creates a file with this content and syncs it.
fn write(index: &Index, path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |e| Error::io(path, e);
    let mut file = index.disk.create(path).map_err(fail)?;
    file.append(bytes).map_err(fail)?;
    file.sync().map_err(fail)
}

/// Copies a file, a MiB at a time, and syncs the copy.
fn copy_file(index: &Index, from: &Path, to: &Path) -> Result<()> {
    use std::io::Read;
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |e| Error::io(&path, e)
    };
    let mut source = fs::File::open(from).map_err(fail(from))?;
    let mut file = index.disk.create(to).map_err(fail(to))?;
    let mut part = vec![0; 1 << 20];
    loop {
        match source.read(&mut part) {
            Ok(0) => break,
            Ok(n) => file.append(&part[..n]).map_err(fail(to))?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(from, e)),
        }
    }
    file.sync().map_err(fail(to))
}

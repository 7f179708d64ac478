//! Copies an index while it is in use.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::index::{Index, SEGMENTS, TEXT};
use crate::segment::path_of;
use crate::settings::SETTINGS_FILE;

/// Most attempts to copy an index that changes meanwhile.
const ATTEMPTS: usize = 20;

/// tantivy's own two lists of files.
const LISTS: [&str; 2] = ["meta.json", ".managed.json"];

/// Copies the last commit of `index` to `to`: to another name first, which becomes `to` when all of it is on the disk.
pub(crate) fn copy(index: &Index, to: &Path) -> Result<()> {
    if to.exists() {
        return Err(Error::Exists { path: to.to_path_buf(), what: "there is something already".to_owned() });
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = std::path::PathBuf::from(partial);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let before = index.text.payload()?;
        match attempt(index, &partial) {
            Ok(()) => {
                index.disk.rename(&partial, to).map_err(|e| Error::io(to, e))?;
                let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                return index.disk.sync_directory(parent).map_err(|e| Error::io(parent, e));
            }
            Err(e) => last = Some(e),
        }
        // Files of a commit that is not the last any more may have gone; else something is wrong. A merge may change the list of files
        // without a commit: then one more attempt decides.
        if index.text.payload()? == before && last.as_ref().is_some_and(|e| !matches!(e, Error::Io { .. })) {
            break;
        }
    }
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|e| Error::io(&partial, e))?;
    }
    Err(last.unwrap_or_else(|| Error::damaged(&index.directory, "it changes faster than it can be copied")))
}

fn attempt(index: &Index, to: &Path) -> Result<()> {
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |e| Error::io(&path, e)
    };
    if to.exists() {
        fs::remove_dir_all(to).map_err(fail(to))?;
    }
    let (text, segments) = (to.join(TEXT), to.join(SEGMENTS));
    for path in [to, &text, &segments] {
        fs::create_dir(path).map_err(fail(path))?;
    }
    // tantivy's lists first, then what they name; if the lists are the same afterwards, the copy is of one moment.
    let lists = || {
        LISTS
            .iter()
            .map(|name| fs::read(index.text.path.join(name)).map_err(fail(&index.text.path)))
            .collect::<Result<Vec<_>>>()
    };
    let before = lists()?;
    let files = crate::error::guarded(&index.text.path, || {
        let metas = index.text.index.load_metas().map_err(|e| Error::text(&index.text.path, e))?;
        Ok(metas.list_segment_files().into_iter().collect::<std::collections::BTreeSet<_>>())
    })?;
    for name in files {
        let from = index.text.path.join(&name);
        // A segment has only some of the possible files.
        if from.exists() {
            place(index, &from, &text.join(&name))?;
        }
    }
    for (name, content) in LISTS.iter().zip(&before) {
        write(index, &text.join(name), content)?;
    }
    let payload = index.text.payload()?;
    let commit = crate::commit::Commit::read(&index.text.path, payload.as_deref(), &index.settings.uuid)?;
    for segment in &commit.segments {
        for file in &segment.files {
            let from = path_of(&index.directory.join(SEGMENTS), segment.id, file.kind);
            place(index, &from, &path_of(&segments, segment.id, file.kind))?;
        }
    }
    if lists()? != before {
        return Err(Error::io(&index.text.path, std::io::Error::other("it was changed while it was copied")));
    }
    let settings = fs::read(index.directory.join(SETTINGS_FILE)).map_err(fail(&index.directory))?;
    write(index, &to.join(SETTINGS_FILE), &settings)?;
    for path in [&text, &segments, &to.to_path_buf()] {
        index.disk.sync_directory(path).map_err(fail(path))?;
    }
    Index::open(to)?.reader().map(drop)
}

fn write(index: &Index, path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |e| Error::io(path, e);
    let mut file = index.disk.create(path).map_err(fail)?;
    file.append(bytes).map_err(fail)?;
    file.sync().map_err(fail)
}

/// Copies a file, a part at a time.
fn place(index: &Index, from: &Path, to: &Path) -> Result<()> {
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

//! Where an output goes.

use std::io::ErrorKind;
use std::path::Path;

/// What is wrong with the directory that `path` is to be made in, if it is not there.
pub fn missing_directory(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => None,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Some(format!("there is no directory `{shown}` (`mkdir -p` makes it)"))
        }
        Ok(_) => Some(format!("`{shown}` is not a directory")),
        Err(e) if e.kind() == ErrorKind::NotADirectory => Some(format!("`{shown}` is below a file")),
        // What it is comes out when the file is made.
        Err(_) => None,
    }
}

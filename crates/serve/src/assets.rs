//! The page's files, in the binary.

/// A list of files of the page, each with its name and its content.
macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("page/", $name)))),+]
    };
}

/// All files of the page.
const FILES: &[(&str, &[u8])] = files![
    "api.js",
    "batch.js",
    "chart.js",
    "compare.js",
    "corpus.js",
    "decode.js",
    "docs.html",
    "docs.js",
    "dom.js",
    "file.js",
    "heatmap.js",
    "hits.js",
    "i18n.js",
    "icon.svg",
    "index.html",
    "main.js",
    "metrics.js",
    "parse.js",
    "parts.js",
    "sample.js",
    "scores.js",
    "search.js",
    "search.worker.js",
    "state.js",
    "status.js",
    "style.css",
    "table.js",
    "terms.js",
    "why.js",
    "words.en.js",
    "words.zh.js",
];

/// The content type and the bytes of a file; `None` if the page has no such file.
pub(super) fn find(name: &str) -> Option<(&'static str, &'static [u8])> {
    let (_, bytes) = FILES.iter().find(|(own, _)| *own == name)?;
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    Some((kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_together_they_are_small() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page");
        let mut bytes = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert_eq!(
                find(&name).map(|(_, bytes)| bytes.to_vec()),
                Some(std::fs::read(entry.path()).unwrap()),
                "{name}"
            );
            bytes += entry.metadata().unwrap().len();
        }
        assert!(bytes < 225_000, "{bytes}");
        assert!(find("../mod.rs").is_none());
    }
}

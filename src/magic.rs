//! Recognises a file by its first bytes, so that an error can say what was found in place of a model or a text.

/// A signature, its place in the file, and the kind of file that has it.
type Signature = (usize, &'static [u8], &'static str);

/// The signatures that are recognised. A text may begin with those that are letters alone, so [`kind`] also looks at what follows them.
const SIGNATURES: [Signature; 29] = [
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x04\x22\x4d\x18", "LZ4"),
    (0, b"BZh11AY&SY", "bzip2"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"PAR1", "Parquet"),
    (0, b"ARROW1\0\0", "an Arrow file"),
    (0, b"Obj\x01", "Avro"),
    (0, b"ORC\x0a", "ORC"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x93NUMPY", "an array of NumPy"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"\x7fELF", "a program"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"GGUF", "GGUF"),
    (0, b"\x80\x02", "a pickle of Python"),
    (0, b"\x80\x04", "a pickle of Python"),
    (8, b"{\"", "safetensors"),
];

/// The most bytes that [`kind`] needs.
pub const HEAD: usize = 64;

/// The kind of a file that begins with `head`, if it is recognised. `head` should have [`HEAD`] bytes if the file is long enough.
pub fn kind(head: &[u8]) -> Option<&'static str> {
    let found = SIGNATURES.iter().find(|(at, bytes, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes)));
    let (_, signature, name) = found?;
    Some(match *name {
        "a zip archive" => zip(head),
        // A safetensors file begins with the length of its header, in 8 bytes. No header has 4 GiB, so the upper four are 0.
        "safetensors" if head[4..8] != [0; 4] => return None,
        // A text may begin with the same letters, so these signatures only count if the bytes after them cannot be text.
        "Parquet" | "an MP3 recording" | "an Ogg recording" | "GGUF" | "a GIF image" | "ORC"
            if !goes_on_binary(&head[signature.len()..]) =>
        {
            return None;
        }
        name => name,
    })
}

/// Whether bytes that follow a signature of letters are not those of a text.
fn goes_on_binary(rest: &[u8]) -> bool {
    let control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    rest.iter().take(16).any(control) || std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_some())
}

/// The kind of a zip archive, by the name of its first file.
fn zip(head: &[u8]) -> &'static str {
    let name = head.get(30..).unwrap_or_default();
    if name.starts_with(b"[Content_Types].xml") || name.starts_with(b"_rels/") || name.starts_with(b"docProps/") {
        return "an Office document (a zip archive, such as .docx and .xlsx)";
    }
    if name.starts_with(b"mimetype") {
        return "a document in a zip archive (such as .odt and .epub)";
    }
    "a zip archive"
}

/// Whether more bytes are needed to recognise a file that begins with `head`.
pub fn is_undecided(head: &[u8]) -> bool {
    let begins = |signature: &[u8]| signature.len() > head.len() && signature.starts_with(head);
    // The signature does not decide alone: [`kind`] also reads the first name of a zip archive and the bytes after a signature of letters.
    let wants_more = |signature: &[u8]| head.starts_with(signature) && head.len() < HEAD && !head.contains(&b'\n');
    SIGNATURES.iter().filter(|(at, ..)| *at == 0).any(|(_, signature, _)| begins(signature) || wants_more(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_beginning() {
        for (head, expected) in [
            (&b"\x1f\x8b\x08\x00"[..], "gzip"),
            (b"\x28\xb5\x2f\xfd\x04", "Zstandard"),
            (b"PAR1\x15\x04\x15", "Parquet"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"\x93NUMPY\x01\0", "an array of NumPy"),
            (
                b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0[Content_Types].xml",
                "an Office document (a zip archive, such as .docx and .xlsx)",
            ),
            (b"PK\x03\x04\x14\0\0\0\0\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0arr_0.npy", "a zip archive"),
            (b"\x80\x02}q\0", "a pickle of Python"),
            (b"\x40\0\0\0\0\0\0\0{\"__metadata__\"", "safetensors"),
            (b"GGUF\x03\0\0\0", "GGUF"),
        ] {
            assert_eq!(kind(head), Some(expected), "{head:?}");
        }
    }

    #[test]
    fn texts_are_not_mistaken_for_other_files() {
        for text in [
            "",
            "P",
            "PK",
            "PAR1 is a magic number",
            "ID3 tags",
            "GIF89a is a format",
            "ORC\nelf",
            "BZh",
            "{\"a\":1}",
            "12345678{\"a\"",
        ] {
            assert_eq!(kind(text.as_bytes()), None, "{text}");
        }
        // A complete line is enough: a program at the other end of the pipe may be waiting for its answer.
        assert!(!is_undecided(b"hello\n") && !is_undecided(b"P\n") && is_undecided(b"P") && is_undecided(b"\x1f"));
    }
}

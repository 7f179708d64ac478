use super::super::testing::{Entry as Made, archive};
use super::*;

fn two() -> Vec<Made> {
    vec![Made::new("a/data.pkl", b"pickle"), Made::new("a/data/0", &[7; 20])]
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).expect_err("it was read")
}

#[test]
fn entries_are_where_the_directory_says() {
    for wide in [false, true] {
        let bytes = archive(&two(), wide);
        let entries = read(&bytes).unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["a/data.pkl", "a/data/0"]);
        assert_eq!(&bytes[entries["a/data.pkl"].range.clone()], b"pickle");
        assert_eq!(entries["a/data/0"].range.len(), 20);
        assert_eq!(entries["a/data/0"].crc32, crc32fast::hash(&[7; 20]));
    }
    assert!(read(&archive(&[], false)).unwrap().is_empty());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for wide in [false, true] {
        let bytes = archive(&two(), wide);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(refusal(&longer).contains("no zip directory"));
    }
}

#[test]
fn false_entries_are_refused_by_name() {
    type Change = fn(&mut Made);
    let changes: [(Change, &str); 13] = [
        (|e| e.method = 8, "deflated"),
        (|e| e.method = 93, "method 93"),
        (|e| e.flags = 1, "encrypted"),
        (|e| e.central_name = Some("a/data.pkl".into()), "another name"),
        (|e| e.name = "a/../../etc/passwd".into(), "relative path"),
        (|e| e.name = "/etc/passwd".into(), "relative path"),
        (|e| e.name = "C:\\x".into(), "relative path"),
        (|e| e.name = "a//b".into(), "relative path"),
        (|e| e.size = Some(21), "two sizes"),
        (|e| e.sizes = Some((1 << 31, 1 << 31)), "beyond"),
        (|e| e.local_crc = Some(1), "contradicts"),
        (|e| e.local_sizes = Some((19, 19)), "contradicts"),
        (|e| e.header = Some(1 << 30), "beyond"),
    ];
    for (change, expected) in changes {
        let mut entries = two();
        change(&mut entries[1]);
        let message = refusal(&archive(&entries, false));
        assert!(message.contains("zip entry `") && message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn names_that_come_twice_and_entries_that_overlap_are_refused() {
    let mut entries = two();
    entries.push(Made::new("a/data/0", b"other"));
    assert!(refusal(&archive(&entries, false)).contains("`a/data/0`: the name comes twice"));
    // A second entry whose local header lies in the bytes of the first: after the first's own header of 30 bytes and its name of 1.
    let inner = archive(&[Made::new("b", b"inner")], false);
    let mut entries = vec![Made::new("a", &inner), Made::new("b", b"inner")];
    entries[1].header = Some(30 + 1);
    assert!(refusal(&archive(&entries, false)).contains("`b`: it overlaps `a`"));
}

#[test]
fn false_end_records_are_refused() {
    let good = archive(&two(), false);
    let end = good.len() - 22;
    for (at, value, expected) in [
        (end + 8, 3u16, "no zip directory"), // 3 entries on this disk, but 2 in all
        (end + 12, 9, "does not end at"),    // the directory's size
        (end + 16, 9, "does not end at"),    // the directory's offset
        (end + 4, 1, "no zip directory"),    // the number of this disk
        (end + 20, 1, "no zip directory"),   // a comment that is not there
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{at}: {message}");
    }
    let mut many = good.clone();
    many[end + 8..end + 12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert!(refusal(&many).contains("cannot hold 65535 entries"));
    let mut one = good.clone();
    one[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
    assert!(refusal(&one).contains("after its 1 entries"));

    let wide = archive(&two(), true);
    let locator = wide.len() - 22 - 20;
    // The locator's offset; then of the 64-bit record its size, disk, and entries on this disk.
    for at in [locator + 8, locator - 56 + 4, locator - 56 + 16, locator - 56 + 24] {
        let mut bytes = wide.clone();
        bytes[at] ^= 1;
        assert!(refusal(&bytes).contains("64-bit zip end record"), "{at}");
    }
    let mut bytes = wide.clone();
    bytes[locator - 56 + 40] ^= 1;
    assert!(read(&bytes).is_err(), "the directory's size");
}

#[test]
fn a_flipped_bit_never_panics() {
    for wide in [false, true] {
        let good = archive(&two(), wide);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(entries) = read(&bytes) {
                assert!(entries.values().all(|entry| entry.range.end <= bytes.len()));
            }
        }
    }
}

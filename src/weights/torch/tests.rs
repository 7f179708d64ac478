use super::testing::{Entry as Made, Tensor, archive, file, state_dict};
use super::*;

fn read_it(bytes: &[u8]) -> Result<TorchFile> {
    read(bytes, Path::new("m.bin"))
}

fn refusal(bytes: &[u8]) -> String {
    let message = read_it(bytes).expect_err("it was read").to_string();
    assert!(message.starts_with("m.bin: "), "{message}");
    message
}

fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// A tensor of shape `shape` with `strides` that begins at element `offset` of a storage of twelve f32.
fn view<'a>(offset: i64, shape: &'a [i64], strides: &'a [i64]) -> Tensor<'a> {
    Tensor { class: "FloatStorage", key: "0", elements: 12, offset, shape, strides }
}

/// The bytes of that storage: the numbers 0 to 11.
fn twelve() -> Vec<u8> {
    f32s((0..12).map(|i| i as f32))
}

/// The values of `tensor` as they are read from a file, and whether they had to be gathered.
fn values(tensor: Tensor<'_>) -> (Vec<f32>, bool) {
    let bytes = file(&[("w", tensor)], &[("0", &twelve())]);
    let torch = read_it(&bytes).unwrap();
    let entry = &torch.header.tensors["w"];
    let gathered = torch.strided.get("w").map(|strided| Bytes::Owned(strided.gather(&bytes)));
    let data = gathered.as_ref().map_or(&bytes[..], |owned| &owned[..]);
    let values = data[entry.range.clone()].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (values.collect(), gathered.is_some())
}

#[test]
fn contiguous_tensors_are_seen_in_place_and_others_are_gathered() {
    let all: Vec<f32> = (0..12).map(|i| i as f32).collect();
    assert_eq!(values(view(0, &[3, 4], &[4, 1])), (all.clone(), false));
    assert_eq!(values(view(4, &[2, 4], &[4, 1])), (all[4..].to_vec(), false));
    // The stride of a dimension of size 1 does not matter.
    assert_eq!(values(view(0, &[1, 12], &[999, 1])), (all.clone(), false));
    assert_eq!(values(view(11, &[], &[])), (vec![11.0], false));
    assert_eq!(values(view(12, &[0, 4], &[4, 1])), (vec![], false));
    let transposed = vec![0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0];
    assert_eq!(values(view(0, &[4, 3], &[1, 4])), (transposed, true));
    assert_eq!(values(view(1, &[2, 2], &[6, 2])), (vec![1.0, 3.0, 7.0, 9.0], true));
    assert_eq!(values(view(5, &[2, 3], &[0, 0])), (vec![5.0; 6], true));
    assert_eq!(values(view(0, &[2, 2, 2], &[1, 4, 2])), (vec![0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0], true));
    // More than one cache line of `AlignedBytes`.
    let (long, gathered) = values(view(0, &[12, 12], &[0, 1]));
    assert!(gathered && long.len() == 144 && long[143] == 11.0 && long[132] == 0.0);
}

#[test]
fn tensors_that_reach_beyond_their_storage_are_refused() {
    for (offset, shape, strides) in [
        (0, &[13][..], &[1][..]),
        (1, &[12], &[1]),
        (12, &[1], &[1]),
        (0, &[3, 4], &[5, 1]),
        (0, &[2], &[12]),
        (i64::MAX, &[1], &[1]),
        (1, &[2], &[i64::MAX]),
        (0, &[3], &[i64::MAX]),
    ] {
        let message = refusal(&file(&[("w", view(offset, shape, strides))], &[("0", &twelve())]));
        assert!(message.contains("`w`") && message.contains("beyond its storage of 12"), "{message}");
    }
    for shape in [&[1 << 32, 1 << 32][..], &[i64::MAX, 2], &[0, i64::MAX, i64::MAX]] {
        let message = refusal(&file(&[("w", view(0, shape, &[0, 0, 0][..shape.len()]))], &[("0", &twelve())]));
        assert!(message.contains("`w`") && message.contains("overflows"), "{message}");
    }
    // PyTorch accepts a view that repeats four bytes 2^30 times. Here its 4 GB are too many for so small a file.
    let message = refusal(&file(&[("w", view(0, &[1 << 30], &[0]))], &[("0", &twelve())]));
    assert!(message.contains("`w`") && message.contains("the tensors have 4294967296 bytes"), "{message}");
}

#[test]
fn storages_that_are_missing_or_of_another_length_are_refused() {
    let tensor = || view(0, &[12], &[1]);
    assert!(refusal(&file(&[("w", tensor())], &[])).contains("`a/data/0` is missing"));
    for len in [0, 47, 49, 96] {
        let message = refusal(&file(&[("w", tensor())], &[("0", &vec![0; len])]));
        assert!(message.contains("`w`") && message.contains(&format!("has {len} bytes in the file")), "{message}");
    }
    let mut endless = tensor();
    endless.elements = i64::MAX;
    assert!(refusal(&file(&[("w", endless)], &[("0", &twelve())])).contains("9223372036854775807 F32"));
    // A key with `..` does not lead to another entry: it is only a name that no entry has.
    let mut outside = tensor();
    outside.key = "../data.pkl";
    assert!(refusal(&file(&[("w", outside)], &[("0", &twelve())])).contains("is missing"));
}

#[test]
fn what_is_no_archive_of_torch_save_is_named() {
    let tar = [&[b'a'; 257][..], b"ustar\x0000"].concat();
    let cases: [(&[u8], &str); 12] = [
        (b"", "empty"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02", "old format, from before 1.6"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\n <!DOCTYPE HTML><html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02",
            "`torch.save(torch.load(FILE, map_location=\"cpu\", weights_only=True), FILE)`",
        ),
        (b"\x80\x02}.", "bare pickle"),
        (b"\x80\x02}.", "writes it anew: `torch.save("),
        (&tar, "a tar archive"),
        (b"\x10\0\0\0\0\0\0\0{\"w\":{}}", "safetensors"),
        (b"something else", "not a PyTorch file"),
        (b"PK\x03\x04 and no more", "no zip directory"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let zip = |names: &[&str]| {
        let entries: Vec<Made> = names.iter().map(|name| Made::new(name, b"\x80\x02}.")).collect();
        archive(&entries, false)
    };
    assert!(refusal(&zip(&["a/readme"])).contains("no single `data.pkl`"));
    assert!(refusal(&zip(&["a/data.pkl", "b/data.pkl"])).contains("no single `data.pkl`"));
    assert!(refusal(&zip(&["a/data.pkl", "a/code/__torch__.py"])).contains("TorchScript"));
    assert!(refusal(&zip(&["a/data.pkl", "a/constants.pkl"])).contains("TorchScript"));
    assert!(read_it(&zip(&["data.pkl"])).unwrap().header.tensors.is_empty());
    let mut big = vec![Made::new("a/data.pkl", b"\x80\x02}."), Made::new("a/byteorder", b"big")];
    assert!(refusal(&archive(&big, false)).contains("byte order"));
    big[1].data = b"little".to_vec();
    assert!(read_it(&archive(&big, false)).is_ok());
}

#[test]
fn checksums_are_compared() {
    let pickle = state_dict(&[("w", view(0, &[12], &[1]))]);
    let mut entries = vec![Made::new("a/data.pkl", &pickle), Made::new("a/data/0", &twelve())];
    entries[0].crc = Some(1);
    assert!(refusal(&archive(&entries, false)).contains("`a/data.pkl`: its checksum is wrong"));
    entries[0].crc = None;
    for (crc, expected) in [(None, true), (Some(1), false)] {
        entries[1].crc = crc;
        let bytes = archive(&entries, false);
        let torch = read_it(&bytes).unwrap();
        let owned = Bytes::Owned(AlignedBytes::new(&bytes));
        let checked = check_checksums(&owned, &torch, Path::new("m.bin"));
        assert_eq!(checked.is_ok(), expected);
        assert!(checked.is_ok() || checked.unwrap_err().to_string().contains("`a/data/0`: its checksum is wrong"));
    }
}

#[test]
fn a_cut_file_is_refused_and_a_flipped_bit_in_the_weights_is_found() {
    let odd = view(1, &[2, 2], &[6, 2]);
    let good = file(&[("w", view(0, &[3, 4], &[4, 1])), ("odd", odd)], &[("0", &twelve())]);
    assert_eq!(read_it(&good).unwrap().header.tensors.len(), 2);
    for cut in 0..good.len() {
        assert!(read_it(&good[..cut]).is_err(), "cut at {cut}");
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(torch) = read_it(&bytes) else { continue };
        for strided in torch.strided.values() {
            strided.gather(&bytes);
        }
        let owned = Bytes::Owned(AlignedBytes::new(&bytes));
        let whole = check_checksums(&owned, &torch, Path::new("m.bin")).is_ok();
        let ranges = torch.header.tensors.iter().filter(|(name, _)| !torch.strided.contains_key(*name));
        assert!(ranges.clone().all(|(_, entry)| entry.range.end <= bytes.len()));
        // A flipped bit in the weights must be found. One in bytes that nothing reads, such as an entry's time, need not be.
        let in_data = torch.storages.values().any(|(range, _)| range.contains(&(bit / 8)));
        assert!(!in_data || !whole, "bit {bit}");
    }
}

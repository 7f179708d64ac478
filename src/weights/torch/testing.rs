//! Builds archives and pickles for the tests byte by byte: sound ones, and ones with false fields.

/// An entry of an archive. The fields that are `None` are written with their true values.
pub(super) struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// The name in the central directory, if it shall differ from that in the local header.
    pub central_name: Option<String>,
    /// A false unpacked size, in the local header and in the central directory.
    pub size: Option<u32>,
    /// False packed and unpacked sizes, in the local header and in the central directory.
    pub sizes: Option<(u32, u32)>,
    /// A false CRC-32, in the local header and in the central directory.
    pub crc: Option<u32>,
    /// A false CRC-32 and false sizes, in the local header alone.
    pub local_crc: Option<u32>,
    pub local_sizes: Option<(u32, u32)>,
    /// A false place of the local header, in the central directory.
    pub header: Option<u32>,
}

impl Entry {
    pub(super) fn new(name: &str, data: &[u8]) -> Entry {
        Entry {
            name: name.into(),
            data: data.to_vec(),
            method: 0,
            flags: 0,
            central_name: None,
            size: None,
            sizes: None,
            crc: None,
            local_crc: None,
            local_sizes: None,
            header: None,
        }
    }

    fn sizes(&self) -> (u32, u32) {
        let real = self.data.len() as u32;
        self.sizes.unwrap_or((real, self.size.unwrap_or(real)))
    }

    fn crc(&self) -> u32 {
        self.crc.unwrap_or_else(|| crc32fast::hash(&self.data))
    }

    /// The fields that the local header and the central directory's entry have in common, after signature and versions.
    fn fields(&self, crc: u32, sizes: (u32, u32), name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method.to_le_bytes());
        out.extend([0; 4]);
        for value in [crc, sizes.0, sizes.1] {
            out.extend(value.to_le_bytes());
        }
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out
    }
}

/// The bytes of an archive, with 64-bit end records too if `wide`.
pub(super) fn archive(entries: &[Entry], wide: bool) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let header = entry.header.unwrap_or(out.len() as u32);
        out.extend(b"PK\x03\x04\0\0");
        let (crc, sizes) = (entry.local_crc.unwrap_or(entry.crc()), entry.local_sizes.unwrap_or(entry.sizes()));
        out.extend(entry.fields(crc, sizes, &entry.name));
        out.extend(entry.name.as_bytes());
        out.extend(&entry.data);
        let name = entry.central_name.as_ref().unwrap_or(&entry.name);
        directory.extend(b"PK\x01\x02\0\0\0\0");
        directory.extend(entry.fields(entry.crc(), entry.sizes(), name));
        directory.extend([0; 10]);
        directory.extend(header.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (offset, size, count) = (out.len() as u32, directory.len() as u32, entries.len() as u16);
    out.extend(directory);
    if wide {
        let at = out.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([0; 12]);
        for value in [count.into(), count.into(), size.into(), u64::from(offset)] {
            out.extend(value.to_le_bytes());
        }
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend(at.to_le_bytes());
        out.extend([1, 0, 0, 0]);
    }
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    for value in if wide { [u32::MAX; 2] } else { [size, offset] } {
        out.extend(value.to_le_bytes());
    }
    out.extend([0; 2]);
    out
}

/// The opcode that pushes `value`: `BININT1` if one unsigned byte holds it, else `LONG1` with eight bytes.
pub(super) fn int(value: i64) -> Vec<u8> {
    match value {
        0..=0xff => vec![b'K', value as u8],
        _ => [&[0x8a, 8][..], &value.to_le_bytes()].concat(),
    }
}

/// The opcode that pushes a string.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The opcodes that push a tuple of integers.
fn ints(values: &[i64]) -> Vec<u8> {
    let items = values.iter().flat_map(|&value| int(value));
    [b'('].into_iter().chain(items).chain([b't']).collect()
}

/// The facts about a tensor that a pickle states, true or false.
pub(super) struct Tensor<'a> {
    pub class: &'a str,
    pub key: &'a str,
    pub elements: i64,
    pub offset: i64,
    pub shape: &'a [i64],
    pub strides: &'a [i64],
}

impl Tensor<'_> {
    /// The opcodes that push the tensor.
    pub(super) fn opcodes(&self) -> Vec<u8> {
        let class = format!("ctorch\n{}\n", self.class);
        let storage =
            [b"(".to_vec(), text("storage"), class.into_bytes(), text(self.key), text("cpu"), int(self.elements)];
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
            storage.concat(),
            b"tQ".to_vec(),
            int(self.offset),
            ints(self.shape),
            ints(self.strides),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ]
        .concat()
    }
}

/// The pickle of a state dict with these tensors.
pub(super) fn state_dict(tensors: &[(&str, Tensor<'_>)]) -> Vec<u8> {
    let items: Vec<u8> = tensors.iter().flat_map(|(name, tensor)| [text(name), tensor.opcodes()].concat()).collect();
    [&b"\x80\x02ccollections\nOrderedDict\n)R("[..], &items, b"u."].concat()
}

/// A file of `torch.save` with these tensors and, by key, these storages.
pub(super) fn file(tensors: &[(&str, Tensor<'_>)], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries = vec![Entry::new("a/data.pkl", &state_dict(tensors)), Entry::new("a/byteorder", b"little")];
    entries.extend(storages.iter().map(|(key, data)| Entry::new(&format!("a/data/{key}"), data)));
    archive(&entries, false)
}

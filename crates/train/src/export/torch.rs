//! A linear layer's state dict as `torch.save` writes it: an uncompressed zip of a pickle and of the tensors' bytes.
//!
//! FlagEmbedding reads `colbert_linear.pt` and `sparse_linear.pt` by `torch.load`, and expects an ordered dict of `weight` and `bias`.

use half::f16;
use trivec::internal::HeadMap;

/// The content of every file in the archive begins at a multiple of this many bytes, as in torch's archives.
const ALIGNMENT: usize = 64;

/// The bytes of the `.pt` file of a linear layer, with f16 tensors. `name` is the folder inside the archive.
pub(super) fn linear(name: &str, map: &HeadMap) -> Vec<u8> {
    let halves = |values: &[f32]| values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect::<Vec<u8>>();
    let tensors = [("weight", vec![map.outputs, map.inputs]), ("bias", vec![map.outputs])];
    let mut zip = Zip::default();
    zip.add(&format!("{name}/data.pkl"), &pickle(&tensors));
    zip.add(&format!("{name}/byteorder"), b"little");
    zip.add(&format!("{name}/data/0"), &halves(&map.weight));
    zip.add(&format!("{name}/data/1"), &halves(&map.bias));
    zip.add(&format!("{name}/version"), b"3\n");
    zip.finish()
}

/// The pickle, in protocol 2, of `OrderedDict([(name, _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()))])`. The comments name
/// the opcodes as Python's `pickletools` does.
fn pickle(tensors: &[(&str, Vec<usize>)]) -> Vec<u8> {
    let mut out = vec![0x80, 2]; // PROTO 2
    ordered_dict(&mut out);
    out.push(b'('); // MARK
    for (key, (name, shape)) in tensors.iter().enumerate() {
        text(&mut out, name);
        global(&mut out, "torch._utils", "_rebuild_tensor_v2");
        out.extend(b"(("); // MARK MARK
        text(&mut out, "storage");
        global(&mut out, "torch", "HalfStorage");
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        number(&mut out, shape.iter().product());
        out.extend(b"tQ"); // TUPLE BINPERSID
        number(&mut out, 0);
        tuple(&mut out, shape);
        let strides: Vec<usize> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
        tuple(&mut out, &strides);
        out.push(0x89); // NEWFALSE
        ordered_dict(&mut out);
        out.extend(b"tR"); // TUPLE REDUCE
    }
    out.extend(b"u."); // SETITEMS STOP
    out
}

/// Appends the opcodes of an empty `OrderedDict`.
fn ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend(b")R"); // EMPTY_TUPLE REDUCE
}

/// Appends the opcode of a class or a function of a module.
fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").as_bytes());
}

/// Appends the opcode of a string.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X'); // BINUNICODE
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Appends the opcode of an integer.
fn number(out: &mut Vec<u8>, number: usize) {
    out.push(b'J'); // BININT; a head has fewer than 2^31 numbers
    out.extend((number as i32).to_le_bytes());
}

/// Appends the opcodes of a tuple of integers.
fn tuple(out: &mut Vec<u8>, numbers: &[usize]) {
    out.push(b'('); // MARK
    numbers.iter().for_each(|&x| number(out, x));
    out.push(b't'); // TUPLE
}

/// A zip archive that is being built; its files are stored, not compressed.
#[derive(Default)]
struct Zip {
    out: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Zip {
    /// Adds a file whose content begins at a multiple of [`ALIGNMENT`]: as in torch, an extra field of the header fills the gap.
    fn add(&mut self, name: &str, data: &[u8]) {
        let offset = self.out.len() as u32;
        // An extra field begins with four bytes: its kind and its length.
        let header = self.out.len() + 30 + name.len() + 4;
        let padding = header.next_multiple_of(ALIGNMENT) - header;
        let mut fields = vec![0; 8]; // flags, method: stored, time, date
        fields[6..8].copy_from_slice(&0x21u16.to_le_bytes()); // 1980-01-01, the earliest date of a zip
        fields.extend(crc32fast::hash(data).to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        self.out.extend(b"PK\x03\x04\x14\0");
        self.out.extend(&fields);
        self.out.extend((4 + padding as u16).to_le_bytes());
        self.out.extend(name.as_bytes());
        self.out.extend(b"FB");
        self.out.extend((padding as u16).to_le_bytes());
        self.out.resize(self.out.len() + padding, b'Z');
        self.out.extend(data);
        self.directory.extend(b"PK\x01\x02\x14\0\x14\0");
        self.directory.extend(&fields);
        self.directory.extend([0; 12]); // extra, comment, disk, attributes
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries += 1;
    }

    /// Appends the central directory, and returns the bytes of the archive.
    fn finish(mut self) -> Vec<u8> {
        let (offset, size) = (self.out.len() as u32, self.directory.len() as u32);
        self.out.append(&mut self.directory);
        self.out.extend(b"PK\x05\x06\0\0\0\0");
        self.out.extend(self.entries.to_le_bytes());
        self.out.extend(self.entries.to_le_bytes());
        self.out.extend(size.to_le_bytes());
        self.out.extend(offset.to_le_bytes());
        self.out.extend([0; 2]);
        self.out
    }
}

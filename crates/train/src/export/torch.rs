//! A linear layer's state dict as `torch.save` writes it: an uncompressed zip of a pickle and of the tensors' bytes.
//!
//! What FlagEmbedding's `torch.load` reads of `colbert_linear.pt` and `sparse_linear.pt`: an ordered dict of `weight` and `bias`.

use half::f16;
use trivec::internal::HeadMap;

/// Where the bytes of a tensor begin in the archive, as torch has it.
const ALIGNMENT: usize = 64;

/// The archive, with f16 tensors; its folder is called `name`.
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

/// Protocol 2: `OrderedDict([(name, _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()))])`. The opcodes' names are those of
/// Python's `pickletools`.
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

fn ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend(b")R"); // EMPTY_TUPLE REDUCE
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").as_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X'); // BINUNICODE
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn number(out: &mut Vec<u8>, number: usize) {
    out.push(b'J'); // BININT; a head has fewer than 2^31 numbers
    out.extend((number as i32).to_le_bytes());
}

fn tuple(out: &mut Vec<u8>, numbers: &[usize]) {
    out.push(b'('); // MARK
    numbers.iter().for_each(|&x| number(out, x));
    out.push(b't'); // TUPLE
}

/// A zip archive in the making: nothing is compressed.
#[derive(Default)]
struct Zip {
    out: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Zip {
    /// Adds a file whose bytes begin at a multiple of 64: torch fills up with an extra field of the header, as here.
    fn add(&mut self, name: &str, data: &[u8]) {
        let offset = self.out.len() as u32;
        // Of an extra field the first four bytes say what it is and how long.
        let header = self.out.len() + 30 + name.len() + 4;
        let padding = header.next_multiple_of(ALIGNMENT) - header;
        let mut fields = vec![0; 8]; // flags, method: stored, time, date
        fields[6..8].copy_from_slice(&0x21u16.to_le_bytes()); // the first day that a date can be
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

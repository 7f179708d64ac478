//! Reads the directory of a zip archive that `torch.save` wrote, and checks it against the file's real length. Entries are stored, never
//! compressed, so their bytes can be used in place.
//!
//! Layout (PKWARE's APPNOTE): for each entry a local header and its bytes; then the central directory, which describes them again; then
//! where that directory is. An entry whose two descriptions disagree is refused.

use std::collections::BTreeMap;
use std::ops::Range;

/// The signatures with which the records begin.
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;

/// The lengths of the records without their parts of variable length.
const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const END64_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;

/// The value of a 32-bit field whose true value is in a 64-bit field elsewhere.
const SEE_64: u64 = 0xffff_ffff;
/// The id of the extra field that holds 64-bit values.
const ZIP64_EXTRA: u16 = 1;
/// Flags of an entry that is encrypted (bit 0), strongly encrypted (6), or has an encrypted directory (13).
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// Flag of an entry whose local header may leave sizes and checksum 0, because a descriptor after the entry's bytes has them.
const HAS_DESCRIPTOR: u16 = 1 << 3;

/// The most entries, and the most bytes of a name: more than any checkpoint has.
const MAX_ENTRIES: u64 = 1 << 20;
const MAX_NAME: usize = 1024;

/// Where an entry's bytes are in the file, and their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub range: Range<usize>,
    pub crc32: u32,
}

/// Entries by name.
pub(super) type Entries = BTreeMap<String, Entry>;

/// Reads little-endian numbers and runs of bytes from a slice, one after another; `None` if the slice is too short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next `N` bytes.
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// The next `len` bytes.
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Where the central directory is and how many entries it has, as the end record says.
struct Directory {
    entries: u64,
    size: u64,
    offset: u64,
    /// Where the end records begin, which is where the directory must end.
    end: u64,
}

/// Reads and checks the directory of `file`.
///
/// # Errors
/// A message that says what is wrong, with the entry's name if it is about one.
pub(super) fn read(file: &[u8]) -> Result<Entries, String> {
    let directory = find_directory(file)?;
    let Directory { entries: count, size, offset, end } = directory;
    if offset.checked_add(size) != Some(end) {
        return Err(format!(
            "its zip directory of {size} bytes at {offset} does not end at {end}, where its end record begins"
        ));
    }
    if count > MAX_ENTRIES || count.saturating_mul(CENTRAL_BYTES as u64) > size {
        return Err(format!("its zip directory of {size} bytes cannot hold {count} entries"));
    }
    // `end` lies in the file, so `offset` and `end` fit a `usize`.
    let mut fields = Fields(&file[offset as usize..end as usize]);
    let mut entries = Entries::new();
    let mut places: Vec<(u64, u64, String)> = Vec::new();
    for index in 0..count {
        let central =
            Central::read(&mut fields).ok_or_else(|| format!("entry {index} of its zip directory is cut"))??;
        let refuse = |what: String| format!("zip entry `{}`: {what}", central.name);
        let start = central.check(file, offset).map_err(refuse)?;
        let range = start as usize..(start + central.size) as usize;
        places.push((central.header, start + central.size, central.name.clone()));
        if entries.insert(central.name.clone(), Entry { range, crc32: central.crc32 }).is_some() {
            return Err(refuse("the name comes twice".into()));
        }
    }
    if !fields.0.is_empty() {
        return Err(format!("its zip directory has {} bytes after its {count} entries", fields.0.len()));
    }
    places.sort();
    for pair in places.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Err(format!("zip entry `{}`: it overlaps `{}`", pair[1].2, pair[0].2));
        }
    }
    Ok(entries)
}

/// Finds the central directory by the end record at the end of the file, or by the 64-bit end record before it if there is one.
fn find_directory(file: &[u8]) -> Result<Directory, String> {
    let missing = || {
        format!(
            "there is no zip directory at its end: the file of {} bytes is cut, or is not of torch.save",
            file.len()
        )
    };
    // The end record is the last thing in the file, but for a comment of up to 65,535 bytes.
    let last = file.len().checked_sub(END_BYTES).ok_or_else(missing)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let at = (first..=last).rev().find(|&at| {
        let comment = u16::from_le_bytes([file[at + 20], file[at + 21]]);
        file[at..].starts_with(&END.to_le_bytes()) && at + END_BYTES + usize::from(comment) == file.len()
    });
    let at = at.ok_or_else(missing)?;
    let end = read_end(&file[at..]).ok_or_else(missing)?;
    let locator = at.checked_sub(LOCATOR_BYTES).filter(|&at| file[at..].starts_with(&END64_LOCATOR.to_le_bytes()));
    let directory = match locator {
        None => Directory { end: at as u64, ..end },
        Some(locator) => {
            let wide = read_end64(file, locator)?;
            let fits = |narrow: u64, limit: u64, wide: u64| narrow == limit || narrow == wide;
            if !fits(end.entries, 0xffff, wide.entries)
                || !fits(end.size, SEE_64, wide.size)
                || !fits(end.offset, SEE_64, wide.offset)
            {
                return Err("its two zip end records, of 32 and of 64 bits, contradict each other".into());
            }
            wide
        }
    };
    Ok(directory)
}

/// Reads the end record, but leaves [`Directory::end`] at 0; `None` if it is cut or the archive is spread over several disks.
fn read_end(record: &[u8]) -> Option<Directory> {
    let mut fields = Fields(record);
    fields.u32()?;
    let (disk, directory_disk) = (fields.u16()?, fields.u16()?);
    let (here, entries) = (fields.u16()?, fields.u16()?);
    let (size, offset) = (fields.u32()?, fields.u32()?);
    let one_disk = [disk, directory_disk].iter().all(|&disk| disk == 0 || disk == 0xffff) && here == entries;
    one_disk.then_some(Directory { entries: entries.into(), size: size.into(), offset: offset.into(), end: 0 })
}

/// Reads the 64-bit end record by its locator, which is at `locator`.
fn read_end64(file: &[u8], locator: usize) -> Result<Directory, String> {
    let damaged = || "its 64-bit zip end record is damaged".to_owned();
    let mut fields = Fields(&file[locator + 8..]);
    let at = fields.u64().ok_or_else(damaged)?;
    // The record must end where its locator begins. The format allows a longer record, but no program writes one.
    if at.checked_add(END64_BYTES as u64) != Some(locator as u64) {
        return Err(damaged());
    }
    let mut fields = Fields(&file[at as usize..locator]);
    let mut read = || {
        let (signature, size) = (fields.u32()?, fields.u64()?);
        fields.u32()?; // versions
        let (disk, directory_disk) = (fields.u32()?, fields.u32()?);
        let (here, entries) = (fields.u64()?, fields.u64()?);
        let (length, offset) = (fields.u64()?, fields.u64()?);
        let sound = signature == END64 && size == END64_BYTES as u64 - 12 && disk == 0 && directory_disk == 0;
        (sound && here == entries).then_some(Directory { entries, size: length, offset, end: at })
    };
    read().ok_or_else(damaged)
}

/// An entry as the central directory describes it.
struct Central {
    name: String,
    flags: u16,
    method: u16,
    crc32: u32,
    packed_size: u64,
    size: u64,
    /// Where the entry's local header is.
    header: u64,
}

impl Central {
    /// Reads the next entry of the central directory; `None` if the directory ends within it.
    fn read(fields: &mut Fields<'_>) -> Option<Result<Central, String>> {
        if fields.u32()? != CENTRAL {
            return Some(Err("its zip directory has an entry without signature".into()));
        }
        fields.u32()?; // versions
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.u32()?; // time
        let crc32 = fields.u32()?;
        let (packed_size, size) = (fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let disk = fields.u16()?;
        fields.bytes(6)?; // attributes
        let header = fields.u32()?;
        let name = match check_name(fields.bytes(name.into())?) {
            Ok(name) => name.to_owned(),
            Err(what) => return Some(Err(what)),
        };
        let extra = fields.bytes(extra.into())?;
        fields.bytes(comment.into())?;
        let mut central = Central {
            name,
            flags,
            method,
            crc32,
            packed_size: packed_size.into(),
            size: size.into(),
            header: header.into(),
        };
        if central.widen(extra).is_none() || !(disk == 0 || disk == 0xffff) {
            return Some(Err(format!("zip entry `{}`: its 64-bit sizes are damaged", central.name)));
        }
        Some(Ok(central))
    }

    /// Replaces each field that is [`SEE_64`] by its 64-bit value in the extra field; `None` if that is missing or too short.
    fn widen(&mut self, extra: &[u8]) -> Option<()> {
        if [self.size, self.packed_size, self.header].iter().all(|&value| value != SEE_64) {
            return Some(());
        }
        let mut wide = Fields(find_extra(extra, ZIP64_EXTRA)?);
        for value in [&mut self.size, &mut self.packed_size, &mut self.header] {
            if *value == SEE_64 {
                *value = wide.u64()?;
            }
        }
        Some(())
    }

    /// Checks that the entry is plain and stored, that its local header says the same, and that both it and the entry's bytes end before
    /// `directory`, where the central directory begins. Returns where the entry's bytes begin.
    fn check(&self, file: &[u8], directory: u64) -> Result<u64, String> {
        if self.flags & ENCRYPTED != 0 {
            return Err("it is encrypted".into());
        }
        if self.method != 0 {
            if self.name.split('/').any(|part| part == "code") {
                return Err(
                    "it is the code of a TorchScript program: save the model's state_dict() with torch.save instead"
                        .into(),
                );
            }
            let how = if self.method == 8 { "deflated".into() } else { format!("compressed (method {})", self.method) };
            return Err(format!("it is {how}: torch.save stores, it does not compress"));
        }
        if self.packed_size != self.size {
            return Err(format!("it is stored, but its two sizes are {} and {}", self.packed_size, self.size));
        }
        let beyond =
            || format!("its {} bytes after {} lie beyond the zip directory at {directory}", self.size, self.header);
        let fixed_end = self.header.checked_add(LOCAL_BYTES).filter(|&end| end <= directory).ok_or_else(beyond)?;
        let mut fields = Fields(&file[self.header as usize..directory as usize]);
        let local = Local::read(&mut fields).ok_or("its local header is not one")?;
        let start = fixed_end + u64::from(local.name_bytes) + u64::from(local.extra_bytes);
        let end = start.checked_add(self.size).filter(|&end| end <= directory).ok_or_else(beyond)?;
        if fields.bytes(local.name_bytes.into()) != Some(self.name.as_bytes()) {
            return Err("its local header has another name".into());
        }
        let later = self.flags & HAS_DESCRIPTOR != 0;
        let same = |local: u64, central: u64| local == central || local == SEE_64 || (later && local == 0);
        if (local.flags, local.method) != (self.flags, self.method)
            || !(local.crc32 == self.crc32 || (later && local.crc32 == 0))
            || !same(local.packed_size.into(), self.packed_size)
            || !same(local.size.into(), self.size)
        {
            return Err("its local header contradicts the zip directory".into());
        }
        if later && !self.has_descriptor(&file[end as usize..directory as usize]) {
            return Err("the descriptor after its bytes contradicts the zip directory".into());
        }
        Ok(start)
    }

    /// Whether `rest` begins with a descriptor, with sizes of 32 or 64 bits, that says what the central directory says.
    fn has_descriptor(&self, rest: &[u8]) -> bool {
        let mut fields = Fields(rest);
        if fields.u32() != Some(DESCRIPTOR) || fields.u32() != Some(self.crc32) {
            return false;
        }
        let mut wide = Fields(fields.0);
        let narrow = [fields.u32(), fields.u32()].map(|size| size.map(u64::from));
        [narrow, [wide.u64(), wide.u64()]].contains(&[Some(self.packed_size), Some(self.size)])
    }
}

/// A local header, without its name and extra field, which follow it.
struct Local {
    flags: u16,
    method: u16,
    crc32: u32,
    packed_size: u32,
    size: u32,
    name_bytes: u16,
    extra_bytes: u16,
}

impl Local {
    /// Reads the header's fields before the name; `None` if they are cut or have another signature.
    fn read(fields: &mut Fields<'_>) -> Option<Local> {
        let signature = fields.u32()?;
        fields.u16()?; // version
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.u32()?; // time
        let crc32 = fields.u32()?;
        let (packed_size, size) = (fields.u32()?, fields.u32()?);
        let (name_bytes, extra_bytes) = (fields.u16()?, fields.u16()?);
        let local = Local { flags, method, crc32, packed_size, size, name_bytes, extra_bytes };
        (signature == LOCAL).then_some(local)
    }
}

/// An entry's name as text; an error unless it is a plain relative path, without `..`, empty parts or the characters of other systems.
fn check_name(name: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(name).map_err(|_| "its zip directory has a name that is not UTF-8".to_owned())?;
    let sound = (1..=MAX_NAME).contains(&name.len())
        && !text.contains(['\\', ':', '\0'])
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if sound {
        Ok(text)
    } else {
        Err(format!("zip entry `{}`: the name is not a plain relative path", text.escape_debug()))
    }
}

/// The content of the extra field with the id `wanted`; `None` if there is none.
fn find_extra(extra: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut fields = Fields(extra);
    loop {
        let (id, len) = (fields.u16()?, fields.u16()?);
        let bytes = fields.bytes(len.into())?;
        if id == wanted {
            return Some(bytes);
        }
    }
}

#[cfg(test)]
mod tests;

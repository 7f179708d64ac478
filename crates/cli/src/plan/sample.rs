//! Takes a sample of a corpus. Files whose records are lines are read in blocks from all over them, so that a large corpus need not be read.
//! Other inputs, and standard input, are read to their end, and every n-th record is sampled.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use trivec::corpus::Whole;

use super::super::args::{InputArgs, InputFormat};
use super::super::exit::{Failure, Result};
use super::super::input::{self, Content, Reading, Record, Records};

/// How many blocks are read of the files whose records are lines.
const BLOCKS: u64 = 64;
/// The sample of an input that is read whole may have at least this many bytes, however many inputs share the budget.
const LEAST_KEPT: u64 = 1 << 16;
/// How many bytes are read at a time to find the beginning of a line.
const STEP: usize = 1 << 12;

/// Records that were read together.
pub(super) struct Part {
    /// The files that the records are of, in order: what errors call each, and how many of the records are of it or of one before it.
    files: Vec<(String, usize)>,
    /// Bytes that the records take in their file; 0 if the size of the whole is known in records.
    pub bytes: u64,
    pub records: Vec<Record>,
}

impl Part {
    /// The file and the line of the record at `index`, for errors.
    pub(super) fn place(&self, index: usize) -> String {
        let file = self.files.iter().find(|(_, end)| index < *end).map_or("", |(name, _)| name);
        format!("{file}: line {}", self.records.get(index).map_or(0, |record| record.line))
    }
}

/// Parts that were sampled evenly from a whole, and the size of that whole.
pub(super) struct Stratum {
    pub parts: Vec<Part>,
    pub whole: Whole,
}

/// Samples the inputs: about `budget` bytes of all files whose records are lines, and as many of all other inputs.
pub(super) fn take(inputs: &[PathBuf], form: &InputArgs, budget: u64) -> Result<Vec<Stratum>> {
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    for path in inputs {
        match line_file(path, form)? {
            Some(file) => lines.push(file),
            None => others.push(path),
        }
    }
    let mut strata = Vec::new();
    if lines.iter().any(|file| file.length > 0) {
        strata.push(blocks(&lines, form, budget)?);
    }
    let share = (budget / others.len().max(1) as u64).max(LEAST_KEPT);
    for path in others {
        strata.extend(thinned(path, form, share)?);
    }
    match strata.iter().any(|stratum| stratum.parts.iter().any(|part| !part.records.is_empty())) {
        true => Ok(strata),
        false => Err(Failure::input(format!("{}: no record in it", name_of(inputs)))),
    }
}

/// What an error about all inputs calls them.
fn name_of(inputs: &[PathBuf]) -> String {
    match inputs {
        [one] if one.as_os_str() == "-" => "standard input".to_owned(),
        [one] => one.display().to_string(),
        many => format!("{} and {} more", many[0].display(), many.len() - 1),
    }
}

/// A file whose records are lines, so that it may be read from any line on.
struct LineFile<'a> {
    path: &'a Path,
    length: u64,
    /// Lines or JSONL.
    format: InputFormat,
}

/// Looks whether the records of an input are lines of a file; `None` if they are not.
fn line_file<'a>(path: &'a Path, form: &InputArgs) -> Result<Option<LineFile<'a>>> {
    // An input that is no file can be read only once.
    if path.as_os_str() == "-"
        || std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
    {
        return Ok(None);
    }
    let mut opened = input::open(path)?;
    let Some(length) = opened.length else { return Ok(None) };
    let beginning = opened.reader.fill_buf().map_err(|e| Failure::io_path(path, &e))?;
    // In UTF-16 and UTF-32, the end of a line is no single byte.
    if beginning.starts_with(b"\xff\xfe")
        || beginning.starts_with(b"\xfe\xff")
        || beginning.starts_with(b"\0\0\xfe\xff")
    {
        return Ok(None);
    }
    let records = Records::new(opened.reader, opened.name, form.reading(Some(path)))?;
    Ok(records.line_format().map(|format| LineFile { path, length, format }))
}

/// Reads blocks of lines. The bytes of all files are divided into [`BLOCKS`] equal shares, and a block lies at a pseudorandom place in each.
/// If all files together have no more than `budget` bytes, they are read whole.
fn blocks(files: &[LineFile<'_>], form: &InputArgs, budget: u64) -> Result<Stratum> {
    let total: u64 = files.iter().map(|file| file.length).sum();
    let length = (budget / BLOCKS).max(1);
    let ranges: Vec<(u64, u64)> = if total <= budget {
        vec![(0, total)]
    } else {
        let share = |block: u64| (total as u128 * u128::from(block) / u128::from(BLOCKS)) as u64;
        let place = |block| {
            let (from, to) = (share(block), share(block + 1));
            let from = from + scattered(block) % (to - from).saturating_sub(length).max(1);
            (from, (from + length).min(to))
        };
        (0..BLOCKS).map(place).collect()
    };
    let mut parts = Vec::new();
    for (from, to) in ranges {
        let mut part = Part { files: Vec::new(), bytes: 0, records: Vec::new() };
        let mut begin = 0;
        for file in files {
            let end = begin + file.length;
            if from < end && to > begin {
                read_lines(file, from.max(begin) - begin, to.min(end) - begin, form, &mut part)?;
            }
            begin = end;
        }
        parts.push(part);
    }
    if parts.iter().all(|part| part.records.is_empty()) && total > budget {
        // No line began in any block, because the lines are long: larger blocks find some.
        return blocks(files, form, budget.saturating_mul(16));
    }
    Ok(Stratum { parts, whole: Whole::Bytes(total) })
}

/// A pseudorandom number for a block, the same in every run (SplitMix64).
fn scattered(block: u64) -> u64 {
    let mut x = block.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Adds the records of the lines that begin in a range of a file's bytes to `part`.
fn read_lines(file: &LineFile<'_>, from: u64, to: u64, form: &InputArgs, part: &mut Part) -> Result<()> {
    let failed = |e: std::io::Error| Failure::io_path(file.path, &e);
    let mut opened = File::open(file.path).map_err(failed)?;
    let begin = line_start(&mut opened, from, file.length).map_err(failed)?;
    let end = line_start(&mut opened, to, file.length).map_err(failed)?;
    if begin >= end {
        return Ok(());
    }
    opened.seek(SeekFrom::Start(begin)).map_err(failed)?;
    let name = match begin {
        0 => file.path.display().to_string(),
        _ => format!("{}, from byte {begin}", file.path.display()),
    };
    let reading = Reading { format: file.format, ..form.reading(Some(file.path)) };
    let mut records = Records::new(BufReader::new(opened.take(end - begin)), name, reading)?;
    part.bytes += end - begin;
    while let Some(record) = records.next()? {
        part.records.push(record);
    }
    part.files.push((records.name().to_owned(), part.records.len()));
    Ok(())
}

/// The first byte at `at` or after it that begins a line, or the file's end. LF, CR LF and CR end lines.
fn line_start(file: &mut File, at: u64, length: u64) -> std::io::Result<u64> {
    if at == 0 || at >= length {
        return Ok(at.min(length));
    }
    // Reading begins at the byte before, which may have ended a line.
    let mut place = at - 1;
    file.seek(SeekFrom::Start(place))?;
    let mut before = 0;
    let mut buffer = [0; STEP];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        for &byte in &buffer[..read] {
            if before == b'\n' || (before == b'\r' && byte != b'\n') {
                return Ok(place);
            }
            before = byte;
            place += 1;
        }
    }
}

/// Reads an input to its end and keeps every n-th record, where n is a power of two with which they have no more bytes than `budget` (a
/// single record may have more). `None` if there is no record.
fn thinned(path: &Path, form: &InputArgs, budget: u64) -> Result<Option<Stratum>> {
    let opened = input::open(path)?;
    let mut records = Records::new(opened.reader, opened.name, form.reading(Some(path)))?;
    let (mut kept, mut bytes, mut every, mut count) = (Vec::new(), 0, 1, 0u64);
    while let Some(record) = records.next()? {
        if count.is_multiple_of(every) {
            bytes += size(&record);
            kept.push(record);
        }
        count += 1;
        while bytes > budget && kept.len() > 1 {
            let mut place = 0u64;
            kept.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            bytes = kept.iter().map(size).sum();
            every *= 2;
        }
    }
    let name = records.name().to_owned();
    let part = |record| Part { files: vec![(name.clone(), 1)], bytes: 0, records: vec![record] };
    Ok((count > 0).then(|| Stratum { parts: kept.into_iter().map(part).collect(), whole: Whole::Records(count) }))
}

/// Bytes of a record's text or token ids.
fn size(record: &Record) -> u64 {
    match &record.content {
        Content::Text(text) => text.len() as u64,
        Content::Ids(ids) => ids.len() as u64 * 4,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn form() -> InputArgs {
        InputArgs { input_format: InputFormat::Auto, column: None, lossy: false }
    }

    fn file(content: &[u8], suffix: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn text(record: &Record) -> &str {
        match &record.content {
            Content::Text(text) => text,
            Content::Ids(_) => "ids",
        }
    }

    fn texts(stratum: &Stratum) -> Vec<&str> {
        stratum.parts.iter().flat_map(|part| &part.records).map(text).collect()
    }

    #[test]
    fn the_next_line_is_found_from_any_byte() {
        let mut file = file(b"ab\ncd\r\nef\rgh\n\nij", "").reopen().unwrap();
        let starts: Vec<u64> = (0..18).map(|at| line_start(&mut file, at, 16).unwrap()).collect();
        assert_eq!(starts, [0, 3, 3, 3, 7, 7, 7, 7, 10, 10, 10, 13, 13, 13, 14, 16, 16, 16]);
        let long = [&b"x".repeat(3 * STEP)[..], b"\ny"].concat();
        let mut file = self::file(&long, "").reopen().unwrap();
        assert_eq!(line_start(&mut file, 5, long.len() as u64).unwrap(), 3 * STEP as u64 + 1);
    }

    /// Wherever a corpus is cut, its blocks have every line once.
    #[test]
    fn ranges_that_follow_each_other_have_every_line_once() {
        let content = b"one\r\ntwo\rthree\n\nfive\r\n";
        let file = file(content, ".txt");
        let lines = line_file(file.path(), &form()).unwrap().unwrap();
        for step in 1..=content.len() as u64 {
            let mut part = Part { files: Vec::new(), bytes: 0, records: Vec::new() };
            for from in (0..lines.length).step_by(step as usize) {
                read_lines(&lines, from, (from + step).min(lines.length), &form(), &mut part).unwrap();
            }
            assert_eq!(part.bytes, lines.length, "{step}");
            let stratum = Stratum { parts: vec![part], whole: Whole::Bytes(0) };
            assert_eq!(texts(&stratum), ["one", "two", "three", "", "five"], "{step}");
        }
    }

    #[test]
    fn a_small_corpus_is_read_whole_and_of_a_large_one_lines_from_all_over() {
        let content: String = (0..10_000).map(|i| format!("line {i}\n")).collect();
        let halves = content.split_at(content.find("line 4000").unwrap());
        let files = [file(halves.0.as_bytes(), ".txt"), file(halves.1.as_bytes(), ".txt")];
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path().to_owned()).collect();
        let [all] = &take(&paths, &form(), 1 << 20).unwrap()[..] else { panic!("one stratum") };
        assert_eq!(texts(all), content.lines().collect::<Vec<_>>());
        // Errors name the file of each record, and its line there.
        let [part] = &all.parts[..] else { panic!("one part") };
        let place = |file: usize, line: usize| format!("{}: line {line}", paths[file].display());
        for (index, file, line) in [(0, 0, 1), (3999, 0, 4000), (4000, 1, 1), (9999, 1, 6000)] {
            assert_eq!(part.place(index), place(file, line));
        }
        let [some] = &take(&paths, &form(), 6400).unwrap()[..] else { panic!("one stratum") };
        assert_eq!(some.whole, Whole::Bytes(content.len() as u64));
        let numbers: Vec<u32> = texts(some).iter().map(|text| text[5..].parse().unwrap()).collect();
        assert!(numbers.is_sorted() && (400..1000).contains(&numbers.len()), "{}", numbers.len());
        for eighth in 0..8 {
            assert!(numbers.iter().any(|number| number / 1250 == eighth), "none of eighth {eighth}");
        }
        let bytes: u64 = some.parts.iter().map(|part| part.bytes).sum();
        assert_eq!(bytes, texts(some).iter().map(|text| text.len() as u64 + 1).sum::<u64>());
    }

    /// If no line begins in any block, the blocks grow until some line does.
    #[test]
    fn a_line_behind_one_much_longer_than_the_blocks_is_found() {
        let content = format!("{}\nend\n", "x".repeat(100_000));
        let file = file(content.as_bytes(), ".txt");
        let strata = take(&[file.path().to_owned()], &form(), 640).unwrap();
        assert!(texts(&strata[0]).contains(&"end"));
    }

    #[test]
    fn other_forms_are_thinned_evenly() {
        let rows: String = (0..1000).map(|i| format!("{i},text {i}\n")).collect();
        let csv = file(format!("id,text\n{rows}").as_bytes(), ".csv");
        let stratum = thinned(csv.path(), &form(), 1500).unwrap().unwrap();
        assert_eq!(stratum.whole, Whole::Records(1000));
        let numbers: Vec<usize> = texts(&stratum).iter().map(|text| text[5..].parse().unwrap()).collect();
        let every = numbers[1];
        assert!(every.is_power_of_two() && every > 1);
        assert_eq!(numbers, (0..1000).step_by(every).collect::<Vec<_>>());
        let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain("a\nb".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let wide = file(&wide, ".txt");
        assert!(line_file(wide.path(), &form()).unwrap().is_none());
        assert_eq!(texts(&thinned(wide.path(), &form(), 1500).unwrap().unwrap()), ["a", "b"]);
    }

    #[test]
    fn an_input_without_records_is_refused_by_its_name() {
        let (empty, csv) = (file(b"", ".txt"), file(b"id,text\n", ".csv"));
        for paths in [vec![empty.path().to_owned()], vec![csv.path().to_owned()]] {
            let said = take(&paths, &form(), 100).err().unwrap().to_string();
            assert!(said.contains(paths[0].to_str().unwrap()) && said.contains("no record"), "{said}");
        }
    }
}

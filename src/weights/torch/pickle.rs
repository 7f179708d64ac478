//! Reads the pickle inside a `torch.save` archive as data. A pickle is a program for a small stack machine; this reader only implements the
//! opcodes that dictionaries of tensors need. The names that it may refer to are listed in `globals.rs`; those that can be called only
//! describe a tensor or a container. Any other opcode or name is refused with an error that names it, before it has an effect.
//!
//! The opcodes are those that `torch.save` writes with protocols 2 to 5 for a `state_dict`, its `_metadata` attribute included (a
//! `BUILD` on the dictionary, whose content is read and dropped). A state dict may lie in a training script's checkpoint
//! (`{"state_dict": …, "epoch": 3}`): `choose.rs` finds it.
//!
//! Values are small copies. A tuple or a dictionary is an index into a vector of them, and the items of a list are dropped. So no
//! step of the machine descends into nested values, and a value that contains itself is only an index that comes twice. (Afterwards
//! `choose.rs` follows dictionaries to a fixed depth.)

mod choose;
mod globals;
mod values;

use std::collections::{BTreeMap, HashMap};

use values::{Global, Value};
pub(super) use values::{Storage, Tensor};

/// The most bytes of a pickle; that of BGE-M3 has about 60,000. Memory stays in proportion to the bytes, because each opcode makes one
/// value at most.
const MAX_BYTES: usize = 4 << 20;
/// The most values on the stack; also the most in the memo, and the most tuples, dictionaries and storages.
const MAX_VALUES: usize = 1 << 19;
/// The most tensors.
const MAX_TENSORS: usize = 1 << 17;
/// The most marks that are open at a time, which limits how deep values are nested.
const MAX_DEPTH: usize = 64;
/// The most bytes of a string; a line with a part of a global's name is limited to as many, its line feed included.
const MAX_TEXT: usize = 4096;
/// The most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Reads the tensors of a state dict, by name.
///
/// # Errors
/// A message that says what is wrong or refused.
pub(super) fn read(pickle: &[u8]) -> Result<BTreeMap<String, Tensor<'_>>, String> {
    if pickle.len() > MAX_BYTES {
        return Err(format!("the pickle has {} bytes, expected at most {MAX_BYTES}", pickle.len()));
    }
    let mut machine = Machine { pickle, ..Machine::default() };
    let result = loop {
        let at = machine.at;
        let step = machine.step().map_err(|what| format!("the pickle, at byte {at}: {what}"))?;
        if let Some(value) = step {
            break value;
        }
    };
    machine.state_dict(result)
}

/// The entries of a dictionary that can matter: tensors and dictionaries under names. Other entries are only counted.
#[derive(Debug, Default)]
struct Dict<'a> {
    /// Tensors by name, as indices into [`Machine::tensors`].
    tensors: Vec<(&'a str, usize)>,
    /// Dictionaries by name, as indices into [`Machine::dicts`].
    dicts: Vec<(&'a str, usize)>,
    /// The number of entries whose value is not a tensor, the dictionaries included.
    others: usize,
    /// Set if a tensor has a key that is not a string: what the key is instead, for the error.
    odd_key: Option<&'static str>,
    /// Whether one of those `others` has the key `_metadata`: see [`Machine::build`].
    is_metadata: bool,
}

impl Dict<'_> {
    fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.others == 0 && self.odd_key.is_none()
    }

    /// Whether the only entry is `_metadata`, which is no tensor.
    fn is_only_metadata(&self) -> bool {
        self.is_metadata && self.others == 1 && self.tensors.is_empty()
    }
}

/// The state of the stack machine: what it has read so far, and all values that it has made.
#[derive(Default)]
struct Machine<'a> {
    pickle: &'a [u8],
    /// Where the next opcode or argument begins.
    at: usize,
    stack: Vec<Value<'a>>,
    /// The height of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Dict<'a>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<Tensor<'a>>,
}

/// The result of a step, with an error message that says what is wrong.
type Step<T> = Result<T, String>;

/// An error unless `len`, the number of `what` so far, is below the limit `most`.
fn room(len: usize, most: usize, what: &str) -> Step<()> {
    if len < most { Ok(()) } else { Err(format!("more than {most} {what}")) }
}

impl<'a> Machine<'a> {
    /// Executes the next opcode. Returns the pickle's value if that opcode is `STOP`, else `None`.
    fn step(&mut self) -> Step<Option<Value<'a>>> {
        let [opcode] = self.take()?;
        match opcode {
            0x80 => self.protocol()?,
            0x95 => self.frame()?,
            b'(' => self.mark()?,
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool)?,
            b'J' => self.int(|machine| Ok(i32::from_le_bytes(machine.take()?).into()))?,
            b'K' => self.int(|machine| Ok(u8::from_le_bytes(machine.take()?).into()))?,
            b'M' => self.int(|machine| Ok(u16::from_le_bytes(machine.take()?).into()))?,
            0x8a => self.long()?,
            b'G' => self.take::<8>().and_then(|_| self.push(Value::Float))?,
            b'X' => self.text(|machine| Ok(u32::from_le_bytes(machine.take()?).into()))?,
            0x8c => self.text(|machine| Ok(u8::from_le_bytes(machine.take()?).into()))?,
            0x8d => self.text(|machine| Ok(u64::from_le_bytes(machine.take()?)))?,
            b'q' => self.take::<1>().and_then(|[key]| self.put(key.into()))?,
            b'r' => self.take().and_then(|key| self.put(u32::from_le_bytes(key)))?,
            0x94 => self.put(self.memo.len() as u32)?,
            b'h' => self.take::<1>().and_then(|[key]| self.get(key.into()))?,
            b'j' => self.take().and_then(|key| self.get(u32::from_le_bytes(key)))?,
            b')' => self.tuple(0)?,
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
            b't' => self.pop_to_mark().and_then(|items| self.push_tuple(items))?,
            b']' => self.push(Value::List)?,
            b'a' => self.append()?,
            b'e' => self.pop_to_mark().and_then(|_| self.expect_list())?,
            b'}' => self.push_dict()?,
            b's' => self.set_item()?,
            b'u' => self.set_items()?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            b'.' => return self.stop().map(Some),
            other => return Err(format!("the opcode {} is not needed for weights and is refused", opcode_name(other))),
        }
        Ok(None)
    }

    /// The next `N` bytes.
    fn take<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.pickle[self.at..].first_chunk::<N>().ok_or("it is cut")?;
        self.at += N;
        Ok(*bytes)
    }

    /// The next `len` bytes.
    fn bytes(&mut self, len: u64) -> Step<&'a [u8]> {
        let rest = &self.pickle[self.at..];
        let bytes = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or("it is cut")?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn push(&mut self, value: Value<'a>) -> Step<()> {
        room(self.stack.len(), MAX_VALUES, "values on the stack")?;
        self.stack.push(value);
        Ok(())
    }

    /// Removes and returns the top value; an error if there is none above the last mark.
    fn pop(&mut self) -> Step<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    /// A copy of the top value; an error if there is none above the last mark.
    fn top(&self) -> Step<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(|values| values.last()).copied().ok_or_else(|| "the stack is empty".into())
    }

    fn mark(&mut self) -> Step<()> {
        if self.marks.len() >= MAX_DEPTH {
            return Err(format!("values are nested deeper than {MAX_DEPTH}"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Removes the last mark and all values above it, and returns these values.
    fn pop_to_mark(&mut self) -> Step<Vec<Value<'a>>> {
        let height = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(height))
    }

    /// `PROTO`: checks the version, and that this is the first opcode.
    fn protocol(&mut self) -> Step<()> {
        let [version] = self.take()?;
        if self.at != 2 || !(2..=5).contains(&version) {
            return Err(format!("protocol {version} here, expected 2 to 5 at the start"));
        }
        Ok(())
    }

    /// `FRAME`: only checks that the frame is not cut; its opcodes are executed like any others.
    fn frame(&mut self) -> Step<()> {
        let len = u64::from_le_bytes(self.take()?);
        if len > (self.pickle.len() - self.at) as u64 {
            return Err(format!("a frame of {len} bytes is cut"));
        }
        Ok(())
    }

    /// Pushes the integer that `read` reads.
    fn int(&mut self, read: impl FnOnce(&mut Self) -> Step<i64>) -> Step<()> {
        let value = read(self)?;
        self.push(Value::Int(value))
    }

    /// `LONG1`: a little-endian two's complement integer. No number of a tensor has more than 8 bytes, so the value of a longer one is
    /// dropped.
    fn long(&mut self) -> Step<()> {
        let [len] = self.take()?;
        let bytes = self.bytes(len.into())?;
        if len > 8 {
            return self.push(Value::Plain);
        }
        let mut wide = [if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    /// Pushes a string, whose length `read` reads first.
    fn text(&mut self, read: impl FnOnce(&mut Self) -> Step<u64>) -> Step<()> {
        let len = read(self)?;
        if len > MAX_TEXT as u64 {
            return Err(format!("a string of {len} bytes, expected at most {MAX_TEXT}"));
        }
        let text = std::str::from_utf8(self.bytes(len)?).map_err(|_| "a string is not UTF-8")?;
        self.push(Value::Text(text))
    }

    /// Stores the top value in the memo.
    fn put(&mut self, key: u32) -> Step<()> {
        let value = self.top()?;
        room(self.memo.len(), MAX_VALUES, "values in the memo")?;
        self.memo.insert(key, value);
        Ok(())
    }

    /// Pushes the value that the memo has under `key`.
    fn get(&mut self, key: u32) -> Step<()> {
        let value = *self.memo.get(&key).ok_or_else(|| format!("there is nothing in the memo at {key}"))?;
        self.push(value)
    }

    /// Replaces the top `len` values by a tuple of them.
    fn tuple(&mut self, len: usize) -> Step<()> {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push_tuple(items)
    }

    fn push_tuple(&mut self, items: Vec<Value<'a>>) -> Step<()> {
        room(self.tuples.len(), MAX_VALUES, "tuples")?;
        self.tuples.push(items);
        self.push(Value::Tuple(self.tuples.len() - 1))
    }

    fn push_dict(&mut self) -> Step<()> {
        room(self.dicts.len(), MAX_VALUES, "dicts")?;
        self.dicts.push(Dict::default());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    /// An error unless the top value is a list. Items that are appended to it have been removed from the stack, and are dropped.
    fn expect_list(&self) -> Step<()> {
        match self.top()? {
            Value::List => Ok(()),
            other => Err(format!("an item is appended to {}", other.kind())),
        }
    }

    /// `APPEND`: removes an item, which is dropped, from above a list.
    fn append(&mut self) -> Step<()> {
        self.pop()?;
        self.expect_list()
    }

    /// `SETITEM`: moves a key and a value into the dictionary below them.
    fn set_item(&mut self) -> Step<()> {
        let value = self.pop()?;
        let key = self.pop()?;
        self.insert(key, value)
    }

    /// `SETITEMS`: moves all keys and values above the last mark into the dictionary below it.
    fn set_items(&mut self) -> Step<()> {
        let items = self.pop_to_mark()?;
        if items.len() % 2 != 0 {
            return Err("a key without a value".into());
        }
        items.chunks_exact(2).try_for_each(|pair| self.insert(pair[0], pair[1]))
    }

    /// Adds an entry to the dictionary on top of the stack.
    fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> Step<()> {
        let Value::Dict(dict) = self.top()? else {
            return Err(format!("an entry is put into {}", self.top()?.kind()));
        };
        let dict = &mut self.dicts[dict];
        match (key, value) {
            (Value::Text(name), Value::Tensor(tensor)) => dict.tensors.push((name, tensor)),
            (Value::Text(name), value) => {
                dict.others += 1;
                dict.is_metadata |= name == "_metadata";
                if let Value::Dict(inner) = value {
                    dict.dicts.push((name, inner));
                }
            }
            // An optimizer's state has numbers as keys. It is refused only if this dictionary turns out to be the one with the weights.
            (key, Value::Tensor(_)) => dict.odd_key = Some(key.kind()),
            _ => dict.others += 1,
        }
        Ok(())
    }

    /// The text up to the next line feed, which is read too.
    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.pickle[self.at..];
        let end = rest.iter().take(MAX_TEXT).position(|&byte| byte == b'\n');
        let line = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok()).ok_or("a global's name is damaged")?;
        self.at += line.len() + 1;
        Ok(line)
    }

    /// `GLOBAL`: pushes the global whose module and name are the next two lines.
    fn global(&mut self) -> Step<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.push_global(module, name)
    }

    /// `STACK_GLOBAL`: replaces two strings, a module and a name, by that global.
    fn stack_global(&mut self) -> Step<()> {
        match (self.pop()?, self.pop()?) {
            (Value::Text(name), Value::Text(module)) => self.push_global(module, name),
            _ => Err("a global's name is no string".into()),
        }
    }

    /// `BUILD`, which sets the state of an object. Only a dictionary's state `{"_metadata": …}` is accepted, as state dicts have it; it is
    /// dropped.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let target = self.top()?;
        match (target, state) {
            (Value::Dict(target), Value::Dict(state)) if target != state && self.dicts[state].is_only_metadata() => {
                Ok(())
            }
            _ => Err(format!("BUILD sets the state of {}: only a state_dict's `_metadata` is known", target.kind())),
        }
    }

    /// `BINPERSID`: replaces the tuple `("storage", class, key, location, elements)` by the storage that it describes.
    fn persistent(&mut self) -> Step<()> {
        let Value::Tuple(id) = self.pop()? else { return Err("a persistent id that is no tuple".into()) };
        let storage = match self.tuples[id][..] {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage { element, untyped }),
                Value::Text(key),
                Value::Text(_),
                Value::Int(elements),
            ] => {
                let elements = u64::try_from(elements).map_err(|_| format!("a storage of {elements} elements"))?;
                Storage { key, element, elements, untyped }
            }
            _ => return Err("a persistent id that is no storage".into()),
        };
        room(self.storages.len(), MAX_VALUES, "storages")?;
        self.storages.push(storage);
        self.push(Value::Storage(self.storages.len() - 1))
    }

    /// `STOP`: the pickle's value, which must be the only one on the stack, at the end of the bytes.
    fn stop(&mut self) -> Step<Value<'a>> {
        let value = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() || self.at != self.pickle.len() {
            return Err("it ends with values left over".into());
        }
        Ok(value)
    }
}

/// The name of an opcode that this reader does not implement, for errors.
fn opcode_name(opcode: u8) -> String {
    let name = match opcode {
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'S' => "STRING",
        b'T' => "BINSTRING",
        b'U' => "SHORT_BINSTRING",
        b'V' => "UNICODE",
        b'B' => "BINBYTES",
        b'C' => "SHORT_BINBYTES",
        b'd' => "DICT",
        b'g' => "GET",
        b'i' => "INST",
        b'l' => "LIST",
        b'o' => "OBJ",
        b'p' => "PUT",
        0x81 => "NEWOBJ",
        0x82..=0x84 => "EXT",
        0x8b => "LONG4",
        0x8e => "BINBYTES8",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return format!("{opcode:#04x}"),
    };
    format!("{name} ({opcode:#04x})")
}

#[cfg(test)]
mod tests;

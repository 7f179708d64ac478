//! The names (globals) that a pickle may refer to, and what calls of them describe. They are those that `torch.load(weights_only=True)`
//! allows, as far as dictionaries of tensors need them.

use super::values::{Element, Global, Rebuild, Tensor, Value};
use super::{MAX_RANK, MAX_TENSORS, Machine, Step, room};

/// The functions that make a tensor, by module and name.
const REBUILDS: [(&str, &str, Rebuild); 6] = [
    ("torch._utils", "_rebuild_tensor", Rebuild::V1),
    ("torch._utils", "_rebuild_tensor_v2", Rebuild::V2),
    ("torch._utils", "_rebuild_tensor_v3", Rebuild::V3),
    ("torch._utils", "_rebuild_parameter", Rebuild::Parameter),
    ("torch._utils", "_rebuild_parameter_with_state", Rebuild::ParameterWithState),
    ("torch._tensor", "_rebuild_from_type_v2", Rebuild::FromType),
];

/// The types of elements: the storage class in `torch` that stands for the type, the type's own names in `torch`, its name in safetensors,
/// and its bytes. Types that hold no weights are known too: old checkpoints have `position_ids` of 64-bit integers, which are read and not
/// used.
const TYPES: [(&str, &[&str], &str, usize); 15] = [
    ("FloatStorage", &["float32", "float"], "F32", 4),
    ("HalfStorage", &["float16", "half"], "F16", 2),
    ("BFloat16Storage", &["bfloat16"], "BF16", 2),
    ("DoubleStorage", &["float64", "double"], "F64", 8),
    ("LongStorage", &["int64", "long"], "I64", 8),
    ("IntStorage", &["int32", "int"], "I32", 4),
    ("ShortStorage", &["int16", "short"], "I16", 2),
    ("CharStorage", &["int8"], "I8", 1),
    ("ByteStorage", &["uint8"], "U8", 1),
    ("BoolStorage", &["bool"], "BOOL", 1),
    // These have no storage class of their own.
    ("", &["uint16"], "U16", 2),
    ("", &["uint32"], "U32", 4),
    ("", &["uint64"], "U64", 8),
    ("", &["float8_e4m3fn"], "F8_E4M3", 1),
    ("", &["float8_e5m2"], "F8_E5M2", 1),
];

/// What the global `module.name` stands for; `None` if it is not allowed.
fn known(module: &str, name: &str) -> Option<Global> {
    let rebuild = REBUILDS.iter().find(|(of, called, _)| (*of, *called) == (module, name));
    if let Some((_, _, rebuild)) = rebuild {
        return Some(Global::Rebuild(*rebuild));
    }
    let element = |(_, _, dtype, bytes): &(_, _, &'static str, usize)| Element { dtype, bytes: *bytes };
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("collections", "Counter") => Some(Global::Counter),
        ("torch", "Tensor") | ("torch._tensor", "Tensor") | ("torch.nn.parameter", "Parameter") => {
            Some(Global::TensorClass)
        }
        ("torch", "Size") => Some(Global::Size),
        ("torch", "device") => Some(Global::Device),
        ("builtins" | "__builtin__", "set" | "bytearray" | "complex")
        | ("_codecs", "encode")
        | ("torch.serialization", "_get_layout") => Some(Global::Plain),
        ("torch" | "torch.storage", "UntypedStorage") => {
            Some(Global::Storage { element: Element { dtype: "U8", bytes: 1 }, untyped: true })
        }
        ("torch", _) => TYPES.iter().find_map(|of| match of {
            (class, ..) if *class == name => Some(Global::Storage { element: element(of), untyped: false }),
            (_, names, ..) if names.contains(&name) => Some(Global::Dtype(element(of))),
            _ => None,
        }),
        _ => None,
    }
}

/// The error message for a global that is not allowed: why it is refused, and what the owner of the file can do.
fn unknown(module: &str, name: &str) -> String {
    let kind = match (module, name) {
        ("torch._utils", "_rebuild_sparse_tensor") => Some(("sparse", "make its tensors dense (`tensor.to_dense()`)")),
        ("torch._utils", "_rebuild_qtensor") => Some(("quantized", "make its tensors floats (`tensor.dequantize()`)")),
        ("torch._utils", "_rebuild_meta_tensor_no_storage") => {
            Some(("on the device `meta`, without values", "load the model onto a device that holds values"))
        }
        _ => None,
    };
    if let Some((what, before)) = kind {
        return format!("a tensor is {what}: {before} and save the model's state_dict() again");
    }
    let (module, name) = (module.escape_debug(), name.escape_debug());
    format!(
        "it refers to `{module}.{name}`, which no weights need; nothing was run: save the model's state_dict() alone"
    )
}

impl<'a> Machine<'a> {
    /// Pushes the global `module.name`; an error if it is not allowed.
    pub(super) fn push_global(&mut self, module: &str, name: &str) -> Step<()> {
        let global = known(module, name).ok_or_else(|| unknown(module, name))?;
        self.push(Value::Global(global))
    }

    /// `REDUCE`: replaces a callable and the tuple of its arguments by the value that the call describes. Nothing is called.
    pub(super) fn reduce(&mut self) -> Step<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = arguments else {
            return Err(format!("a call's arguments are {}, expected a tuple", arguments.kind()));
        };
        match callable {
            Value::Global(Global::OrderedDict) if self.tuples[arguments].is_empty() => self.push_dict(),
            Value::Global(Global::OrderedDict) => Err("collections.OrderedDict is called with arguments".into()),
            Value::Global(Global::Rebuild(rebuild)) => {
                let tensor = self.rebuild(rebuild, arguments)?;
                self.push(Value::Tensor(tensor))
            }
            Value::Global(Global::Size) => match self.tuples[arguments][..] {
                [sizes @ Value::Tuple(_)] => self.push(sizes),
                _ => Err("torch.Size is called without a tuple".into()),
            },
            Value::Global(Global::Counter) => match self.tuples[arguments][..] {
                [counts @ Value::Dict(_)] => self.push(counts),
                _ => Err("collections.Counter is called without a dict".into()),
            },
            // The device of a tensor does not affect its values, so it becomes `None`.
            Value::Global(Global::Device) => self.push(Value::None),
            Value::Global(Global::Plain) => self.push(Value::Plain),
            Value::Global(Global::Storage { .. }) => Err("a storage class is called, which no weights need".into()),
            other => Err(format!("{} is called, which no weights need", other.kind())),
        }
    }

    /// The index in `tensors` of the tensor that a call of `rebuild` with the tuple `arguments` describes. A parameter is the tensor that
    /// it was made of.
    fn rebuild(&mut self, rebuild: Rebuild, arguments: usize) -> Step<usize> {
        match (rebuild, &self.tuples[arguments][..]) {
            (Rebuild::Parameter, &[Value::Tensor(tensor), Value::Bool, Value::Dict(hooks)])
            | (Rebuild::ParameterWithState, &[Value::Tensor(tensor), Value::Bool, Value::Dict(hooks), _])
                if self.dicts[hooks].is_empty() =>
            {
                return Ok(tensor);
            }
            (
                Rebuild::FromType,
                &[
                    Value::Global(Global::Rebuild(inner)),
                    Value::Global(Global::TensorClass),
                    Value::Tuple(arguments),
                    _,
                ],
            ) if inner != Rebuild::FromType => return self.rebuild(inner, arguments),
            _ => {}
        }
        room(self.tensors.len(), MAX_TENSORS, "tensors")?;
        let tensor = self.tensor(rebuild, arguments)?;
        self.tensors.push(tensor);
        Ok(self.tensors.len() - 1)
    }

    /// The tensor that a call describes as a part of a storage.
    fn tensor(&self, rebuild: Rebuild, arguments: usize) -> Step<Tensor<'a>> {
        let refuse = || {
            let kinds: Vec<_> = self.tuples[arguments].iter().take(9).map(|value| value.kind()).collect();
            let names = REBUILDS.iter().find(|(_, _, other)| *other == rebuild);
            let (module, name) = names.map_or(("torch", "?"), |(module, name, _)| (module, name));
            format!("{module}.{name} is called with ({})", kinds.join(", "))
        };
        let no_hooks = |hooks: &Value<'_>| matches!(*hooks, Value::Dict(hooks) if self.dicts[hooks].is_empty());
        // Metadata that is not empty would say that the values are to be negated or conjugated.
        let no_metadata = |rest: &[Value<'_>]| match rest {
            [] | [Value::None] => true,
            [Value::Dict(metadata)] => self.dicts[*metadata].is_empty(),
            _ => false,
        };
        let (parts, element) = match (rebuild, &self.tuples[arguments][..]) {
            (Rebuild::V1, parts @ [_, _, _, _]) => (parts, None),
            (Rebuild::V2, [_, _, _, _, Value::Bool, hooks, rest @ ..]) if no_hooks(hooks) && no_metadata(rest) => {
                (&self.tuples[arguments][..4], None)
            }
            (Rebuild::V3, [_, _, _, _, Value::Bool, hooks, Value::Global(Global::Dtype(element)), rest @ ..])
                if no_hooks(hooks) && no_metadata(rest) =>
            {
                (&self.tuples[arguments][..4], Some(*element))
            }
            _ => return Err(refuse()),
        };
        let &[Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides)] = parts else {
            return Err(refuse());
        };
        let mut storage = self.storages[storage];
        match (storage.untyped, element) {
            (false, None) => {}
            (true, Some(element)) if storage.elements.is_multiple_of(element.bytes as u64) => {
                storage.elements /= element.bytes as u64;
                storage.element = element;
            }
            (true, None) => return Err("a tensor of a torch.UntypedStorage has no type".to_owned()),
            _ => return Err(refuse()),
        }
        let (shape, strides) = (self.sizes(shape, "size")?, self.sizes(strides, "stride")?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor with {} sizes and {} strides", shape.len(), strides.len()));
        }
        let offset = u64::try_from(offset).map_err(|_| format!("a tensor's offset is {offset}"))?;
        Ok(Tensor { storage, offset, shape, strides })
    }

    /// The integers of a tuple, which are the sizes or strides of a tensor, as `what` says in errors.
    fn sizes(&self, tuple: usize, what: &str) -> Step<Vec<u64>> {
        let items = &self.tuples[tuple];
        if items.len() > MAX_RANK {
            return Err(format!("a tensor with {} dimensions, expected at most {MAX_RANK}", items.len()));
        }
        let size = |value: &Value<'_>| match *value {
            Value::Int(size) => u64::try_from(size).map_err(|_| format!("a tensor's {what} is {size}")),
            other => Err(format!("a tensor's {what} is {}", other.kind())),
        };
        items.iter().map(size).collect()
    }
}

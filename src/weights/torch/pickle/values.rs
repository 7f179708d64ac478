//! What a pickle's machine computes with: tensors as they are described, and the names that it may refer to.

/// The type of a storage's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::weights::torch) struct Element {
    /// As safetensors spells it.
    pub dtype: &'static str,
    pub bytes: usize,
}

/// A run of elements in the entry `data/{key}` of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::weights::torch) struct Storage<'a> {
    pub key: &'a str,
    pub element: Element,
    pub elements: u64,
    /// Whether the elements are plain bytes, whose type the tensor gives.
    pub untyped: bool,
}

/// A tensor as the pickle describes it: nothing of it is compared with the file yet. Numbers count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::weights::torch) struct Tensor<'a> {
    pub storage: Storage<'a>,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// A value; containers are places in the arena.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'a str),
    /// A set, bytes, a complex or a large number: nothing asks for its content.
    Plain,
    Global(Global),
    Tuple(usize),
    List,
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool => "a bool",
            Value::Int(_) => "an int",
            Value::Float => "a float",
            Value::Text(_) => "a string",
            Value::Plain => "a plain value",
            Value::Global(_) => "a global",
            Value::Tuple(_) => "a tuple",
            Value::List => "a list",
            Value::Dict(_) => "a dict",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `collections.Counter`, of a dictionary: schedules of learning rates have it.
    Counter,
    /// A class of tensors, which is named and never called.
    TensorClass,
    Rebuild(Rebuild),
    Storage {
        element: Element,
        untyped: bool,
    },
    Dtype(Element),
    /// `torch.Size`, of a tuple.
    Size,
    /// `torch.device`, of a name and an index.
    Device,
    /// What makes plain values of Python, or names a layout: `set`, `bytearray`, `complex`, `_codecs.encode` (which makes bytes).
    Plain,
}

/// The functions that make a tensor, by how they take their arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rebuild {
    /// `(storage, offset, size, stride)`
    V1,
    /// `(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])`
    V2,
    /// `(storage, offset, size, stride, requires_grad, backward_hooks, dtype[, metadata])`
    V3,
    /// `(tensor, requires_grad, backward_hooks)`
    Parameter,
    /// `(tensor, requires_grad, backward_hooks, state)`
    ParameterWithState,
    /// `(function, class, arguments, state)`: a tensor with attributes.
    FromType,
}

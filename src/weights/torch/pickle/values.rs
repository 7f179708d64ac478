//! The values of the machine that reads pickles: tensors as the pickle describes them, and the globals that it may refer to.

/// The type of a storage's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::weights::torch) struct Element {
    /// The type's name in safetensors.
    pub dtype: &'static str,
    /// The bytes of one element.
    pub bytes: usize,
}

/// A storage: the elements of type `element` that the archive's entry `data/{key}` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::weights::torch) struct Storage<'a> {
    pub key: &'a str,
    pub element: Element,
    /// The number of elements.
    pub elements: u64,
    /// Whether the elements are plain bytes, whose type is given by the call that makes the tensor.
    pub untyped: bool,
}

/// A tensor as the pickle describes it: nothing of it has been compared with the file yet. The offset and the strides count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::weights::torch) struct Tensor<'a> {
    pub storage: Storage<'a>,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// A value of the pickle. Tuples, dictionaries, storages and tensors are indices into the machine's vectors of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'a str),
    /// A set, bytes, a complex number or an integer of more than 8 bytes. Its content is dropped, because no tensor needs it.
    Plain,
    Global(Global),
    Tuple(usize),
    List,
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    /// What the value is, for errors.
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

/// What a global, a name that the pickle refers to, stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `collections.Counter`, which is called with a dictionary: the states of learning rate schedulers have it.
    Counter,
    /// A class of tensors, which is only ever an argument: it is never called.
    TensorClass,
    Rebuild(Rebuild),
    /// A storage class, which gives the type of a storage's elements.
    Storage {
        element: Element,
        untyped: bool,
    },
    /// A type such as `torch.float16`.
    Dtype(Element),
    /// `torch.Size`, which is called with a tuple.
    Size,
    /// `torch.device`, which is called with a name and perhaps an index.
    Device,
    /// A function whose result is a [`Value::Plain`]: `set`, `bytearray`, `complex`, `_codecs.encode` (which makes bytes), `_get_layout`
    /// (which gives a tensor's layout).
    Plain,
}

/// The functions that make a tensor, told apart by their arguments.
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
    /// `(function, class, arguments, state)`: a tensor with attributes, which `function` makes of `arguments`.
    FromType,
}

use super::super::testing::{Tensor as Made, int, state_dict};
use super::*;

fn refusal(pickle: &[u8]) -> String {
    read(pickle).expect_err("it was read")
}

/// A pickle of the fuzz corpus, which `tools/torch_corpus.py` made with Python's pickle and PyTorch.
fn corpus(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/torch_pickle").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A tensor that is read without an error.
fn sound() -> Made<'static> {
    Made { class: "FloatStorage", key: "0", elements: 6, offset: 0, shape: &[2, 3], strides: &[3, 1] }
}

#[test]
fn a_state_dict_of_a_module_is_read_in_every_protocol() {
    for protocol in 2..=5 {
        let pickle = corpus(&format!("good-linear-{protocol}"));
        let tensors = read(&pickle).unwrap();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["bias", "weight"]);
        let weight = &tensors["weight"];
        assert_eq!((&weight.shape[..], &weight.strides[..], weight.offset), (&[2, 3][..], &[3, 1][..], 0));
        assert_eq!((weight.storage.key, weight.storage.elements, weight.storage.element.dtype), ("0", 6, "F16"));
        assert_eq!((tensors["bias"].storage.key, &tensors["bias"].shape[..]), ("1", &[2][..]));
    }
    let odd = corpus("good-odd");
    let tensors = read(&odd).unwrap();
    assert_eq!((&tensors["t"].shape[..], &tensors["t"].strides[..]), (&[3, 2][..], &[1, 3][..]));
    assert_eq!((tensors["ids"].storage.element.dtype, &tensors["e"].strides[..]), ("I64", &[0][..]));
}

#[test]
fn the_models_tensors_are_read_from_what_training_scripts_save() {
    let names = |name: &str| {
        let pickle = corpus(name);
        let tensors = read(&pickle).unwrap_or_else(|what| panic!("{name}: {what}"));
        tensors.into_iter().map(|(name, tensor)| (name, tensor.shape.clone())).collect::<Vec<_>>()
    };
    let two = |name: &str| (name.to_owned(), vec![2]);
    // `weight` is a parameter, `bias` a parameter with an attribute, and `other` a tensor with an attribute.
    assert_eq!(names("good-parameter"), [two("bias"), two("other"), two("weight")]);
    assert_eq!(names("good-nested"), [two("weight")]);
    // Next to the state dict this file has sets, bytes, complex and large numbers.
    assert_eq!(names("good-plain"), [two("weight")]);
    // The random state and the optimizer's tensors, which the checkpoint has too, are left out.
    assert_eq!(names("good-checkpoint"), [two("bias"), ("weight".to_owned(), vec![2, 3])]);
    let pickle = corpus("good-unsigned");
    let tensors = read(&pickle).unwrap();
    assert_eq!((tensors["ids"].storage.element.dtype, tensors["ids"].storage.elements), ("U16", 3));
}

#[test]
fn the_search_for_a_state_dict_ends_in_a_dict_that_contains_itself() {
    // First {"model": itself, "state_dict": itself, "weight": tensor}, then the same without "state_dict".
    let entry = |name: &str| [b"X", &(name.len() as u32).to_le_bytes()[..], name.as_bytes(), b"h\0s"].concat();
    let tensor = [b"X\x06\0\0\0weight".to_vec(), sound().opcodes(), b"s".to_vec()].concat();
    let pickle = [&b"\x80\x02}q\0"[..], &entry("model"), &entry("state_dict"), &tensor, b"."].concat();
    assert!(refusal(&pickle).contains("under `state_dict` and under `model`"));
    let pickle = [&b"\x80\x02}q\0"[..], &entry("model"), &tensor, b"."].concat();
    assert_eq!(read(&pickle).unwrap().len(), 1);
}

#[test]
fn malicious_and_malformed_pickles_are_refused_with_the_reason() {
    for (name, expected) in [
        ("bad-os-system", "`posix.system`, which no weights need; nothing was run"),
        ("bad-eval", "`__builtin__.eval`"),
        ("bad-exec", "`__builtin__.exec`"),
        ("bad-getattr", "`__builtin__.getattr`"),
        ("bad-in-a-state-dict", "`posix.system`"),
        ("bad-as-a-key", "`__builtin__.unicode`"),
        ("bad-ordered-dict-with-arguments", "OrderedDict is called with arguments"),
        ("bad-two-models", "has tensors under `state_dict` and under `model`"),
        ("bad-negated", "_rebuild_tensor_v2 is called with"),
        (
            "bad-module",
            "`torch.nn.modules.linear.Linear`, which no weights need; nothing was run: save the model's state_dict() alone",
        ),
        ("bad-new-object", "`__main__.Plain`"),
        ("bad-set-state", "BUILD sets the state of a dict"),
        ("bad-set-state-of-a-list", "BUILD sets the state of a dict"),
        ("bad-bytes", "has no tensors"),
        ("bad-set", "holds a plain value, expected a dict"),
        ("bad-sparse", "a tensor is sparse: make its tensors dense"),
        ("bad-quantized", "a tensor is quantized: make its tensors floats"),
        ("bad-on-meta", "a tensor is on the device `meta`, without values"),
        ("bad-a-list", "holds a list, expected a dict"),
        ("bad-no-tensors", "save the model's state_dict() alone"),
        ("bad-deep", "nested deeper than 64"),
        ("bad-memo-loop", "holds a list"),
        ("bad-bomb-of-tuples", "DUP (0x32)"),
        ("bad-doubling-memo", "holds a tuple"),
        ("bad-marks", "nested deeper than 64"),
        ("bad-empty-stack", "the stack is empty"),
        ("bad-get-nothing", "nothing in the memo at 7"),
        ("bad-ext", "EXT (0x82)"),
        ("bad-inst", "INST (0x69)"),
        ("bad-obj", "`os.system`"),
        ("bad-persid", "PERSID (0x50)"),
        ("bad-stack-global", "`os.system`"),
        ("bad-module-with-dots", "`torch._util.s._rebuild_tensor_v2`"),
        ("bad-huge-string", "a string of 4611686018427387904 bytes"),
        ("bad-huge-frame", "is cut"),
        ("bad-protocol-0", "`os.system`"),
        ("bad-protocol-9", "protocol 9"),
        ("bad-left-over", "left over"),
        ("bad-behind-the-end", "left over"),
        ("bad-empty", "it is cut"),
    ] {
        let message = refusal(&corpus(name));
        assert!(message.contains(expected), "{name}: {message}");
    }
}

#[test]
fn calls_states_and_names_that_no_weights_need_are_refused() {
    assert!(refusal(b"\x80\x02ccollections\nOrderedDict\n)\x81.").contains("NEWOBJ (0x81)"));
    assert!(refusal(b"\x80\x02X\x01\x00\x00\x00x)R.").contains("a string is called"));
    assert!(refusal(b"\x80\x02ctorch\nFloatStorage\n)R.").contains("a storage class is called"));
    assert!(refusal(b"\x80\x02ccollections\nOrderedDict\nNR.").contains("arguments are None"));
    // BUILD with a dictionary as its own state.
    assert!(refusal(b"\x80\x02}q\0X\x09\x00\x00\x00_metadataNsh\0b.").contains("BUILD"));
    // An empty module and name, a module without a line feed, and a module that is longer than `MAX_TEXT`.
    assert!(refusal(b"\x80\x02c\n\n.").contains("`.`"));
    assert!(refusal(b"\x80\x02ccollections").contains("name is damaged"));
    assert!(refusal(&[b"\x80\x02c", &[b'x'; 10_000][..], b"\ny\n."].concat()).contains("name is damaged"));
}

#[test]
fn hostile_numbers_are_refused() {
    type Change = fn(&mut Made<'static>);
    let changes: [(Change, &str); 8] = [
        (|t| t.class = "ComplexFloatStorage", "torch.ComplexFloatStorage"),
        (|t| t.class = "UntypedStorage", "a torch.UntypedStorage has no type"),
        (|t| t.elements = -1, "a storage of -1 elements"),
        (|t| t.offset = -1, "offset is -1"),
        (|t| t.shape = &[2, -3], "size is -3"),
        (|t| t.strides = &[i64::MIN, 1], "stride is -9223372036854775808"),
        (|t| t.strides = &[1], "2 sizes and 1 strides"),
        (|t| t.shape = &[1; 9], "9 dimensions"),
    ];
    for (change, expected) in changes {
        let mut tensor = sound();
        change(&mut tensor);
        let message = refusal(&state_dict(&[("w", tensor)]));
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(refusal(&state_dict(&[("w", sound()), ("w", sound())])).contains("`w` comes twice"));
    // A storage's number of elements in nine bytes: its value is dropped, so it is no integer.
    let (pickle, size) = (state_dict(&[("w", sound())]), int(6));
    let at = pickle.windows(size.len()).position(|bytes| bytes == size).unwrap();
    let large = [&pickle[..at], b"\x8a\x09123456789", &pickle[at + size.len()..]].concat();
    assert!(refusal(&large).contains("a persistent id that is no storage"), "{}", refusal(&large));
}

#[test]
fn counts_beyond_the_limits_are_refused() {
    let many = |start: &[u8], step: &[u8], times: usize| {
        let mut pickle = start.to_vec();
        (0..times).for_each(|_| pickle.extend_from_slice(step));
        pickle
    };
    assert!(refusal(&vec![b'N'; MAX_BYTES + 1]).contains("expected at most"));
    assert!(refusal(&many(b"\x80\x02", b"N", MAX_VALUES + 1)).contains("values on the stack"));
    assert!(refusal(&many(b"\x80\x02N", b")aN", MAX_VALUES)).contains("appended to None"));
    assert!(refusal(&many(b"\x80\x02]", b")a", MAX_VALUES + 1)).contains("tuples"));
    assert!(refusal(&many(b"\x80\x02]", b"}a", MAX_VALUES + 1)).contains("dicts"));
    let memo: Vec<u8> = (0..=MAX_VALUES as u32).flat_map(|key| [&b"r"[..], &key.to_le_bytes()].concat()).collect();
    assert!(refusal(&[b"\x80\x02N", &memo[..]].concat()).contains("values in the memo"));
}

#[test]
fn a_cut_pickle_is_refused_and_a_flipped_bit_never_panics() {
    let mut pickles: Vec<Vec<u8>> = ["good-linear-2", "good-linear-4", "good-odd"].map(corpus).to_vec();
    pickles.push(state_dict(&[("w", sound())]));
    for pickle in pickles {
        assert!(read(&pickle).is_ok());
        for cut in 0..pickle.len() {
            assert!(read(&pickle[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..pickle.len() * 8 {
            let mut flipped = pickle.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = read(&flipped);
        }
    }
}

#[test]
fn integers_of_one_and_of_eight_bytes_keep_their_value() {
    // On both sides of where one byte, its sign bit, or two bytes end. `int` writes one byte up to 255 and eight from 256 on.
    for value in [0i64, 1, 127, 128, 255, 256, 65_535, 65_536, i64::MAX] {
        let mut tensor = sound();
        tensor.elements = value;
        let pickle = state_dict(&[("w", tensor)]);
        assert_eq!(read(&pickle).unwrap()["w"].storage.elements, value as u64);
    }
    assert_eq!(int(-1)[..2], [0x8a, 8]);
}

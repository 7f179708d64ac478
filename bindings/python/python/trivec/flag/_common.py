"""What the embedders and the reranker have in common. The reference is FlagEmbedding."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .._errors import InputTypeError, OptionError
from .._model import Model

_said: set[str] = set()


def warn_once(about: str, message: str) -> None:
    """Warns only the first time that it is called with this `about` in a process."""
    if about not in _said:
        _said.add(about)
        warnings.warn(message, UserWarning, stacklevel=4)


def devices_of(devices: Any) -> list[str]:
    """The list of device names that the reference makes of its argument `devices`."""
    if devices is None:
        return ["cpu"]
    if isinstance(devices, str):
        return [devices]
    if isinstance(devices, int):
        return [f"cuda:{devices}"]
    if isinstance(devices, list) and devices:
        if isinstance(devices[0], str):
            return devices
        if isinstance(devices[0], int):
            return [f"cuda:{device}" for device in devices]
    raise OptionError("devices should be a string or an integer or a list of strings or a list of integers.")


def check_devices(*names: Any) -> None:
    """Warns once if a device other than the CPU is named: it is not used."""
    for name in names:
        for one in name if isinstance(name, list) else [name]:
            if one is not None and str(one) != "cpu":
                warn_once("devices", f"trivec computes on the CPU: {one!r} is not used")


def check_batch_size(batch_size: Any) -> None:
    # Any integer type is accepted, numpy's too.
    if not hasattr(batch_size, "__index__") or batch_size < 1:
        raise OptionError(f"batch_size: found {batch_size!r}, expected a number above 0")


def checked_length(name: str, length: int, model: Model, least: int = 2) -> int:
    """A maximum length, reduced to the model's, with one warning, if it is larger; an OptionError if it is below `least`."""
    if isinstance(length, bool) or not hasattr(length, "__index__") or length < least:
        raise OptionError(f"{name}: found {length!r}, expected {least} or more tokens")
    most = model.info["max_length"]
    if length > most:
        warn_once("max_length", f"{name}={length} is more than the model reads: texts are cut to {most} tokens")
    return min(int(length), most)


def refuse_unknown(keywords: dict[str, Any], call: str) -> None:
    for name in keywords:
        raise TypeError(f"{call}() got an unexpected keyword argument {name!r}")


def instructed(instruction_format: str, instruction: str, sentence: Any, index: int = 0) -> str:
    if not isinstance(sentence, str):
        raise InputTypeError(f"input {index}: expected a str, found {type(sentence).__name__}", index)
    return instruction_format.replace("\\n", "\n").format(instruction, sentence)


def bar(total: int, batch_size: int, what: str) -> tuple[Any, Any]:
    """The progress bar that the reference shows if the texts fill a batch, and if tqdm is installed: a function for the progress (or None), and one that ends
    the bar."""
    if total >= batch_size:
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            shown = tqdm(total=total, desc=what)

            def told(done: int, _: int) -> None:
                shown.update(done - shown.n)

            return told, shown.close
    return None, lambda: None


class Tokenizer:
    """The part of a transformers tokenizer that callers of FlagEmbedding use."""

    special_tokens_map = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    }

    def __init__(self, model: Model):
        self._model = model
        self.model_max_length = model.info["max_length"]
        self.vocab_size = len(self)

    def __len__(self) -> int:
        # The number of ids that the tokenizer has; the embedding table may have further rows, which have no piece.
        size = self._model.info["vocabulary"]
        while size > 0 and self._model.piece(size - 1) is None:
            size -= 1
        return size

    def __call__(self, texts: Any, max_length: int | None = None, **_: Any) -> dict[str, Any]:
        ids = self._model.token_ids(texts, max_length=max_length)
        mask = [1] * len(ids) if isinstance(texts, str) else [[1] * len(one) for one in ids]
        return {"input_ids": ids, "attention_mask": mask}

    def encode(self, text: str, max_length: int | None = None, **_: Any) -> list[int]:
        return self._model.token_ids(text, max_length=max_length)

    def tokenize(self, text: str, **_: Any) -> list[str | None]:
        return [self._model.piece(id) for id in self._model.token_ids(text)[1:-1]]

    def decode(self, ids: Any, skip_special_tokens: bool = False, **_: Any) -> str:
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        return self._model.decode([ids] if isinstance(ids, int) else ids, skip_special=skip_special_tokens)

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        return self._model.piece(ids) if isinstance(ids, int) else [self._model.piece(id) for id in ids]


class _Namespace:
    def __init__(self, **facts: Any):
        self.__dict__.update(facts)


class TorchLike:
    """Stands for the torch model: it has the attributes that third parties read, such as `model.model.config.hidden_size`."""

    def __init__(self, model: Model):
        info = model.info
        self.config = _Namespace(
            hidden_size=info["hidden"],
            num_hidden_layers=info["layers"],
            num_attention_heads=info["heads"],
            intermediate_size=info["ffn"],
            vocab_size=info["vocabulary"],
            max_position_embeddings=info["max_length"] + 2,
            model_type="xlm-roberta",
        )
        if info["colbert_dim"]:
            self.colbert_linear = _Namespace(in_features=info["hidden"], out_features=info["colbert_dim"])
        if "sparse" in info["modes"]:
            self.sparse_linear = _Namespace(in_features=info["hidden"], out_features=1)
        self.model = self

    def _same(self, *_: Any, **__: Any) -> TorchLike:
        return self

    to = eval = half = float = cpu = share_memory = _same


class Common:
    """The attributes and the process pools that all classes of the reference have."""

    pool: Any = None
    kwargs: dict[str, Any]

    if TYPE_CHECKING:
        # Options become attributes, and so do keywords that a class does not know.
        def __getattr__(self, name: str) -> Any: ...

    def _common(self, engine: Model, devices: Any, kwargs: dict[str, Any]) -> None:
        self.target_devices = self.get_target_devices(devices)
        check_devices(*self.target_devices, kwargs.get("device"))
        for name, value in kwargs.items():
            setattr(self, name, value)
        self.kwargs = kwargs
        self.engine = engine
        self.tokenizer = Tokenizer(engine)
        self.model = TorchLike(engine)

    @staticmethod
    def get_target_devices(devices: Any) -> list[str]:
        return devices_of(devices)

    @staticmethod
    def get_detailed_instruct(instruction_format: str, instruction: str, sentence: str) -> str:
        return instructed(instruction_format, instruction, sentence)

    def start_multi_process_pool(self, process_target_func: Any = None) -> dict[str, Any]:
        """A dict with the keys of the reference's pool. It has no processes, because every call uses all threads already."""
        return {"input": None, "output": None, "processes": [None] * len(self.target_devices)}

    @staticmethod
    def stop_multi_process_pool(pool: dict[str, Any]) -> None:
        pool["processes"] = []

    def stop_self_pool(self) -> None:
        self.pool = None

    def __reduce__(self):
        # The engine is pickled by its path, and the other two are made again.
        state = {name: value for name, value in self.__dict__.items() if name not in ("tokenizer", "model", "pool")}
        return (_restore, (type(self), state))


def _restore(cls: type[Common], state: dict[str, Any]) -> Common:
    made = cls.__new__(cls)
    made.__dict__.update(state)
    made.tokenizer, made.model = Tokenizer(made.engine), TorchLike(made.engine)
    return made


class AbsEmbedder(Common):
    """FlagEmbedding's base class of embedders, for `isinstance`."""


class AbsReranker(Common):
    """FlagEmbedding's base class of rerankers, for `isinstance`."""

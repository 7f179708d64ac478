"""trivec's exceptions. Each is also the built-in exception that a caller would expect; errors of the operating system are `OSError`s."""

from __future__ import annotations


class Error(Exception):
    """The base of trivec's exceptions. `index` is the index of the text that the error is about, or None."""

    def __init__(self, message: str, index: int | None = None):
        super().__init__(message)
        self.index = index

    def __reduce__(self):
        return (type(self), (self.args[0], self.index))


class OptionError(Error, ValueError):
    """An option makes no sense."""


class InputError(Error, ValueError):
    """A text cannot be processed."""


class InputTypeError(Error, TypeError):
    """What should be a text is something else."""


class ModelError(Error, ValueError):
    """A model file is damaged or of a kind that is not run here, or its results are not finite numbers."""


class ModeUnavailable(Error, ValueError):
    """The model has no head for what was asked."""


class Cancelled(Error):
    """The call was ended before it was complete."""


class InternalError(Error, RuntimeError):
    """A mistake inside the library. Models stay usable."""


class IndexDamaged(Error, ValueError):
    """A file of an index is damaged, or the index belongs to another model."""


class IndexLocked(Error, RuntimeError):
    """Another writer has the index."""


class TrainingLocked(Error, RuntimeError):
    """Another run has the directory of states and checkpoints."""


class NoDocument(Error, KeyError):
    """No document of the index has the key."""

    def __init__(self, message: str, key: object = None):
        super().__init__(message)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[0])


def not_found(message: str, path: str) -> FileNotFoundError:
    """The exception for a model or an index that does not exist. Called by the native module, as `os_error` is."""
    import errno

    error = FileNotFoundError(errno.ENOENT, message, path)
    return error


def os_error(number: int | None, message: str, path: str) -> OSError:
    """The `OSError` of the operating system's error number, or of the message alone if there is no number."""
    return OSError(number, message, path) if number is not None else OSError(f"{path}: {message}")

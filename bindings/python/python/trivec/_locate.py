"""Finds the path of a model by the name that a user has for it. Nothing is downloaded: `trivec pull NAME` does that."""

from __future__ import annotations

import errno
import os

from ._trivec import locate, locate_default


def resolve(name: str | os.PathLike | None, cache_dir: str | os.PathLike | None = None) -> str:
    """The path of the model that `name` means: a path itself, an installed model (`bge-m3`, `BAAI/bge-m3`), `starter`, or a repository in a cache of
    Hugging Face's layout. None means the model that `trivec use` or the last `trivec pull` chose, else the starter.

    Raises FileNotFoundError, which says which places were searched.
    """
    if name is None:
        chosen = locate_default()
        return os.fspath(chosen) if chosen is not None else starter()
    text = os.fspath(name)
    if os.path.exists(text):
        return text
    if text == "starter":
        return starter()
    looked = [text]
    try:
        found = locate(text)
    except FileNotFoundError as error:
        # A known model that is not installed may still be in a Hugging Face cache.
        found, reason = None, error.strerror
    else:
        reason = "there is no such model file or directory, and no installed model of this name"
    if found is not None:
        return os.fspath(found)
    snapshot = _in_hugging_face_cache(text, cache_dir, looked)
    if snapshot is not None:
        return snapshot
    places = ", ".join(looked[1:])
    raise FileNotFoundError(
        errno.ENOENT,
        f"{reason}; `trivec pull NAME` installs a model" + (f"; looked in {places}, too" if places else ""),
        text,
    )


def starter() -> str:
    """The path of the small model in the package `trivec-starter`."""
    try:
        import trivec_starter
    except ImportError:
        raise FileNotFoundError(
            errno.ENOENT, "the small model is in a package of its own: pip install trivec-starter", "starter"
        ) from None
    return trivec_starter.path()


def _in_hugging_face_cache(name: str, cache_dir: str | os.PathLike | None, looked: list[str]) -> str | None:
    """The directory of the snapshot of `organisation/model` in a Hugging Face cache: the one that `refs/main` names, or the only one. None if there is
    neither. The directories that were searched are added to `looked`."""
    parts = name.split("/")
    if len(parts) > 2 or not all(parts) or any(part in (".", "..") for part in parts):
        return None
    environment = os.environ
    home = environment.get("HF_HOME") or os.path.join(
        environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "huggingface"
    )
    caches = [cache_dir] if cache_dir else [environment.get("HF_HUB_CACHE") or os.path.join(home, "hub")]
    for cache in caches:
        repository = os.path.join(os.fspath(cache), "models--" + "--".join(parts))
        looked.append(repository)
        snapshots = os.path.join(repository, "snapshots")
        try:
            with open(os.path.join(repository, "refs", "main"), encoding="utf-8") as file:
                revision = file.read(256).strip()
        except (OSError, UnicodeDecodeError):
            revision = ""
        if revision and os.path.basename(revision) == revision and os.path.isdir(os.path.join(snapshots, revision)):
            return os.path.join(snapshots, revision)
        try:
            revisions = sorted(os.listdir(snapshots))
        except OSError:
            continue
        if len(revisions) == 1:
            return os.path.join(snapshots, revisions[0])
    return None

"""What the load scripts of a trivec export share: its manifest, its files compared with their hashes, its documents, and the comparison of
what an engine finds with what the index found. Python's own library is enough for it."""
import hashlib
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent

# What the engines' packages raise where a service is not there or refuses: its class, or one that it derives from.
OF_SERVICES = {"OperationalError", "MilvusException", "IOException"}


def in_a_line(kind, error, trace):
    """Says in a line that a file, a package or a service is missing. Anything else is a mistake, and keeps its traceback."""
    if issubclass(kind, ImportError):
        print(f"{sys.argv[0]}: {error} (the head of this script says what to install)", file=sys.stderr)
    elif issubclass(kind, OSError) or OF_SERVICES & {base.__name__ for base in kind.__mro__}:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = in_a_line
MANIFEST = json.loads((HERE / "manifest.json").read_text("utf-8"))


def verify():
    """Compares every file with its hash."""
    for file in MANIFEST["files"]:
        digest = hashlib.sha256()
        with open(HERE / file["name"], "rb") as opened:
            while part := opened.read(1 << 20):
                digest.update(part)
        if digest.hexdigest() != file["sha256"]:
            sys.exit(f"{file['name']}: it is not what was exported")


def parts():
    """The files of documents, each small enough for one request."""
    return [HERE / file["name"] for file in MANIFEST["files"] if file["name"].startswith("documents")]


def documents():
    """The lines of all files of documents, as JSON."""
    for part in parts():
        with open(part, encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def asking():
    """The documents whose vectors ask, by key."""
    return {query["key"] for query in MANIFEST["queries"]}


def loaded(count):
    """Compares the number of entries: documents, and each chunk of those that were cut."""
    if count != MANIFEST["entries"]:
        sys.exit(f"{count} entries are there, {MANIFEST['entries']} were exported")
    print(f"{count} entries loaded")


def same(query, arm, found, tolerance):
    """Whether the found keys and scores are the expected ones. Documents whose scores are equal may stand in any order."""
    keys, scores = query[arm], query[arm + "_scores"]
    close = [abs(score - expected) <= tolerance * max(1.0, abs(expected)) for (_, score), expected in zip(found, scores)]
    return len(found) == len(keys) == len({key for key, _ in found}) and all(close)


def compare(arm, find, tolerance=1e-4):
    """`find(query, count)` gives keys and scores, the best first. Ends the program if they are not what the index found."""
    queries = [query for query in MANIFEST["queries"] if query[arm]]
    good = 0
    for query in queries:
        found = [(key, float(score)) for key, score in find(query, len(query[arm]))]
        if same(query, arm, found, tolerance):
            good += 1
        else:
            print(f"{arm}, {query['key']!r}:\n  found    {found}\n  expected {list(zip(query[arm], query[arm + '_scores']))}")
    print(f"{arm}: {good} of {len(queries)} queries find what the index found")
    if good < len(queries):
        sys.exit(1)

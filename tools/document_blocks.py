"""The fenced blocks of the documents: which of them are commands, and that each is run somewhere.

The words after a fence say what is done with a block:

    ```sh first    the two commands with which the README begins; .ci/run runs each as a step of its own
    ```sh run      tools/check_readme.sh runs it as it stands
    ```sh serve    the same, but the lines that begin with `trivec serve` run in the background while the others follow
    ```sh no-run   nobody runs it; the line above has the reason: <!-- not run: … -->
    ```text, json  no command
    ```rust        a doctest, by src/lib.rs (README.md alone)
    ```c, cpp      compiled by tools/check_c.sh (docs/c.md alone)
    ```python, py  run by bindings/python/tests/test_pages.py (`py`: not run, the text says why)

    document_blocks.py check FILE...          fails if a block is none of these
    document_blocks.py script PORT FILE       prints a bash script of the blocks `run` and `serve`; the service gets PORT instead of its own
    document_blocks.py block LANGUAGE FILE    prints the blocks of a language (`c`, or `sh first`), one after the other
"""

import re
import sys

PYTHON = ("docs/python.md", "docs/python/", "bindings/python/")


def blocks(text):
    """The blocks of a document: (line number of the fence, the words after it, the line above it, the text between the fences).

    >>> list(blocks("a\\n<!-- not run: why -->\\n```sh no-run\\nx\\n```\\n"))
    [(3, 'sh no-run', '<!-- not run: why -->', 'x\\n')]
    """
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        fence = re.match(r"(\s*)```(.*)$", lines[at])
        if fence:
            end = at + 1
            while end < len(lines) and lines[end].strip() != "```":
                end += 1
            body = "".join(line.removeprefix(fence[1]) + "\n" for line in lines[at + 1 : end])
            yield at + 1, fence[2].strip(), lines[at - 1].strip() if at else "", body
            at = end
        at += 1


def fault(name, words, above):
    """What is wrong with a block that begins with these words, or None.

    >>> fault("README.md", "sh run", ""), fault("README.md", "text", "")
    (None, None)
    >>> fault("docs/a.md", "", ""), fault("docs/a.md", "sh no-run", "Some text."), fault("docs/a.md", "c", "")
    ('nobody runs it', 'no reason stands above it', 'nobody runs it')
    """
    if words == "sh no-run":
        return None if re.fullmatch(r"<!-- not run: .+ -->", above) else "no reason stands above it"
    if words in ("sh run", "sh serve", "text", "json"):
        return None
    if words in ("rust", "sh first") and name == "README.md" or words in ("c", "cpp") and name == "docs/c.md":
        return None
    if words in ("python", "py") and name.startswith(PYTHON):
        return None
    return "nobody runs it"


def script(text, port):
    """The commands of a document, for bash. Whatever runs in the background ends with the script.

    >>> print(script("```sh serve\\ntrivec serve\\ncurl 127.0.0.1:8737/x\\n```\\n", 9), end="")
    trap 'kill $server 2>/dev/null || true' EXIT
    TRIVEC_PORT=9 trivec serve & server=$!
    curl --silent --fail --retry 600 --retry-delay 1 --retry-connrefused http://127.0.0.1:9/ready >/dev/null
    curl --silent --show-error --fail-with-body 127.0.0.1:9/x
    kill $server && wait $server
    """
    out = ""
    for _, words, _, body in blocks(text):
        if words == "sh run":
            out += body
        if words == "sh serve":
            for line in body.replace("8737", str(port)).splitlines():
                if line.startswith("trivec serve"):
                    command = line.split(" #")[0].rstrip()
                    out += "trap 'kill $server 2>/dev/null || true' EXIT\n"
                    out += f"TRIVEC_PORT={port} {command} & server=$!\n"
                    out += "curl --silent --fail --retry 600 --retry-delay 1 --retry-connrefused "
                    out += f"http://127.0.0.1:{port}/ready >/dev/null\n"
                else:
                    out += line.replace("curl ", "curl --silent --show-error --fail-with-body ", 1) + "\n"
            out += "kill $server && wait $server\n"
    return out


def main(task, *arguments):
    """Does what the text at the top says."""
    if task == "check":
        faults = []
        for name in arguments:
            for line, words, above, _ in blocks(open(name, encoding="utf8").read()):
                wrong = fault(name, words, above)
                if wrong:
                    faults.append(f"{name}:{line}: ```{words}: {wrong} (see tools/document_blocks.py)")
        sys.exit("\n".join(faults) if faults else 0)
    value, name = arguments
    text = open(name, encoding="utf8").read()
    if task == "script":
        print(script(text, int(value)), end="")
    else:
        print("".join(body for _, words, _, body in blocks(text) if words == value), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])

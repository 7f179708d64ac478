"""build.py OUT: writes the wheel `trivec_starter`, which is the packed starter model and one function that says where it lies.

The model is taken from models/ as it is: no copy of it is in the repository. The same files give the same bytes.
"""

import base64
import hashlib
import pathlib
import re
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = '''"""The small model of trivec, as a file: `trivec.Model("starter")` loads it."""

import os


def path() -> str:
    """Where the packed model lies."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "starter.safetensors")
'''


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    version = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    info = f"trivec_starter-{version}.dist-info"
    metadata = (
        f"Metadata-Version: 2.1\nName: trivec-starter\nVersion: {version}\nSummary: The small model of trivec\n"
        "License: MIT\nRequires-Python: >=3.8\nDescription-Content-Type: text/markdown\n\n"
    ) + (ROOT / "models/starter/README.md").read_text()
    wheel = "Wheel-Version: 1.0\nGenerator: trivec\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        "trivec_starter/__init__.py": MODULE.encode(),
        "trivec_starter/py.typed": b"",
        "trivec_starter/starter.safetensors": (ROOT / "models/starter.safetensors").read_bytes(),
        f"{info}/licenses/LICENSE": (ROOT / "models/starter/LICENSE").read_bytes(),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": wheel.encode(),
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in files.items()
    )
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    target = out / f"trivec_starter-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    print(target)


if __name__ == "__main__":
    main()

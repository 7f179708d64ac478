"""add_program.py WHEEL PROGRAM: puts a program into a wheel, in place, so that installing the wheel puts it beside Python's own programs."""

import base64
import hashlib
import os
import sys
import zipfile


def main() -> None:
    wheel, program = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive:
        files = [(entry, archive.read(entry)) for entry in archive.infolist()]
    record = next(entry.filename for entry, _ in files if entry.filename.endswith(".dist-info/RECORD"))
    name = f"{record.removesuffix('.dist-info/RECORD')}.data/scripts/trivec"
    if any(entry.filename == name for entry, _ in files):
        sys.exit(f"{wheel}: {name} is in it already")
    with open(program, "rb") as file:
        data = file.read()
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o100755 << 16
    with zipfile.ZipFile(f"{wheel}.part", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for other, content in files:
            if other.filename == record:
                # The list of files stays the last of them.
                archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
                content = f"{name},sha256={digest},{len(data)}\n".encode() + content
            archive.writestr(other, content, zipfile.ZIP_DEFLATED, 9)
    os.replace(f"{wheel}.part", wheel)


if __name__ == "__main__":
    main()

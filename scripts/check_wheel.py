"""Does a wheel hold what it should? One extension that links neither torch nor a CUDA library, and no source of ours.

python scripts/check_wheel.py WHEEL...
"""

import re
import struct
import sys
import zipfile
from pathlib import Path

ALLOWED = re.compile(
    rb"lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|gomp)\.so\.\d+|ld-linux-x86-64\.so\.2|ld-linux-aarch64\.so\.1"
)


def needed(elf: bytes) -> list[bytes]:
    """The names behind DT_NEEDED of a 64-bit little-endian ELF file."""
    (section_offset,) = struct.unpack_from("<Q", elf, 0x28)
    entry_size, count = struct.unpack_from("<HH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, section_offset + i * entry_size) for i in range(count)]
    dynamic = next(s for s in sections if s[1] == 6)  # SHT_DYNAMIC
    strings = sections[dynamic[6]][4]
    names = []
    for at in range(dynamic[4], dynamic[4] + dynamic[5], 16):
        tag, value = struct.unpack_from("<qQ", elf, at)
        if tag == 1:  # DT_NEEDED
            names.append(elf[strings + value : elf.index(b"\0", strings + value)])
    return names


def main() -> int:
    for path in map(Path, sys.argv[1:]):
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            natives = [n for n in names if n.endswith(".so")]
            if len(natives) != 1 or not natives[0].startswith("pyproj2d3d/_native."):
                return print(f"{path.name}: expected one pyproj2d3d/_native*.so, got {natives}") or 1
            libraries = needed(wheel.read(natives[0]))
        strangers = [n.decode() for n in libraries if not ALLOWED.fullmatch(n)]
        sources = [n for n in names if n.endswith((".cu", ".cpp", ".hpp")) or n.startswith(("tests/", "benchmarks/"))]
        if strangers or sources:
            return print(f"{path.name}: links {strangers}, holds {sources}") or 1
        print(f"{path.name}: {path.stat().st_size >> 10} KiB, links {', '.join(sorted(n.decode() for n in libraries))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

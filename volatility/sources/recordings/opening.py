"""Open what a path names: plain and compressed files, archives, folders, standard input."""

from __future__ import annotations

import bz2
import glob
import hashlib
import io
import lzma
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import pyarrow as pa

from volatility.sources.recordings.chunks import RecordingError

STDIN = Path("-")
HEAD_BYTES = 1 << 18
LAKE_FILES = ("market.json", "gaps.jsonl", "symbols.json")
# A folder with so many files of at most this size holds one message per file.
FEWEST_MESSAGES = 50
MESSAGE_BYTES = 16_384
BLOCK_FILES = 1000

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}


class Entry(msgspec.Struct, frozen=True):
    """Represent one recording: where it is, and how it is called.

    Parameters
    ----------
    path : Path
        The file to read; for a member of an archive a temporary one.
    name : str
        What messages say, such as ``a.zip/BTCUSDT.csv``.
    place : Path
        Where folder names and file name come from.
    listed : bool
        Whether it was found in a folder or archive, rather than named.
    bundle : tuple of Path
        Files of one message each, which are read as one recording.
    """

    path: Path
    name: str
    place: Path
    listed: bool = False
    bundle: tuple[Path, ...] = ()


class Stream(NamedTuple):
    """Represent the decompressed content of a file, and how much of the file was read [0, 1]."""

    file: BinaryIO
    share: Callable[[], float]


def find(paths: Sequence[Path]) -> tuple[list[Entry], list[Path]]:
    """List the files that paths, folders and patterns name, each once, and what does not exist."""
    found: dict[Path, Entry] = {}
    missing = []
    for path in map(Path, paths):
        if path == STDIN:
            found[path] = Entry(path, "standard input", path)
        elif path.is_dir():
            for listed in _bundled(_inside(path)):
                found.setdefault(listed.path, listed)
        elif path.exists():
            found[path] = Entry(path, str(path), path)
        elif matched := _matched(path):
            for one in matched:
                files = _inside(one) if one.is_dir() else [one]
                for listed in _bundled(files):
                    found.setdefault(listed.path, listed)
        else:
            missing.append(path)
    return list(found.values()), missing


def _matched(path: Path) -> list[Path]:
    """Expand a pattern that the shell left alone; a folder and its files count once."""
    if not glob.has_magic(str(path)):
        return []
    names = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207  Path.glob needs a root
    return [name for name in names if not (name.is_dir() and "**" in path.parts)]


def _inside(folder: Path) -> list[Path]:
    """List the files of a folder without hidden ones; of a lake, the parts alone."""
    inside = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    seen = [file for file in inside if not any(part.startswith((".", "_")) for part in file.parts)]
    if any((folder / name).exists() for name in LAKE_FILES):  # another lake
        seen = [file for file in seen if file.parts[0].startswith("symbol=")]
    return [folder / file for file in sorted(seen)]


def _bundled(files: Sequence[Path]) -> list[Entry]:
    """Gather files of a single JSON message, many in a folder, in blocks.

    A block that is full stays the same when files with later names are added.
    """
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        if file.stat().st_size <= MESSAGE_BYTES and _starts_json(file):
            by_folder.setdefault(file.parent, []).append(file)
    many = {folder: small for folder, small in by_folder.items() if len(small) >= FEWEST_MESSAGES}
    gathered = {file for small in many.values() for file in small}
    entries = [Entry(f, str(f), f, listed=True) for f in files if f not in gathered]
    for folder, small in many.items():
        for first in range(0, len(small), BLOCK_FILES):
            block = small[first : first + BLOCK_FILES]
            name = f"{folder} ({len(block)} files from {block[0].name})"
            entries.append(Entry(block[0], name, block[0], listed=True, bundle=tuple(block)))
    return entries


def _starts_json(file: Path) -> bool:
    with file.open("rb") as opened_file:
        return opened_file.read(64).lstrip()[:1] in {b"{", b"["}


@contextmanager
def members(entry: Entry) -> Iterator[Iterator[Entry]]:
    """Open an archive or standard input: each member as a temporary file, one at a time."""
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        yield _members(entry, Path(folder) / "member")


def _members(entry: Entry, scratch: Path) -> Iterator[Entry]:
    if entry.path == STDIN:
        with scratch.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        yield from _members(Entry(scratch, entry.name, entry.place), scratch.with_name("inner"))
        return
    if entry.bundle:
        with scratch.open("wb") as file:
            for path in entry.bundle:
                file.write(_one_line(path.read_bytes()) + b"\n")
        yield Entry(scratch, entry.name, entry.place, listed=True)
        return
    kind = archive(entry.path)
    if kind is None:
        if not _wrapped(entry.path):
            yield entry
            return
        with scratch.open("wb") as file, opened(entry.path) as stream:
            shutil.copyfileobj(stream.file, file, 1 << 20)
        yield Entry(scratch, entry.name, entry.place, entry.listed)
        return
    try:
        for name, source in _zipped(entry.path) if kind == "zip" else _tarred(entry.path):
            parts = Path(name).parts
            if any(part.startswith((".", "__MACOSX")) for part in parts) or ".." in parts:
                continue
            with scratch.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            yield Entry(scratch, f"{entry.name}/{name}", entry.place.parent / name, listed=True)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise RecordingError(f"is a damaged archive ({error}); obtain it again") from error


def _one_line(content: bytes) -> bytes:
    lines = content.strip().split(b"\n")
    if len(lines) > 1 and not lines[1].lstrip().startswith(b"{"):  # pretty-printed
        try:
            return msgspec.json.format(content, indent=-1)
        except msgspec.DecodeError:
            return content.replace(b"\n", b" ")
    return content.strip()


def _zipped(path: Path) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(path) as archived:
        for info in archived.infolist():
            if info.flag_bits & 1:
                raise RecordingError("is encrypted; unpack it, then import the files")
            if not info.is_dir():
                with archived.open(info) as source:
                    yield info.filename, source


def _tarred(path: Path) -> Iterator[tuple[str, Any]]:
    with opened(path) as stream, tarfile.open(fileobj=stream.file, mode="r|") as archived:
        for info in archived:
            source = archived.extractfile(info) if info.isfile() else None
            if source is not None:
                yield info.name, source


def _wrapped(path: Path) -> bool:
    """Return whether a compressed file contains one that can only be read from a plain file."""
    try:
        return bool(_compression(path)) and head(path, 8).startswith((b"PAR1", b"ARROW1"))
    except (OSError, pa.ArrowException, EOFError, lzma.LZMAError):
        return False  # the reader says what is wrong


def archive(path: Path) -> str | None:
    """Return ``zip`` or ``tar`` for an archive, by its content; None for other files."""
    with path.open("rb") as file:
        if file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}:
            return "zip"
    try:
        return "tar" if head(path, 512)[257:262] == b"ustar" else None
    except (OSError, pa.ArrowException, EOFError, lzma.LZMAError):
        return None  # the reader says what is wrong


def content(path: Path) -> list[str]:
    """Return the first 12 hex digits of the SHA-256 of the decompressed content, then of the file.

    Earlier versions knew a compressed file by the second one.
    """
    with path.open("rb") as file:
        found = [hashlib.file_digest(file, "sha256").hexdigest()[:12]]
    if _compression(path):
        digest = hashlib.sha256()
        with opened(path) as stream:
            while block := stream.file.read(1 << 20):
                digest.update(block)
        found.insert(0, digest.hexdigest()[:12])
    return found


def _compression(path: Path) -> str | None:
    with path.open("rb") as raw:
        start = raw.read(6)
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def head(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Read the first bytes of the decompressed content."""
    with opened(path) as stream:
        return stream.file.read(size)


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """Open a file, decompressed by its content: gzip, zstd, bzip2, xz, LZ4 or none."""
    size, kind = max(path.stat().st_size, 1), _compression(path)
    with path.open("rb") as raw:
        yield Stream(_decompressed(raw, kind), lambda: raw.tell() / size)


def _decompressed(raw: BinaryIO, kind: str | None) -> BinaryIO:
    if kind is None:
        return raw
    if kind == "xz":
        return lzma.open(raw)  # type: ignore[return-value]
    if kind == "bz2":
        return bz2.open(raw)  # type: ignore[return-value]
    opened: Any = pa.CompressedInputStream(raw, kind)
    return io.BufferedReader(opened, 1 << 20)

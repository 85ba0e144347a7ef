"""Fetch a range of days: each is downloaded, imported into the lake, noted, and deleted again.

``fetched.json`` in the lake's folder lists the files that the lake has, so a run that was stopped
resumes with the day it was fetching, and the disk never holds more than one day beside the lake.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import msgspec
from tqdm import tqdm

from volatility.fetch import coinbase
from volatility.fetch.download import Downloader, FetchError, Pace
from volatility.fetch.vendors import BINANCE, TARDIS, Vendor
from volatility.files import locked, make_folder, write_json
from volatility.lake import (
    ImportReport,
    Lake,
    LakeError,
    check_market,
    claim_market,
    import_files,
)

FILES: dict[str, Vendor] = {"tardis": TARDIS, "binance": BINANCE}
VENDORS = ("tardis", "binance", "coinbase")
FILE = "fetched.json"
VERSION = 1
FOLDER = "fetching"


class Fetched(msgspec.Struct, frozen=True):
    """Represent the note: the addresses of the files in the lake, and the rows that each had."""

    rows: dict[str, int] = {}
    version: int = VERSION


@dataclass(frozen=True)
class Request:
    """Name what to fetch: a symbol of a vendor, from one day to another, both included.

    ``exchange`` is one of Tardis's, such as ``coinbase`` or ``binance-futures``.
    """

    vendor: str
    symbol: str
    first: date
    last: date
    exchange: str = "coinbase"
    url: str | None = None


@dataclass(frozen=True)
class FetchReport:
    """Represent the result: days by their fate, and what was imported.

    ``empty`` days have a file without rows; ``missing`` ones have none, or not yet.
    """

    fetched: tuple[date, ...] = ()
    held: tuple[date, ...] = ()
    empty: tuple[date, ...] = ()
    missing: tuple[date, ...] = ()
    imported: ImportReport = field(default_factory=ImportReport)


def fetch(
    request: Request,
    root: Path,
    *,
    progress: bool = True,
    pace: Pace | None = None,
    wait: Callable[[float], None] | None = None,
) -> FetchReport:
    """Fetch the days that a lake does not have yet.

    Raises
    ------
    FetchError
        When no day can be had, the vendor fails, or the disk is full.
    ImportingError, LakeError
        When a day cannot be imported; the days before stay.
    """
    days = _days(request)
    market = _market(request)
    check_market(root, market)
    make_folder(root)
    held = _read(root)
    report = FetchReport()
    downloader = Downloader(pace, wait)
    hidden = None if progress else True
    try:
        for day in tqdm(days, desc=f"fetch {request.symbol}", unit="day", disable=hidden):
            url = _address(request, day)
            if url in held:
                report = replace(report, held=(*report.held, day))
                continue
            path = _download(downloader, request, day, root / FOLDER)
            if path is None:
                report = replace(report, missing=(*report.missing, day))
                continue
            rows = _import(path, root, market)
            path.unlink()
            held = _note(root, url, rows.rows)
            kind = {"fetched": (*report.fetched, day)} if rows.rows else {}
            kind |= {} if rows.rows else {"empty": (*report.empty, day)}
            report = replace(report, imported=report.imported + rows, **kind)
    finally:
        downloader.close()
        _clear(root / FOLDER)
    return report


def _days(request: Request) -> list[date]:
    count = (request.last - request.first).days + 1
    if count < 1:
        raise FetchError(f"--to {request.last} is before --from {request.first}; swap them")
    days = [request.first + timedelta(days=n) for n in range(count)]
    vendor = FILES.get(request.vendor)
    free = [day for day in days if vendor is None or vendor.is_free(day)]
    if not free:
        raise FetchError(
            f"{request.vendor} gives only the first day of each month without a key, and none is "
            f"from {request.first} to {request.last}; begin with {request.first.replace(day=1)}"
        )
    return free


def _market(request: Request) -> str:
    vendor = FILES.get(request.vendor)
    return vendor.market(request.symbol, request.exchange) if vendor else "coinbase"


def _address(request: Request, day: date) -> str:
    vendor = FILES.get(request.vendor)
    if vendor is None:
        return f"{coinbase.URL}/products/{request.symbol}/trades#{day}"
    return vendor.file(request.symbol, request.exchange, day).url


def _download(downloader: Downloader, request: Request, day: date, folder: Path) -> Path | None:
    make_folder(folder)
    vendor = FILES.get(request.vendor)
    if vendor is None:
        path = folder / f"coinbase-{request.symbol}-trades-{day}.csv.gz"
        return coinbase.trades_of_day(downloader, request.symbol, day, path, request.url)
    file = vendor.file(request.symbol, request.exchange, day, request.url)
    checksum = None
    if file.has_checksum:
        answer = downloader.get(f"{file.url}.CHECKSUM")
        if answer is None:
            return None
        checksum = answer.text.split()[0] if answer.text.split() else ""
    return downloader.file(file.url, folder / file.name, checksum)


def _import(path: Path, root: Path, market: str) -> ImportReport:
    if path.name.endswith(".gz") and _is_empty(path):
        return ImportReport()
    claim_market(root, market)
    return import_files([path], Lake(root), progress=False)


def _is_empty(path: Path) -> bool:
    with gzip.open(path) as file:
        return not file.read(1)


def _read(root: Path) -> dict[str, int]:
    path = root / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Fetched).rows
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise LakeError(
            f"cannot read {path} ({error}); delete it to fetch all days again"
        ) from error


def _note(root: Path, url: str, rows: int) -> dict[str, int]:
    with locked(root):
        held = _read(root) | {url: rows}
        write_json(root / FILE, msgspec.to_builtins(Fetched(held)))
    return held


def _clear(folder: Path) -> None:
    """Remove the folder unless a file in it broke off, which the next run goes on with."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()

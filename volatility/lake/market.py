"""Note which kind of market a lake holds, so that a simulated and a real one never mix.

The note is the file ``market.json`` in the lake's folder. A lake without one, of an earlier
release, is judged by what only one kind of market leaves in it.

>>> import tempfile
>>> root = Path(tempfile.mkdtemp())
>>> market_of(root)
>>> claim_market(root, SIMULATED)
>>> market_of(root)
'simulated'
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from volatility.files import write_once
from volatility.lake.parts import LakeError

Market = Literal["real", "simulated"]
REAL: Market = "real"
SIMULATED: Market = "simulated"

FILE = "market.json"
STANDING = "standing-market.json"  # written by volatility.dev.standing_market
VERSION = 1


class Note(msgspec.Struct, frozen=True):
    """Represent the content of the note."""

    market: Market
    version: int = VERSION


def market_of(root: Path) -> Market | None:
    """Return which kind of market a lake holds; None if nothing tells.

    Raises
    ------
    LakeError
        When the note cannot be read.
    """
    path = root / FILE
    try:
        return _decode(path, path.read_bytes())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LakeError(f"cannot read {path}: {error.strerror}") from error
    if (root / STANDING).exists() or _has_parts(root, "simulate"):
        return SIMULATED
    return REAL if _has_parts(root, "import") else None


def check_market(root: Path, market: Market) -> None:
    """Check that a lake may take records of a market.

    Raises
    ------
    LakeError
        When it holds the other kind.
    """
    held = market_of(root)
    if held not in (None, market):
        raise _mixed(root, held, market)


def claim_market(root: Path, market: Market) -> None:
    """Note which kind of market a lake holds. Among several processes, the first one decides.

    Raises
    ------
    LakeError
        When it holds the other kind, or the note cannot be written.
    """
    check_market(root, market)
    path = root / FILE
    try:
        held = _decode(path, write_once(path, msgspec.json.encode(Note(market)) + b"\n"))
    except OSError as error:
        raise LakeError(f"cannot write {path} ({error.strerror}); make it writable") from error
    if held != market:
        raise _mixed(root, held, market)


def _decode(path: Path, content: bytes) -> Market:
    try:
        return msgspec.json.decode(content, type=Note).market
    except msgspec.MsgspecError as error:
        raise LakeError(
            f'{path} is damaged ({error}); write {{"market": "real"}} or '
            '{"market": "simulated"} into it, whichever the lake holds'
        ) from error


def _has_parts(root: Path, source: str) -> bool:
    return next(root.glob(f"symbol=*/date=*/part-{source}.*.parquet"), None) is not None


def _mixed(root: Path, held: str | None, market: str) -> LakeError:
    return LakeError(
        f"the lake {root} holds a {held} market, and a {market} one must not be mixed into it: "
        'use another folder and another topic; docs/runbook.md, "Change the market", says how'
    )

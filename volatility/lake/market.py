"""Note whose market a lake holds, so that venues, and a simulated market, never mix.

A market has the name of its venue, such as ``coinbase``, or is ``simulated``. Recordings of no
named venue, and what earlier releases streamed from Coinbase, are ``real``. A real lake takes
Coinbase's market, and any venue's lake takes recordings.

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
from typing import Annotated

import msgspec

from volatility.files import write_once
from volatility.lake.parts import LakeError

Market = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
REAL: Market = "real"
SIMULATED: Market = "simulated"
COINBASE: Market = "coinbase"

FILE = "market.json"
STANDING = "standing-market.json"  # written by volatility.dev.standing_market
VERSION = 2  # 1: real or simulated


class Note(msgspec.Struct, frozen=True):
    """Represent the content of the note."""

    market: Market
    version: int = VERSION


def market_of(root: Path) -> Market | None:
    """Return whose market a lake holds; None if nothing tells.

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


def mixes(held: str, market: str) -> bool:
    """Return whether records of a market would mix with those of another.

    >>> mixes("real", "coinbase"), mixes("kraken", "real"), mixes("real", "kraken")
    (False, False, True)
    """
    if held == market:
        return False
    return SIMULATED in {held, market} or (market != REAL and (held, market) != (REAL, COINBASE))


def check_market(root: Path, market: Market) -> None:
    """Check that a lake may take records of a market.

    Raises
    ------
    LakeError
        When it holds another.
    """
    held = market_of(root)
    if held is not None and mixes(held, market):
        raise _mixed(root, held, market)


def claim_market(root: Path, market: Market) -> None:
    """Note whose market a lake holds. Among several processes, the first one decides.

    Raises
    ------
    LakeError
        When it holds another, or the note cannot be written.
    """
    check_market(root, market)
    path = root / FILE
    try:
        held = _decode(path, write_once(path, msgspec.json.encode(Note(market)) + b"\n"))
    except OSError as error:
        raise LakeError(f"cannot write {path} ({error.strerror}); make it writable") from error
    if mixes(held, market):
        raise _mixed(root, held, market)


def _decode(path: Path, content: bytes) -> Market:
    try:
        return msgspec.json.decode(content, type=Note).market
    except msgspec.MsgspecError as error:
        raise LakeError(
            f'{path} is damaged ({error}); write {{"market": "real"}}, '
            '{"market": "simulated"} or the name of a venue into it, whichever the lake holds'
        ) from error


def _has_parts(root: Path, source: str) -> bool:
    return next(root.glob(f"symbol=*/date=*/part-{source}.*.parquet"), None) is not None


def _mixed(root: Path, held: str | None, market: str) -> LakeError:
    return LakeError(
        f"the lake {root} holds a {held} market, and a {market} one must not be mixed into it: "
        'use another folder and another topic; docs/runbook.md, "Change the market", says how'
    )

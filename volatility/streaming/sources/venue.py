"""Describe what differs between venues; whatever they have in common is in ``feed`` and ``live``.

A venue is a constant in the file of its name beside this one: its address, its subscriptions, the
decoder of its messages, and the rules by which its losses and repetitions show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from volatility.sources import Decoder

Requests = Sequence[Sequence[str]]  # the symbols of each request


@dataclass(frozen=True)
class Venue:
    """Describe one public feed of a venue.

    Parameters
    ----------
    name : str
        Of the market, which lake and topic bear: ``coinbase``.
    url : str
    example : tuple of str
        Symbols that the venue lists; they are the default.
    decoder : callable
        Takes the requested symbols and returns the ``Decoder`` of their messages.
    subscriptions : callable
        Takes the symbols of each request and returns the messages that subscribe them, in order.
    messages_per_second : int
        That a client may send.
    heartbeats : {"connection", "product", "traffic"}
        What moves the clock of a silent symbol: a heartbeat every second for the whole connection,
        or for each product; or any message, where the venue promises no heartbeat while others
        trade.
    repeated_quotes : {"snapshot", "number", "content"}
        A quote without a trade's number repeats another if it is a snapshot of the same content,
        if its number is not greater than the last one, or if its content is that of the last tick.
    refuses_one : bool
        Whether a refusal concerns the product that it names, and not the whole request.
    one_book : frozenset of str
        Quote currencies that share an order book.
    """

    name: str
    url: str
    example: tuple[str, ...]
    decoder: Callable[[Sequence[str]], Decoder]
    subscriptions: Callable[[Requests], tuple[bytes, ...]]
    messages_per_second: int
    heartbeats: Literal["connection", "product", "traffic"]
    repeated_quotes: Literal["snapshot", "number", "content"] = "snapshot"
    refuses_one: bool = False
    one_book: frozenset[str] = frozenset()

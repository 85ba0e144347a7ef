"""Follow the sequence numbers of a venue's messages, to detect losses and repetitions.

>>> tracker = SequenceTracker(0)
>>> [tracker.take(number) for number in (0, 1, 4, 4, 3, 5)]
[0, 0, 2, -1, 0, 0]
"""

from __future__ import annotations

REPEATED = -1
MAX_HOLES = 1024  # remembered; a message that arrives after more losses counts as repeated


class SequenceTracker:
    """Detect, for each number, whether earlier ones were skipped or it has been seen before.

    A skipped number that arrives late is new once; it is not a repetition.

    Parameters
    ----------
    following : int, optional
        The number expected next; by default any.
    """

    def __init__(self, following: int | None = None) -> None:
        self.following = following
        self._holes: list[tuple[int, int]] = []

    def take(self, number: int) -> int:
        """Return how many numbers were skipped before this one; ``REPEATED`` if seen before."""
        if self.following is None or number >= self.following:
            lost = self.skip(number)
            self.following = number + 1
            return lost
        for index, (start, stop) in enumerate(self._holes):
            if start <= number < stop:
                rest = ((start, number), (number + 1, stop))
                self._holes[index : index + 1] = [hole for hole in rest if hole[0] < hole[1]]
                return 0
        return REPEATED

    def skip(self, number: int) -> int:
        """Give up on the numbers missing before this one; return how many there are."""
        lost = 0 if self.following is None else number - self.following
        if lost <= 0:
            return 0
        self._holes.append((number - lost, number))
        del self._holes[:-MAX_HOLES]
        self.following = number
        return lost

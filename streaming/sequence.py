"""Follow a counter that a venue writes on its messages, to notice what is lost or repeated.

>>> numbers = Numbers(0)
>>> [numbers.take(number) for number in (0, 1, 4, 4, 3, 5)]
[0, 0, 2, -1, 0, 0]
"""

from __future__ import annotations

REPEATED = -1
MAX_HOLES = 1024  # remembered; a message later than that many losses counts as repeated


class Numbers:
    """Tell for each number whether some before it were left out, or whether it came before.

    A number that was left out and comes late is new, once: it is not a repetition.

    Parameters
    ----------
    following : int, optional
        The number that comes next; any where absent.
    """

    def __init__(self, following: int | None = None) -> None:
        self.following = following
        self._holes: list[tuple[int, int]] = []

    def take(self, number: int) -> int:
        """Count the numbers left out just before this one; ``REPEATED`` when it came before."""
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
        """Give up what should have come before a number; says how many that are."""
        lost = 0 if self.following is None else number - self.following
        if lost <= 0:
            return 0
        self._holes.append((number - lost, number))
        del self._holes[:-MAX_HOLES]
        self.following = number
        return lost

"""What the sides of the inference benchmark are found to do, round by round."""

from benchmarks.apart import Apart
from benchmarks.measure import Measured
from benchmarks.published import PublishedAnswer
from benchmarks.ways import Way


class PublishedFound:
    """The published procedure: one question a round.

    Args:
        side: a `PublishedSide`.
    """

    def __init__(self, side: Apart) -> None:
        self._side = side
        self.measured = Measured()
        self.answers: dict[int, PublishedAnswer] = {}

    def take(self) -> None:
        """Run a round."""
        self.measured.include(self._side.call("ask_next"))
        number, answer = self.measured.last
        self.answers[number] = answer


class WayFound:
    """Ours in one of the ways: a round is matrices, one question, and all questions.

    Args:
        side: an `OurSide`.
        num_questions: how many all are.
    """

    def __init__(self, side: Apart, way: Way, num_questions: int) -> None:
        self.side, self.way = side, way
        self.rate = Measured()
        self.asked = {count: Measured() for count in (1, num_questions)}
        self.rate_flops: int = side.call("rate_flops")
        self.weight_bytes: int = side.call("weight_bytes")
        self.warm_up: Measured = side.call("warm_up")
        self._compiled_first: int = side.call("compiled_graphs")
        self.compiled_again = 0

    def take(self) -> None:
        """Run a round."""
        self.rate.include(self.side.call("rate"))
        for count, measured in self.asked.items():
            measured.include(self.side.call("ask", count))

    def finish(self) -> None:
        """See what came of the rounds beside their figures."""
        self.compiled_again = self.side.call("compiled_graphs") - self._compiled_first

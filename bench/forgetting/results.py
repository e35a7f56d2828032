"""What the page's sections are made of: the rows of today's table, as points and as readings."""

from collections.abc import Mapping
from typing import Any

from bench.forgetting import afterwards, analysis, plan
from bench.forgetting.statistics import SHARES

IN_WORDS = {"lab_nli": "NLI", "lab_translate_quellan": "translation into Quellan"}


class Results:
    """What the sections are made of.

    Attributes:
      rows: of runs that are methods; `beside`: of runs that go on with something.
      others: how many rows are of runs that the table no longer has, and are left out.
      wanted: how many runs the table has.
      points, bases: see `analysis`.
      targets: those that there are runs of.
      read: (target, share) -> `analysis.readings`.
    """

    def __init__(self, known: Mapping[str, Mapping[str, Any]]):
        runs = plan.with_those_before(plan.everything())
        every = [row for name, row in sorted(known.items()) if name in runs]
        self.others = len(known) - len(every)  # of runs that the table no longer has
        self.wanted = len(runs)
        self.rows = [row for row in every if afterwards.goes_on_with(row["method"]) is None]
        self.beside = [row for row in every if afterwards.goes_on_with(row["method"]) is not None]
        self.points = analysis.points(self.rows)
        self.bases = analysis.bases(self.rows)
        self.targets = [t for t in plan.TARGETS if any(where == t for where, _ in self.points)]
        self.read = {
            (target, share): analysis.readings(self.points, target, share)
            for target in self.targets
            for share in SHARES
        }

"""A method's colour and marker: the same in the table and in all pictures.

Okabe and Ito's palette, distinct for colour-blind readers.
"""

from collections.abc import Sequence

KNOWN = {
    "base": ("#6B6B6B", "*"),
    "finetune": ("#D55E00", "s"),
    "promot": ("#0072B2", "o"),
    "promot_joint": ("#009E73", "D"),
    "prompt_tuning": ("#CC79A7", "^"),
}
OTHERS = [("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#B8A900", "<"), ("#8C564B", ">")]


def looks(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Method -> (colour, marker); the recipes' own are fixed, others follow in order."""
    unknown = [method for method in methods if method not in KNOWN]
    spare = {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(unknown)}
    return {method: KNOWN.get(method) or spare[method] for method in methods}

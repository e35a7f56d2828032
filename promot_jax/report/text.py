"""Foreign text made fit to be shown: names, samples and settings are what somebody wrote.

In the page all of it goes through `html.escape`, in Markdown through `markdown`, in pictures
through `label`; control characters, which could steer a terminal or turn the writing direction, and
halves of characters go through none of them. And numbers as people write them.
"""

import re

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
# Control characters, halves of characters, and what turns the writing direction.
UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
LABEL = 48  # characters of a name in a picture


def clean(text: str) -> str:
    """The text with its lines, without what cannot be shown."""
    return UNFIT.sub(UNKNOWN, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same in one line."""
    return clean(" ".join(text.split()))


def shortened(text: str, most: int) -> str:
    """At most so many characters of a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def label(text: str) -> str:
    """A name in a picture: short, and not hidden, as Matplotlib hides what begins with `_`."""
    text = shortened(one_line(text), LABEL)
    return f" {text}" if text.startswith("_") else text


def markdown(text: str) -> str:
    """A text in a cell of a Markdown table, as text: no markup, HTML or formula."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\|`*\[\]$~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)


def number(value: float, top: float = 1.0) -> str:
    """Three decimals for shares, two on scales to 100 and for what is above its scale."""
    return f"{value:.3f}" if top <= 1 and abs(value) <= 1 else f"{value:.2f}"


def percent(share: float) -> str:
    """`97 %`; one decimal where rounding would claim all or nothing."""
    whole = round(100 * share)
    exact = abs(100 * share - whole) < 0.05
    return f"{100 * share:.1f} %" if whole in (0, 100) and not exact else f"{whole} %"


def rate_text(rate: float | None) -> str:
    """`3e-4`, as people write learning rates."""
    if rate is None:
        return "–"
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def count(n: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"

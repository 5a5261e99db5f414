"""What is written about measurements: figures, Markdown tables, and their place in the README."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def figure(value, factor=1.0):
    """A number with three digits, or - for None."""
    if value is None:
        return "-"
    value *= factor
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def ratio(slow, fast):
    """How many times faster, or -."""
    return figure(slow / fast) if slow and fast else "-"


def table(head, rows):
    """A Markdown table whose columns are aligned as text too: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [f"{'-' * (width - 1)}{':' if place else '-'}" for place, width in enumerate(widths)]

    def line(cells):
        aligned = [f"{cell:>{width}}" if place else f"{cell:<{width}}" for place, (cell, width) in numbered(cells)]
        return f"| {' | '.join(aligned)} |"

    def numbered(cells):
        return enumerate(zip(cells, widths, strict=True))

    return "\n".join([line(head), line(rule), *map(line, rows)])


def paragraphs(*texts):
    """Texts with an empty line between them, wrapped unless they are tables."""
    return "\n\n".join(text if text.startswith("|") else textwrap.fill(" ".join(text.split()), 120) for text in texts)


def faster_peers(races):
    """The sentence that says which peers were faster than numbanet; races: (name, {peer: seconds or None})."""
    if not any(value for _, seconds in races for peer, value in seconds.items() if peer != "numbanet"):
        return "No peer was measured."
    ahead = [
        f"{peer} in {name} ({figure(seconds['numbanet'] / value)} times)"
        for name, seconds in races
        for peer, value in seconds.items()
        if value and seconds["numbanet"] and value < seconds["numbanet"]
    ]
    return f"Faster than numbanet: {'; '.join(ahead)}." if ahead else "No peer was faster."


def progress(text):
    """Tell whoever waits what is being measured."""
    print(text, file=sys.stderr, flush=True)


def place(section):
    """The README, and where in it the tables of a section begin and end; ends with a sentence if it has no place."""
    text = README.read_text(encoding="utf-8")
    first, last = f"<!-- {section} -->", f"<!-- /{section} -->"
    begin, end = text.find(first), text.find(last)
    if not 0 <= begin < end:
        raise SystemExit(f"{README.name} has no place for the tables: it needs the lines {first} and {last}")
    return text, begin + len(first), end


def write(section, tables):
    """Put the tables of a section into the README, which is replaced as a whole."""
    from numbanet.io.files import write_whole

    text, begin, end = place(section)
    write_whole(README, f"{text[:begin]}\n{tables}\n{text[end:]}".encode())

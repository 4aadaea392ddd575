"""How figures are told: medians, as multiples of the floor's, and what was promised beside them. Pure."""

from statistics import median, quantiles
from typing import Final

from loadtest.scenarios import BATCH, ECHO, FIGURES, OPEN, RSS, SINGLE, Samples

FLOOR: Final = "floor"

_HEADS: Final = {
    ECHO: "echo µs",
    SINGLE: "delivery µs",
    BATCH: "delivery µs, 16 waiting",
    OPEN: "open µs",
    RSS: "idle KiB",
}

# The floor allocates 64 KiB for each connection and reads HTTP with strstr: neither says anything.
_SENSELESS: Final = {(FLOOR, OPEN), (FLOOR, RSS)}

_PROMISED: Final = {("gateway", SINGLE): 1.6, ("gateway", BATCH): 0.2}
_PROMISED_KIB: Final = {"gateway": 14.0}


def table(samples: Samples) -> list[str]:
    """Lay out everything, as Markdown."""
    shown = [figure for figure in FIGURES if any(figure in figures for figures in samples.values())]
    columns = ["server", *(_HEADS[figure] for figure in shown)]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    rows = ([name, *(_cell(samples, name, figure) for figure in shown)] for name in samples)
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def verdicts(samples: Samples) -> list[str]:
    """Compare with what was promised; the range is that of the middle half of the turns."""
    lines = []
    for (name, figure), most in _PROMISED.items():
        ratios = ratios_of(samples, name, figure)
        if ratios:
            middle = median(ratios)
            low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (middle, middle, middle)
            told = f"{middle:.2f} × the floor ({low:.2f} to {high:.2f}), promised {most} ×"
            lines.append(f"{name}, {figure}: {told}{_missed(middle > most)}")
    for name, most_kib in _PROMISED_KIB.items():
        values = samples.get(name, {}).get(RSS)
        if values:
            told = f"{median(values):.1f} KiB, promised {most_kib:.0f} KiB"
            lines.append(f"{name}, idle connection: {told}{_missed(median(values) > most_kib)}")
    return lines


def ratios_of(samples: Samples, name: str, figure: str) -> list[float]:
    """Divide each turn by the floor's turn a moment before. Empty where there is no floor to compare with."""
    # A message of a batch is compared with one delivery of the floor, which sends each by itself.
    base = samples.get(FLOOR, {}).get(SINGLE if figure == BATCH else figure, [])
    values = samples.get(name, {}).get(figure, [])
    if figure in (OPEN, RSS):
        return []
    return [value / floor for value, floor in zip(values, base, strict=False)]


def _cell(samples: Samples, name: str, figure: str) -> str:
    values = samples[name].get(figure)
    if not values or (name, figure) in _SENSELESS:
        return "–"
    ratios = ratios_of(samples, name, figure) if (name, figure) != (FLOOR, SINGLE) else []
    return f"{median(values):.2f}" + (f" ({median(ratios):.2f} ×)" if ratios else "")


def _missed(is_missed: bool) -> str:
    return "  MISSED" if is_missed else ""

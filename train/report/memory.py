"""What each phase of a run takes, as bars beside full training and the budget."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Optional

from common.web_page import text
from train.report.record import RunRecord

PHASES = ("selection", "training", "evaluation")
ACCOUNTS = {
    "estimate": "estimate",
    "paper": "paper",
    "measured_allocator": "measured",
}
EXPLAINED = (
    "Estimate: what it should take (weights, gradients, momentum, activations that are alive at "
    "the peak). Paper: the accounting of its Table 3, as printed, which counts the batch twice, "
    "frozen weights as 4-bit, and gradients and momentum as zero. Measured: the peak of "
    "TensorFlow's allocator on this machine. MB of 1e6 bytes."
)


class Bar(NamedTuple):
    """One bar."""

    group: str
    account: str
    megabytes: float


def bars_of(record: RunRecord) -> list[Bar]:
    """Every phase that took place by every account, then full training by those that estimate."""
    memory = record.result["memory"]
    groups = {phase: {name: memory[name].get(phase) for name in ACCOUNTS} for phase in PHASES}
    groups["full training"] = record.result.get("full_training") or {}
    return [
        Bar(group, account, megabytes)
        for group, accounts in groups.items()
        for account, megabytes in accounts.items()
        if megabytes is not None
    ]


def section(record: RunRecord) -> str:
    """HTML."""
    bars = bars_of(record)
    if not bars:
        return "<p>Nothing was measured or estimated before the run ended.</p>"
    budget = record.config["memory_budget"]
    parts = [
        f"<p>{text(EXPLAINED)}</p>",
        bar_table("Peak memory by phase, MB", bars, budget),
    ]
    parts += [f"<p>{text(line)}</p>" for line in (*_budget(record), *_resident(record))]
    return "\n".join(parts)


def bar_table(caption: str, bars: Sequence[Bar], budget: Optional[float] = None) -> str:
    """HTML.

    Args:
        bars: at least one; those of a group one after another.
        budget: MB, a line across all bars, and a bar of its own.
    """
    if budget is not None:
        bars = [*bars, Bar("budget", "budget", budget)]
    longest = max(bar.megabytes for bar in bars) or 1.0
    limit = ""
    if budget is not None:
        limit = f'<i class="limit" style="left:{100 * budget / longest:.2f}%"></i>'
    groups = "".join(
        f'<tbody><tr><th scope="rowgroup" colspan="3">{text(group)}</th></tr>'
        f"{''.join(_row(bar, longest, limit) for bar in some)}</tbody>"
        for group, some in itertools.groupby(bars, lambda bar: bar.group)
    )
    return (
        f'<table class="bars"><caption>{text(caption)}</caption><thead><tr><th scope="col">account'
        '</th><th scope="col"><span class="unseen">bar</span></th><th scope="col" class="number">'
        f"MB</th></tr></thead>{groups}</table>"
    )


def _row(bar: Bar, longest: float, limit: str) -> str:
    return (
        f"<tr><td>{text(ACCOUNTS.get(bar.account, bar.account))}</td>"
        f'<td class="bar" aria-hidden="true"><div><span class="{bar.account}" '
        f'style="width:{100 * bar.megabytes / longest:.2f}%"></span>{limit}</div></td>'
        f'<td class="number">{bar.megabytes:,.2f}</td></tr>'
    )


def _budget(record: RunRecord) -> list[str]:
    budget = record.result["budget"]
    if budget is None:
        return []
    if budget["measured_peak_mb"] is None:
        return [f"Of the budget of {budget['budget_mb']:g} MB nothing is known here."]
    return [
        f"The largest measured peak was {budget['measured_peak_mb']:.2f} MB, in "
        f"{budget['phase']}: {budget['share']:.0%} of the budget of {budget['budget_mb']:g} MB "
        "(the line across the bars)."
    ]


def _resident(record: RunRecord) -> list[str]:
    resident = record.result["memory"]["measured_rss"]
    found = [f"{resident[phase]:,.0f} MB in {phase}" for phase in PHASES if resident.get(phase)]
    if not found:
        return []
    return [f"The whole process, Python and TensorFlow included, held {', '.join(found)}."]

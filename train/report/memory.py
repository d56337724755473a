"""What each phase of a run takes, as bars beside full training and the budget."""

from __future__ import annotations

from typing import NamedTuple, Optional

from common.web_page import text
from train.report.record import RunRecord

PHASES = ("selection", "training", "evaluation")
ACCOUNTS = {
    "estimate": "estimate",
    "paper": "paper's accounting",
    "measured_allocator": "measured",
}
EXPLAINED = (
    "Estimate: what it should take (weights, gradients, momentum, activations that are alive at "
    "the peak). Paper's accounting: Table 3's, as printed, which counts the batch twice, frozen "
    "weights as 4-bit, and gradients and momentum as zero. Measured: the peak of TensorFlow's "
    "allocator on this machine. MB of 1e6 bytes."
)


class Bar(NamedTuple):
    """One bar; None where the account does not say."""

    group: str
    account: str
    megabytes: Optional[float]


def bars_of(record: RunRecord) -> list[Bar]:
    """Every phase that took place by every account, then full training by those that estimate."""
    memory = record.result["memory"]
    bars = [
        Bar(phase, account, memory[account].get(phase)) for phase in PHASES for account in ACCOUNTS
    ]
    full = record.result.get("full_training") or {}
    bars += [Bar("full training", account, value) for account, value in full.items()]
    return [bar for bar in bars if bar.megabytes is not None]


def section(record: RunRecord) -> str:
    """HTML."""
    bars = bars_of(record)
    if not bars:
        return "<p>Nothing was measured or estimated before the run ended.</p>"
    budget = record.config["memory_budget"]
    parts = [f"<p>{text(EXPLAINED)}</p>", _table(bars, budget)]
    parts += [f"<p>{text(line)}</p>" for line in (*_budget(record), *_resident(record))]
    return "\n".join(parts)


def _table(bars: list[Bar], budget: Optional[float]) -> str:
    longest = max(filter(None, [*(bar.megabytes for bar in bars), budget]), default=1.0)
    rows, before = [], ""
    for bar in bars:
        head = ""
        if bar.group != before:
            span = sum(other.group == bar.group for other in bars)
            note = " (estimated)" if bar.group == "full training" else ""
            head = f'<th scope="rowgroup" rowspan="{span}">{bar.group}{note}</th>'
            before = bar.group
        rows.append(_row(bar, head, longest, budget))
    if budget is not None:
        head = '<th scope="rowgroup">budget</th>'
        rows.append(_row(Bar("", "budget", budget), head, longest, budget))
    return (
        '<table class="bars"><caption>Peak memory by phase, MB</caption><thead><tr>'
        '<th scope="col">phase</th><th scope="col">account</th><th scope="col">'
        '<span class="unseen">bar</span></th><th scope="col" class="number">MB</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(bar: Bar, head: str, longest: float, budget: Optional[float]) -> str:
    assert bar.megabytes is not None
    width = 100 * bar.megabytes / longest
    limit = ""
    if budget is not None:
        limit = f'<i class="limit" style="left:{100 * budget / longest:.2f}%"></i>'
    return (
        f"<tr>{head}<td>{text(ACCOUNTS.get(bar.account, bar.account))}</td>"
        f'<td class="bar" aria-hidden="true"><div><span class="{bar.account}" '
        f'style="width:{width:.2f}%"></span>{limit}</div></td>'
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
    found = [f"{phase} {resident[phase]:,.0f}" for phase in PHASES if resident.get(phase)]
    if not found:
        return []
    return [f"The whole process, Python and TensorFlow included, held at most: {', '.join(found)}."]

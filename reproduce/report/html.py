"""``index.html``: every report made so far on one page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from common.files import read_json, write_text
from common.web_page import document, inline, text
from reproduce.report.render import made_lines, missing_label, reading_line, reasons_of
from reproduce.report.tables import Cell, Table, best_columns, number, ours_text, read_tables

TITLE = "AdaBet: the paper's tables and figures, reproduced"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0; }
main { max-width: 1180px; margin: 0 auto; padding: 0 24px 80px; }
nav { position: sticky; top: 0; z-index: 2; background: #fff; border-bottom: 1px solid #ddd;
  padding: 8px 0; }
nav a { display: inline-block; margin-right: 14px; color: #1b5e8a; text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { border-top: 2px solid #1a1a1a; margin-top: 48px; scroll-margin-top: 60px; }
h1 { font-size: 26px; } h2 { font-size: 21px; } h3 { font-size: 16px; margin-bottom: 6px; }
p, ol { max-width: 90ch; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { border-bottom: 1px solid #ddd; padding: 5px 9px; text-align: right; vertical-align: top; }
th { background: #f2f2f2; font-weight: 600; } th.group { text-align: center; }
th:first-child { text-align: left; position: sticky; left: 0; }
tbody th { background: #fff; font-weight: 500; }
td div { white-space: nowrap; }
tbody th { min-width: 150px; }
.best { font-weight: 700; color: #1b7837; } .paperbest { font-style: italic; font-weight: 600; }
.paper, .why { color: #666; } .note { color: #8a5a00; }
img { max-width: 100%; height: auto; margin: 8px 0; }
.made { color: #666; font-size: 13px; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { img { background: #fff; } }
"""


def write_index(reports_dir: Path | str, order: Sequence[str]) -> Path:
    """Write ``<reports_dir>/index.html`` from the reports that lie there and return it.

    Args:
        order: names of reports as they are to stand; others follow, by name.
    """
    root = Path(reports_dir)
    found = {path.parent.name: path for path in root.glob("*/report.json")}
    names = [name for name in order if name in found]
    names += sorted(set(found) - set(names))
    sections, links = [], []
    for name in names:
        content = read_json(found[name])
        links.append(f'<a href="#{text(name)}">{text(content["place"])}</a>')
        sections.append(_section(content, found[name].parent))
    body = "\n".join(
        [
            f"<main>\n<h1>{text(TITLE)}</h1>",
            "<p>AdaBet: Gradient-free Layer Selection for Efficient Training of Deep Neural "
            "Networks (arXiv 2510.03101v2). Every number is measured, or the paper's and marked "
            "so; what was not run says why.</p>",
            f"<nav>{' '.join(links)}</nav>",
            *sections,
            "</main>",
        ]
    )
    path = root / "index.html"
    write_text(path, document(TITLE, _STYLE, body))
    return path


def _section(content: dict, folder: Path) -> str:
    tables = read_tables(content)
    reasons = reasons_of(tables)
    parts = [
        f'<section id="{text(content["name"])}">',
        f"<h2>{text(content['place'])}: {text(content['title'])}</h2>",
        f"<p>{inline(content['caption'])}</p>",
    ]
    if content["figure"]:
        image = base64.b64encode((folder / "figure.png").read_bytes()).decode("ascii")
        alt = f"{content['place']}: {content['title']}"
        parts.append(f'<img alt="{text(alt)}" src="data:image/png;base64,{image}">')
    parts += [_table(table, reasons) for table in tables]
    if reading_line(tables):
        parts.append(f"<p>{text(reading_line(tables))}</p>")
    if reasons:
        items = "".join(f"<li>{inline(reason)}</li>" for reason in reasons)
        parts.append(f"<p>Without a value of ours, and why:</p><ol>{items}</ol>")
    parts += [f"<p>{inline(note)}</p>" for note in content["notes"]]
    lines = "<br>".join(f"{text(k)}: {text(v)}" for k, v in made_lines(content["meta"]))
    parts.append(f'<p class="made">{lines}</p></section>')
    return "\n".join(parts)


def _table(table: Table, reasons: Sequence[str]) -> str:
    unit = f" ({table.unit})" if table.unit else ""
    head = "".join(f"<th>{text(column)}</th>" for column in table.columns)
    rows = [f"<tr><th>{text(table.corner)}</th>{head}</tr>"]
    if table.head_groups:
        groups = "".join(
            f'<th class="group" colspan="{span}">{text(title)}</th>'
            for title, span in table.head_groups
        )
        rows.insert(0, f"<tr><th></th>{groups}</tr>")
    body = []
    for label, cells in table.rows:
        ours, paper = (best_columns(cells, table.best, of_paper) for of_paper in (False, True))
        texts = "".join(
            _cell(cell, table.digits, column in ours, column in paper, reasons)
            for column, cell in enumerate(cells)
        )
        body.append(f"<tr><th>{inline(label)}</th>{texts}</tr>")
    return (
        f'<h3>{text(table.title)}{text(unit)}</h3><div class="scroll"><table>'
        f"<thead>{''.join(rows)}</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(cell: Cell, digits: int, best: bool, paper_best: bool, reasons: Sequence[str]) -> str:
    lines = []
    if cell.mean is not None:
        kind = "best" if best else "ours"
        lines.append(f'<div class="{kind}">{text(ours_text(cell, digits))}</div>')
    elif cell.missing:
        lines.append(f'<div class="why">{text(missing_label(cell, reasons))}</div>')
    if cell.text:
        lines.append(f'<div class="note">{text(cell.text)}</div>')
    if cell.paper is not None:
        kind = "paper paperbest" if paper_best else "paper"
        lines.append(f'<div class="{kind}">paper {text(number(cell.paper, digits))}</div>')
    if cell.difference is not None:
        lines.append(f"<div>{text(number(cell.difference, digits, signed=True))}</div>")
    return f"<td>{''.join(lines)}</td>"

"""The page of a run, its model card, and the page of several runs.

All of it is made from what the run has left in its folder, so that it can be made anew.

record.py            what a run's folder says
settings.py          what was asked for beside the defaults, and what to type
page.py              report.html
asked.py             its sections: what was run, on what,
choice.py            why these layers,
training.py          how training went,
memory.py            what each phase took,
mistakes.py          what was taken for what
curves.py            lines by epoch
again.py             --report: the page of an earlier run
model_card.py        model_card.md
compare.py           --compare: several runs, printed
compare_page.py      compare.html
selection_figure.py  selection.png
svg.py               a plot as part of a page, in the page's colours
tables.py            tables that can be sorted
page.css, sort.js    how pages look; how a table is sorted
"""

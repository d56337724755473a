"""Which layers, then? All criteria at equal memory, each at its best learning rate.

tasks.py      data sets, as they are and under shifts
protocol.py   what is run, and in which order
standings.py  what came out, by budget, task and method
tables.py     the tables of it
drawing.py    accuracy against memory and time, with the Pareto front
"""

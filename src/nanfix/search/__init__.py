"""From causes to an adopted fix.

Its business: the order of candidates (`ladder`), the search by keras-tuner, judging and
proving, adopting the winner and searching on where it uncovers another cause. `workers`
runs trials in other processes.
Not its business: how a candidate is installed (`install`) and what a single remedy does
(`strategies`).
"""

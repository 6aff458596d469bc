"""The trials of a search in other processes.

Its business: to start and stop worker processes, and to hand them a failed run as files.
Not its business: which candidates are tried: the search that leads decides.
"""

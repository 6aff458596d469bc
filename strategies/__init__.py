"""The built-in strategies, one remedy a file, found through the entry points in
`pyproject.toml`.
"""

"""The suite for strategies: run it over yours. `contract` checks what nanfix relies on,
`repairs` a repair with it.
"""

"""The contract suite for strategies: run it over yours. It is in `testing.contract`."""

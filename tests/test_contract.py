"""The contract suite over every installed strategy, and over strategies that break it."""

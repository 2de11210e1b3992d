"""Evaluation: outcomes of networks, and what may be concluded from them (pure functions on arrays)."""

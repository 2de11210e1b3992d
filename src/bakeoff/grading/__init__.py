"""Grading: a file of predictions against the truth, as a competition does it."""

from bakeoff.grading.grade import grade, is_submission

__all__ = ["grade", "is_submission"]

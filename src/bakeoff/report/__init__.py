"""The report of a study: one HTML file that opens offline."""

from bakeoff.report.report import write_report

__all__ = ["write_report"]

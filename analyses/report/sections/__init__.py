"""The sections of the report, one per module; see `analyses.report.section`."""

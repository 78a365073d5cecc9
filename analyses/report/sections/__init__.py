"""The sections of the report, one a module; what a section is says `analyses.report.section`."""

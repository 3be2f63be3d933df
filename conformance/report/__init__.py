"""Turn what a run found into a report: JSON, one HTML page, and a summary in Markdown. Plain data in, text out.

The data is the document that ``conformance.schema.json`` describes; this package reads no clock, no disk but its own
style sheet, and nothing of the engines.
"""

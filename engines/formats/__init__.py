"""The formats that engines come in: one folder each, found by the registry."""

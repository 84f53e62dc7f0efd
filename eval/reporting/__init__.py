"""What a run found, for people: tables, figures, the decision, and one HTML file that opens offline.

Everything here reads records and computes; only `tables.write_text` and `html` touch the disk.
"""

"""A verdict for people (a table in the terminal) and for programs (JSON)."""

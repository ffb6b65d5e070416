"""The models once more, for other runtimes: written from the papers, sharing no code with ``lucid.models``."""

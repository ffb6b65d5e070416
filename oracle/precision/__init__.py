"""Precisions: what a profile declares, how it rounds, and how errors are measured. It knows tensors alone."""

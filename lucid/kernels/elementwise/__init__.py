"""Functions of each element alone: one expression each, which the C++ and the law's text are printed from (README)."""

"""Check one kernel, by itself: is it right, forward and backward, and if not, where is it wrong?

`check_kernel` draws inputs that find faults, runs somebody's function on them and judges every element by a budget that
is derived for that operation on those very inputs, instead of by a guessed tolerance. `oracle.testing` has the same as
assertions. `oracle.kernel.operations` holds the operations.
"""

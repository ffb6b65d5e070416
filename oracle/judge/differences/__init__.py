"""What `oracle.judge.words` asks of a difference, one family a file.

``pair`` is the two tensors and the question whether a candidate explains them; ``values`` what happened to each value
(a sign, a factor, a cut, a grid), ``layout`` where values came from (axes, shifts, exchanged slices), ``place`` where
they differ, ``others`` how the tensor follows from other tensors of the run. A family imports ``pair`` alone. To add a
kind, write a function of a `Pair` that returns its words or "", and put it into its family's table.
"""

"""What is made of a subject's tensors: verdicts, view by view, and the words for what is different."""

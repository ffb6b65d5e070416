"""Cases: which model on which weights and input, and the names and shapes of everything that a run of one leaves."""

"""What a case computes: operations with names, shapes, attributes and parameters, in the order of execution."""

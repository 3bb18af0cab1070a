"""A finished model on a whole dataset whose truth is known: numbers and curves per class, confusion, and case studies. Runs on the CPU."""

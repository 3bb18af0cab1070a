"""How hyperparameters are searched: pure decisions, and what is read from and written to the database for them."""

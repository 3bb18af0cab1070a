"""Pure decisions of hyperparameter tuning."""

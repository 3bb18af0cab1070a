"""What a training task is: datasets, zoo, wizard, tasks, queue and events. Knows neither chat SDKs nor torch."""

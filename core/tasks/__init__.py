"""Training tasks and their jobs: states and transitions, start and stop, dispatch to the queue, and repair."""

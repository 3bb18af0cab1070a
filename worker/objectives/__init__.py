"""One module per kind of task: what to build, the loss, and how it is judged."""

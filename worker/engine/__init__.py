"""The training engine: one loop, its data, its augmentation and its checkpoints."""

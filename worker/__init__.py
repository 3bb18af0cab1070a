"""The engine room: takes jobs from the queue and trains. Knows the core; never the bot."""

import os

# How Torch's threads wait for each other, which they do hundreds of times a step: for a moment awake, then asleep. Read once, when torch is loaded.
# Spinning on (the default) starves the partner where other processes use the cores, too; going to sleep at once costs more than the work itself
# where batches are small. 4,000 turns take about a tenth of a millisecond: `python benchmarks/training_threads.py` compares.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "4000")

# On Apple's GPUs an operation that they lack runs on the CPU, slowly, instead of failing the training. Read once, too.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

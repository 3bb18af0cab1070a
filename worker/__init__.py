"""The engine room: takes jobs from the queue and trains. Knows the core; never the bot."""

import os

# Torch's threads must sleep, not spin, while they wait for each other: on cores that other processes use too, spinning threads take the
# time their partners need (tf_efficientnet_lite0 on two busy cores: 150 images/s asleep, 11 spinning). Read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# On Apple's GPUs an operation that they lack runs on the CPU, slowly, instead of failing the training. Read once, too.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

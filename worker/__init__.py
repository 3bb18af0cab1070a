"""The engine room: takes jobs from the queue and trains. Knows the core; never the bot."""

import os

# Torch's threads must sleep, not spin, while they wait for each other: on cores that other processes use too, spinning threads take the
# time their partners need (tf_efficientnet_lite0 on two busy cores: 150 images/s asleep, 11 spinning). Read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

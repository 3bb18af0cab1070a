"""The one flag of a work-horse: set by its signal handler when the worker is to end. Checkpoint then, and hand the job back."""

import threading

PAUSE = threading.Event()

"""Who is dead, and who only might be."""

import os
import signal
import subprocess
import sys

from core.process_identity import ProcessIdentity, is_provably_dead, own_identity

PRINT_AND_WAIT = "from core.process_identity import own_identity; print(own_identity(), flush=True); input()"


def test_a_living_process_is_not_dead() -> None:
    assert not is_provably_dead(own_identity())


def test_a_killed_process_is_dead_also_while_its_remains_are_there() -> None:
    process = subprocess.Popen([sys.executable, "-c", PRINT_AND_WAIT], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None
    identity = process.stdout.readline().strip()
    assert not is_provably_dead(identity)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet collected: a zombie
    assert is_provably_dead(identity)
    process.wait()
    assert is_provably_dead(identity)


def test_a_pid_used_again_is_another_process() -> None:
    me = ProcessIdentity.parse(own_identity())
    assert me is not None
    assert is_provably_dead(str(ProcessIdentity(me.host, me.boot, me.namespace, me.pid, "1")))


def test_elsewhere_nothing_can_be_proved() -> None:
    me = ProcessIdentity.parse(own_identity())
    assert me is not None
    for other in (
        ProcessIdentity("elsewhere", me.boot, me.namespace, 2**22 - 1, "1"),
        ProcessIdentity(me.host, "another boot", me.namespace, 2**22 - 1, "1"),
        ProcessIdentity(me.host, me.boot, "pid:[1]", 2**22 - 1, "1"),
    ):
        assert not is_provably_dead(str(other))
    for nonsense in ("", "w", "a|b|c|d|e"):
        assert not is_provably_dead(nonsense)

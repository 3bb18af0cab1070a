"""What a process may use of its host."""

import re
from pathlib import Path

import pytest

from core import host_limits


def test_memory_that_is_free_is_the_hosts_or_what_the_control_group_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, str] = {}
    monkeypatch.setattr(host_limits, "_control_group", lambda name: files.get(name, ""))
    monkeypatch.setattr(host_limits, "_number", lambda *_: 8_000_000)
    assert host_limits.available_memory() == 8_192_000_000
    files |= {"memory.max": "max", "memory.current": "3000000000"}
    assert host_limits.available_memory() == 8_192_000_000, "a group without a limit"
    files |= {"memory.max": "4000000000", "memory.stat": "anon 1900000000\ninactive_file 1000000000\nactive_file 100000000\nshmem 5"}
    assert host_limits.available_memory() == 2_100_000_000, "cached files make room"
    files["memory.current"] = "9000000000"
    assert host_limits.available_memory() == 0


def test_this_host_has_memory() -> None:
    assert 0 < host_limits.available_memory() <= host_limits.usable_memory()


@pytest.mark.skipif(not Path("/proc/vmstat").exists(), reason="told by Linux")
def test_what_the_system_has_killed_for_lack_of_memory_is_counted() -> None:
    told = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    assert host_limits.out_of_memory_kills() == (int(told[1]) if told else None)

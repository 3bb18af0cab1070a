"""What advice plans with: the least of the living gpu workers' devices; without any, this host's."""

from datetime import timedelta

from core import host_limits
from core.clock import now
from core.db.tables import WorkerDevice
from core.process_identity import own_identity
from core.zoo import catalogue
from core.zoo.devices import host_device, show, workers_device
from core.zoo.estimates import estimate
from core.zoo.facts import DatasetFacts, DeviceFacts

SMALL = DeviceFacts("cuda", 8_000_000_000, 8, name="a small GPU")
LARGE = DeviceFacts("cuda", 80_000_000_000, 16, name="a large GPU")


def planned(database):
    with database.read() as session:
        return workers_device(session)


def test_without_workers_it_is_this_host(database):
    assert planned(database) == host_device()


def test_any_worker_may_take_a_job_so_the_smallest_counts(database):
    with database.write() as session:
        show(session, "elsewhere|b|n|1|1", LARGE)
    assert (planned(database).name, planned(database).count) == ("a large GPU", 1)
    with database.write() as session:
        show(session, "elsewhere|b|n|2|1", SMALL)
        show(session, "elsewhere|b|n|2|1", SMALL)  # said again every minute
    assert (planned(database).memory_bytes, planned(database).count) == (8_000_000_000, 2)
    with database.write() as session:
        show(session, "elsewhere|b|n|3|1", DeviceFacts("cpu", 64_000_000_000, 32, name="CPU"))
    assert (planned(database).kind, planned(database).count) == ("cpu", 3)


def test_workers_that_are_silent_or_dead_do_not_count(database):
    host, boot, namespace, pid, _ = own_identity().rsplit("|", 4)
    with database.write() as session:
        show(session, own_identity(), LARGE)
        show(session, f"{host}|{boot}|{namespace}|{pid}|1", SMALL)  # another process that once had this one's number
        show(session, "elsewhere|b|n|2|1", SMALL)
        session.get(WorkerDevice, "elsewhere|b|n|2|1").seen_at = now() - timedelta(minutes=11)
    assert (planned(database).name, planned(database).count) == ("a large GPU", 1)


def test_a_container_has_what_its_limits_leave(monkeypatch):
    limits = {"memory.max": "2000000000", "cpu.max": "100000 100000"}
    monkeypatch.setattr(host_limits, "_control_group", lambda name: limits[name])
    assert host_limits.usable_memory() == 2_000_000_000
    assert host_limits.usable_cores() == 1
    limits.update({"memory.max": "max", "cpu.max": "max 100000"})
    assert host_limits.usable_memory() > 2_000_000_000


def test_several_devices_at_one_job_are_faster_and_share_the_batch(database, settings):
    pair = DeviceFacts("cuda", 80_000_000_000, 16, name="2 × a large GPU", per_job=2)
    with database.write() as session:
        show(session, "elsewhere|b|n|1|1", pair)
    assert planned(database) == pair
    spec = catalogue.find_spec("resnet50", settings=settings)
    facts = DatasetFacts(20_000, 10, 500, 375)
    alone, together = estimate(spec, facts, LARGE), estimate(spec, facts, pair)
    assert 0.5 < together.seconds / alone.seconds < 0.7
    assert together.memory_bytes < alone.memory_bytes

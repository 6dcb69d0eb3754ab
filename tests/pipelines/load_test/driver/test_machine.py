import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from scoreline.pipelines.load_test.driver.machine import Machine, find_partners

_SERVE = """
import socket, sys
server = socket.create_server(("", 0), family=socket.{family}, dualstack_ipv6={dual})
print(server.getsockname()[1], flush=True)
link, _ = server.accept()
print("accepted", flush=True)
end = sys.stdin.readline()
"""


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_a_server_of_this_machine_takes_part(family):
    """A JVM listens on IPv6, also for clients of IPv4."""
    if family == "AF_INET6" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    code = _SERVE.format(family=family, dual=family == "AF_INET6")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        port = int(server.stdout.readline())
        assert server.pid not in find_partners([os.getpid()])
        with socket.create_connection(("127.0.0.1", port)):
            assert server.stdout.readline() == "accepted\n"
            found = find_partners([os.getpid()])
            server.stdin.close()
    assert {os.getpid(), server.pid} <= found


def test_children_are_ours_and_others_are_neighbours():
    """What a child computes is not a neighbour's, and what a stranger computes is."""
    burn = "import time\nwhile time.process_time() < 3: pass"
    machine = Machine()
    machine.start()
    time.sleep(1.2)
    begin = time.time()
    subprocess.run([sys.executable, "-c", burn], check=True)
    end = time.time()
    time.sleep(1.2)
    machine.stop()
    inside = [s for s in machine.samples if begin - 1 <= s.at_s <= end + 1]
    assert inside[-1].own_s - inside[0].own_s > 1  # to its last sample
    use = machine.use(begin, end)
    assert 0 <= use.neighbour_share <= 1
    assert use.steal_share >= 0


def test_memory_is_that_of_the_workers_and_their_children():
    # Processes that this one has started for other tests are no workers.
    grow = "import sys, time; held = b'x' * 80_000_000; print('ready', flush=True); time.sleep(60)"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grow!r}])"
    with subprocess.Popen([sys.executable, "-c", both], stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout.readline() == b"ready\n"
            machine = Machine()
            machine.set_workers([worker.pid])
            tree = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
            resident_mb = sum(process.memory_info().rss for process in tree) / 1e6
            assert machine._sample().memory_mb == pytest.approx(resident_mb, rel=0.05)
            assert resident_mb > 80
        finally:
            for process in psutil.Process(worker.pid).children():
                process.kill()
            worker.kill()


def test_a_window_without_samples_is_refused():
    with pytest.raises(ValueError, match="expected two samples"):
        Machine().use(0.0, 1.0)

"""How often Beam looks which step of a bundle runs. Importing this module sets it for the process.

While a bundle runs, a thread of Beam's worker samples which step it is in, and sleeps in between:
longer and longer, a fifth of the bundle's age and up to 200 ms. The bundle's end waits for that
thread to wake up (Beam 2.77, `StateSampler.stop`): a tenth of the bundle on average, in which a
stream reads nothing. A bundle younger than 25 ms, such as one of a transaction, waits no longer
than it did; at 5 ms the thread takes 0.3 % of a core, idle or not; at 2 ms it took 0.8 %. Beam has
no option for it.

Issue: not reported; https://github.com/apache/beam/pull/5466 made the thread sleep.
Seen in: Python SDK 2.77.

A process of its own must import it before Beam makes the first sampler: as a plugin of the job
(`beam_plugins`), or in what starts workers without looking at the job's options.
"""

from __future__ import annotations

import inspect

from apache_beam.runners.worker.statesampler import StateSampler

SAMPLING_MS = 5


def sample_often() -> None:
    """Have samplers that are made from now on sleep for 5 ms at most."""
    last = list(inspect.signature(StateSampler.__init__).parameters)[-1]
    if last == "sampling_period_ms":  # else another Beam: slower, and as right
        StateSampler.__init__.__defaults__ = (SAMPLING_MS,)


sample_often()

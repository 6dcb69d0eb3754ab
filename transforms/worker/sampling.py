"""The sampling period of Beam's state sampler. The import of this module sets it for the process.

A thread of Beam's worker samples the step that a bundle is in, and sleeps in between. The sleep
grows to a fifth of the bundle's age, up to 200 ms. The end of a bundle waits until that thread
wakes up (Beam 2.77, `StateSampler.stop`). On average that is a tenth of the bundle, during which a
stream reads nothing. With a period of 5 ms the thread uses 0.3 % of a core, and 0.8 % with 2 ms.
Bundles younger than 25 ms, such as those of transactions, wait as long as before. Beam has no
option for the period.

Issue: not reported; https://github.com/apache/beam/pull/5466 made the thread sleep.
Seen in: Python SDK 2.77.

A worker process must import this module before Beam creates the first sampler: as a plugin of the
job (`beam_plugins`), or in a launcher of workers that does not read the job's options.
"""

from __future__ import annotations

import inspect

from apache_beam.runners.worker.statesampler import StateSampler

SAMPLING_MS = 5


def sample_often() -> None:
    """Limit the sleep of samplers that are created from now on to 5 ms."""
    last = list(inspect.signature(StateSampler.__init__).parameters)[-1]
    if last == "sampling_period_ms":  # otherwise another Beam: slower, but correct
        StateSampler.__init__.__defaults__ = (SAMPLING_MS,)


sample_often()

"""How often Beam looks which step of a bundle runs. Importing this module sets it for the process.

While a bundle runs, a thread of Beam's worker samples which step it is in, and sleeps in between:
longer and longer, a fifth of the bundle's age and up to 200 ms. The bundle's end waits for that
thread to wake up (Beam 2.77, `StateSampler.stop`): a tenth of the bundle on average, in which a
stream reads nothing. At 2 ms it costs a stream 0.3 % of a core. Beam has no option for it.

A process of its own must import it before Beam makes the first sampler: as a plugin of the job
(`beam_plugins`), or in what starts workers without looking at the job's options.
"""

from __future__ import annotations

import inspect

from apache_beam.runners.worker.statesampler import StateSampler

SAMPLING_MS = 2


def sample_often() -> None:
    """Have samplers that are made from now on sleep for 2 ms at most."""
    last = list(inspect.signature(StateSampler.__init__).parameters)[-1]
    if last == "sampling_period_ms":  # else another Beam: slower, and as right
        StateSampler.__init__.__defaults__ = (SAMPLING_MS,)


sample_often()

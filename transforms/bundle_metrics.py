"""The metrics of a bundle: summed in plain Python, passed to Beam when the bundle ends."""

from __future__ import annotations

from apache_beam.metrics import Metrics

from scoreline.transforms.metrics import NAMESPACE, Tally


class BundleMetrics(Tally):
    """Sums metrics during a bundle; `flush` passes them to Beam in finish_bundle.

    An update of a Beam counter takes up to 2 µs. Counters are integers, so the times of small
    batches would all round to 0 ms.
    """

    is_of_step = True

    def flush(self) -> None:
        """Pass all sums to Beam and reset them; fractions of 1 ms stay for the next bundle."""
        for name, amount in self._counts.items():
            Metrics.counter(NAMESPACE, name).inc(int(amount))
            self._counts[name] = amount - int(amount)
        for name, values in self._values.items():
            distribution = Metrics.distribution(NAMESPACE, name)
            for value in values:
                distribution.update(value)
        self._values = {}

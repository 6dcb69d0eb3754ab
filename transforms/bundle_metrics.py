"""The metrics of a bundle: summed in plain Python, handed to Beam when the bundle ends."""

from __future__ import annotations

from apache_beam.metrics import Metrics

from scoreline.transforms.metrics import NAMESPACE, Tally


class BundleMetrics(Tally):
    """Sum metrics during a bundle; `flush` hands them to Beam in finish_bundle.

    A Beam counter costs a microsecond or two at each update and holds whole numbers only: times of
    small batches would all round to 0 ms.
    """

    def flush(self) -> None:
        """Hand everything to Beam and start again; fractions of 1 ms wait for the next bundle."""
        for name, amount in self._counts.items():
            Metrics.counter(NAMESPACE, name).inc(int(amount))
            self._counts[name] = amount - int(amount)
        for name, values in self._values.items():
            distribution = Metrics.distribution(NAMESPACE, name)
            for value in values:
                distribution.update(value)
        self._values = {}

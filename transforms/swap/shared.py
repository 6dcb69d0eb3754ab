"""One watcher of a folder of versions for all threads of a process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from scoreline.transforms.swap.watch import ModelWatcher, SwapSpec

if TYPE_CHECKING:
    from scoreline.transforms.scoring import ScoreSpec

_shared: dict[tuple[ScoreSpec, SwapSpec], ModelWatcher] = {}
_shared_lock = threading.Lock()


def acquire_watcher(spec: ScoreSpec, swap: SwapSpec) -> ModelWatcher:
    """Return a running watcher, shared by all threads of this process.

    If models run in separate processes, each caller gets its own watcher.
    """
    if spec.model.batch_timeout_s is not None:
        watcher = ModelWatcher(spec, swap)
        watcher.start()
        return watcher
    with _shared_lock:
        if (spec, swap) not in _shared:
            for other in [s for s, w in _shared.items() if not w.users]:
                del _shared[other]
            _shared[spec, swap] = ModelWatcher(spec, swap)
        watcher = _shared[spec, swap]
        watcher.users += 1
        watcher.start()
        return watcher


def release_watcher(spec: ScoreSpec, watcher: ModelWatcher) -> None:
    """Stop the watcher if it has no other user; a shared model stays loaded."""
    if spec.model.batch_timeout_s is not None:
        watcher.close()
        return
    with _shared_lock:
        watcher.users -= 1
        if not watcher.users:
            watcher.stop()

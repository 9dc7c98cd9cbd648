"""The passes of a network over a scan, in batches that fit into memory.

Every sample is read once: a volume, its slices, or the windows over either. A class that is asked for is mapped on the
way, batch by batch; else the scores must all be known to tell which class is the best, and it is mapped afterwards. The
activations stay at hand, so that mapping takes no second pass, unless they would take more than :data:`KEPT` of the
memory.

Where memory runs short, nothing that was done is lost: what is kept is let go first, then batches are halved down to
single samples, and at last the rest is read on the CPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch

from napari_gradcam.cam import Network
from napari_gradcam.cam.memory import ShortOfMemoryError, free_bytes, samples_at_once
from napari_gradcam.errors import GradCamError
from napari_gradcam.explanation import METHODS
from napari_gradcam.inference import UnableError, map_batch, run_network
from napari_gradcam.progress import Progress
from napari_gradcam.seen import Mapped, Reading
from napari_gradcam.windows import tiling_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.preprocessing import Prepared
    from napari_gradcam.inference import Batch, Request
    from napari_gradcam.progress import Steps

KEPT = 0.25
"""The share of the memory free before a scan is read that may be gone while it is read, for activations to be kept."""

_FINDING = "Finding the layer"


class Way(Protocol):
    """What of a scan the network reads: all of it, or slice by slice.

    Attributes
    ----------
    name
        What the scan is called.
    count
        How many inputs it makes.
    preparing, running
        What is said while they are prepared, and while the network runs on them.
    """

    name: str
    count: int
    preparing: str
    running: str

    def inputs(self) -> Iterator[Prepared]:
        """Prepare one input after the other, each a batch of one."""


class Run:
    """The passes of one classifier over one scan.

    Parameters
    ----------
    way
        What the network reads.
    classifier, request
        Who reads, and what is asked for.
    reading
        What an earlier run saw of the same; None to read it.
    let_go
        Lets go what is kept of other scans; tells whether there was anything.
    """

    def __init__(
        self,
        way: Way,
        classifier: Classifier,
        request: Request,
        reading: Reading | None = None,
        let_go: Callable[[], bool] = lambda: False,
    ) -> None:
        self._way, self._classifier, self._request = way, classifier, request
        self._let_go_others = let_go
        self._network = Network(classifier.network, classifier.head.class_scores, request.device)
        self._size: int | None = None
        self._least_free = _least_free(self._network)
        self._reading, self._mapped = reading, None if reading is None else Mapped(reading.tiling, way.count)
        # Without a class, all has to be read before the first map.
        self._rounds = 2 if request.target is None and reading is None else 1
        self.keeps = True
        """Whether what is read may be kept for a further class."""

    @property
    def reading(self) -> Reading:
        """What the network saw."""
        assert self._reading is not None, "the scan is read first"
        return self._reading

    @property
    def mapped(self) -> Mapped:
        """The maps that were made."""
        assert self._mapped is not None, "the scan is read first"
        return self._mapped

    @property
    def device(self) -> torch.device:
        """Where the network runs, last of all."""
        return self._network.place

    def read(self) -> Steps[Reading]:
        """Read every sample, and map the class that is asked for, if one is."""
        yield self.at(0, self._way.preparing)
        done = 0
        for number, prepared in enumerate(self._way.inputs()):
            if self._reading is None:
                yield from self._begin(prepared)
            self._take(number, prepared)
            ready, last = (number + 1) * self.reading.tiling.count, number + 1 == self._way.count
            while ready - done >= (1 if last else self._batch_size):
                at = self.at(done, self._way.running)
                yield at
                batch = yield from self._try(at, done, min(self._batch_size, ready - done), self._request.target)
                if batch is not None:
                    done += len(batch)
                    self._keep(batch, done)
        return self.reading

    def map(self, target: int) -> Steps[Mapped]:
        """Map a class of what was read, if that was not done on the way.

        What was let go meanwhile is read again.
        """
        if self._rounds == 1 and self.mapped.canvases:
            return self.mapped
        stage = f"Mapping “{self._classifier.class_names[target]}”"
        samples = self._samples
        for number in range(len(self.reading.batches)):
            first, count = self.reading.batches[number].first, len(self.reading.batches[number])
            done = 0
            while done < count:
                at = self.at(first + done + (self._rounds - 1) * samples, stage)
                yield at
                kept = self.reading.batches[number].captured is not None
                size = count if kept else min(self._batch_size, count - done)
                batch = yield from self._try(at, first + done, size, target, number if kept else None)
                done += len(batch) if batch is not None else 0
        return self.mapped

    def at(self, done: int, stage: str) -> Progress:
        """Say how far the run has come, in samples."""
        if self._samples == 1 and (self._reading is not None or self._classifier.windows is None):
            return Progress({self._way.preparing: 0, _FINDING: 1}.get(stage, 2), 4, stage)
        return Progress(done, self._rounds * self._samples + 1, stage)

    def placing(self) -> Progress:
        """Say that nothing but to place the maps is left."""
        total = self.at(0, "").total
        return Progress(total - 1, total, "Placing the map")

    @property
    def _samples(self) -> int:
        return self._way.count * (1 if self._reading is None else self._reading.tiling.count)

    @property
    def _batch_size(self) -> int:
        """How many samples to read at once; estimated when it is first asked for."""
        if self._size is None:
            self._size = 1
            if self._samples > 1:
                network = self._network
                self._size = samples_at_once(network.module, self.reading.sample_shape, network.place)
            if self.reading.tiling.count > 1 and self._classifier.windows is not None:
                self._size = max(1, min(self._size, self._classifier.windows.at_once))
        return self._size

    def _begin(self, prepared: Prepared) -> Steps[None]:
        tiling = tiling_of(prepared.tensor.shape[2:], self._classifier.windows)
        shape = self._classifier.sample_shape(tuple(prepared.tensor.shape[1:]))
        layers = self._request.layers
        if layers is None:
            yield self.at(0, _FINDING)
            layers = [_best_layer(self._classifier, shape)]
        self._reading, self._mapped = Reading(tiling, shape, layers, prepared), Mapped(tiling, self._way.count)

    def _take(self, number: int, prepared: Prepared) -> None:
        reading = self.reading
        if tuple(prepared.tensor.shape[2:]) != reading.tiling.shape:
            raise GradCamError(
                f"The preprocessing gives slices of “{self._way.name}” different sizes; end it with a resize or pad to "
                "one size."
            )
        reading.inputs[number] = reading.tiling.filled(prepared.tensor[0])
        reading.affines.append(reading.tiling.covering(prepared.affines[0]))
        if number == self._way.count // 2:
            reading.example = prepared

    def _try(
        self, at: Progress, first: int, count: int, target: int | None, kept: int | None = None
    ) -> Steps[Batch | None]:
        """Read some samples, or take a batch that is kept, and map a class of them; None where it has to be retried."""
        try:
            batch = self.reading.batches[kept] if kept is not None else self._pass(first, count)
            if target is not None and batch.captured is not None:
                found = yield from map_batch(batch.captured, target, self._request, lambda *n: self._within(at, *n))
                self.mapped.add(first, found)
        except ShortOfMemoryError:
            if not self._retreat(count):
                raise
        except UnableError:
            self.reading.unable = str(self._network.place)
            self.keeps = self.keeps and not self.reading.let_go()
            self._go_to_cpu()
        else:
            return batch
        return None  # to try again out of the handler, since what went wrong holds on to memory

    def _pass(self, first: int, count: int) -> Batch:
        inputs = self.reading.samples(first, count)
        return run_network(self._classifier, self._network, inputs, self.reading.layers, first)

    def _within(self, at: Progress, done: int, total: int) -> Progress:
        """Say how far a method has come that asks the network again and again."""
        label = METHODS.get(self._request.method, self._request.method)
        if self._samples == 1:
            return Progress(done, total, f"{label}: asking the network again")
        return replace(at, stage=f"{label}, {100 * done // total} % of this batch")

    def _keep(self, batch: Batch, done: int) -> None:
        """Keep a batch that was read; without its activations where they would take too much memory.

        Those of a single batch that is still to be mapped are kept in any case: to read it again would take as much.
        """
        reading = self.reading
        self.keeps = self.keeps and free_bytes(self._network.place) >= self._least_free
        reading.batches.append(batch)
        if self.keeps or (self._rounds == 2 and len(reading.batches) == 1 and done == self._samples):
            return
        reading.let_go()
        if self._rounds == 1:  # every class that is asked for has been mapped
            for number in [number for number in reading.inputs if (number + 1) * reading.tiling.count <= done]:
                del reading.inputs[number]

    def _retreat(self, count: int) -> bool:
        """Make do with less memory: tell whether that is possible."""
        place, reading = self._network.place, self.reading
        self.keeps = False
        if reading.let_go() | self._let_go_others():
            return True
        if count > 1:
            self._size = count // 2
        elif place.type != "cpu":
            self._go_to_cpu()
        else:
            return False
        reading.shortages.append((str(place), count // 2))
        return True

    def _go_to_cpu(self) -> None:
        self._network = replace(self._network, device=torch.device("cpu"))
        self._size, self._least_free = None, _least_free(self._network)


def _least_free(network: Network) -> float:
    """Tell how much memory must stay free for activations to be kept, bytes."""
    return (1 - KEPT) * free_bytes(network.place)


def _best_layer(classifier: Classifier, shape: tuple[int, ...]) -> str:
    """Name the layer that is best for samples of a shape; that may need a survey."""
    try:
        return classifier.default_layer_for(shape)
    except ShortOfMemoryError:
        raise  # it speaks of the scan's own input
    except GradCamError as error:
        if error.__cause__ is None:
            raise  # no layer has a grid
        try:
            return classifier.default_layer  # the network does not take the input: its run says best why
        except GradCamError:
            raise error from error.__cause__

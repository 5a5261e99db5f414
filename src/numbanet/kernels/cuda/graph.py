"""CUDA graphs: launches that were recorded once and are replayed together. The simulator simply repeats them."""

from __future__ import annotations

from numbanet.kernels.cuda.target import SIMULATED, cuda, done, driver

if SIMULATED:

    class Graph:
        def __init__(self, stream, launches):
            self._launches = launches

        def launch(self):
            for each in self._launches:
                each()

else:

    class Graph:
        """A graph of launches on a stream."""

        def __init__(self, stream, launches):
            self._stream = driver.CUstream(int(getattr(stream.handle, "value", stream.handle)))
            mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            with cuda.defer_cleanup():  # memory that Numba gives back during a capture would spoil it
                try:
                    done(driver.cuStreamBeginCapture(self._stream, mode))
                    for each in launches:
                        each()
                finally:
                    ended = driver.cuStreamEndCapture(self._stream)
                graph = done(ended)
            self._ready = done(driver.cuGraphInstantiate(graph, 0))
            done(driver.cuGraphDestroy(graph))

        def launch(self):
            """Run all of it, after what the stream has to do already."""
            done(driver.cuGraphLaunch(self._ready, self._stream))

        def __del__(self):
            ready = getattr(self, "_ready", None)
            if ready is not None:
                driver.cuGraphExecDestroy(ready)

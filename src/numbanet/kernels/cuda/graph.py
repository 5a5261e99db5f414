"""CUDA graphs: launches that were recorded once and are replayed together. The simulator simply repeats them."""

from __future__ import annotations

from numbanet.kernels.cuda.target import SIMULATED, cuda

if SIMULATED:

    class Graph:
        def __init__(self, stream, launches):
            self._launches = launches

        def launch(self):
            for each in self._launches:
                each()

else:
    from cuda.bindings import driver

    def _done(result):
        """The value of a driver's call, which returns its error first."""
        error, *values = result
        if error != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"the CUDA driver says {error.name} while a graph of launches is made or run")
        return values[0] if values else None

    class Graph:
        """A graph of launches on a stream."""

        def __init__(self, stream, launches):
            handle = getattr(stream.handle, "value", stream.handle)
            self._stream = driver.CUstream(int(handle))
            mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            with cuda.defer_cleanup():  # memory that Numba gives back during a capture would spoil it
                _done(driver.cuStreamBeginCapture(self._stream, mode))
                try:
                    for each in launches:
                        each()
                finally:
                    graph = _done(driver.cuStreamEndCapture(self._stream))
            self._ready = _done(driver.cuGraphInstantiate(graph, 0))
            _done(driver.cuGraphDestroy(graph))

        def launch(self):
            """Run all of it, after what the stream has to do already."""
            _done(driver.cuGraphLaunch(self._ready, self._stream))

        def __del__(self):
            ready = getattr(self, "_ready", None)
            if ready is not None:
                driver.cuGraphExecDestroy(ready)

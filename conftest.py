"""For every collection of pytest, the notebooks' (nbval) included."""


def pytest_collectstart(collector):
    """Strict nbval: warnings on stderr name lines of other packages, and PNG bytes depend on a machine's fonts."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = (*collector.skip_compare, "stderr", "image/png")

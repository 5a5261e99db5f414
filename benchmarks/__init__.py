"""The benchmark suite, run by airspeed velocity: asv machine --yes && asv run --python=same --quick."""

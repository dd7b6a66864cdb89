"""What a command line calls a method: by name, a checkpoint, a run's folder, or a folder of somebody's outputs."""

from pathlib import Path

from harmonylib import baselines, checkpoints, evaluation, fullres, training
from harmonylib.errors import HarmonyError


def is_outputs(name: str) -> bool:
    """Whether a method's name is a folder of pictures that it has made, and no run's."""
    return Path(name).is_dir() and not any((Path(name) / file).is_file() for file in ("checkpoint.pt", "config.json"))


def method_from(name: str) -> tuple[evaluation.Method, int | None]:
    """(method, its own size or None) from a method's name or the path of a checkpoint."""
    if name in baselines.BASELINES:
        return evaluation.baseline(name), None
    if name == fullres.HARMONIZER:
        return evaluation.network(fullres.load()), None
    path = checkpoints.find(name)
    if path is None:
        known = ", ".join((fullres.HARMONIZER, *baselines.BASELINES))
        raise HarmonyError(f"method {name!r}: neither one of {known} nor a checkpoint file; give one of them")
    model = training.load_model(path)
    return evaluation.network(model), model.size

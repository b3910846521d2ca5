"""What trtexec wrote of an engine, read from files."""

from __future__ import annotations

from pathlib import Path

from keras_quant.bench.engine import Engine, check_detailed, parse_engine, with_times
from keras_quant.bench.trtexec import parse_profile
from keras_quant.errors import ResultsError

LAYERS_NAME, PROFILE_NAME = "layers.json", "profile.json"


def read_engine(path: Path, profile: Path | None = None) -> Engine:
    """Reads the layers of an engine, with their times where there is a profile.

    Args:
        path: the file of --exportLayerInfo; or a bundle in which bench.sh has run, or its folder
            of results, which have both files.
        profile: the file of --exportProfile.
    Raises:
        ResultsError: a file is missing or broken, or tells no more than names of layers; or the
            profile is that of another engine.
    """
    if path.is_dir():
        folder = path / "results" if (path / "results").is_dir() else path
        if not (folder / LAYERS_NAME).is_file():
            raise ResultsError(
                f"{path}: has no {LAYERS_NAME}, which bench.sh leaves; that of a bundle for "
                "TensorRT 8.2 does not, as trtexec could not write it yet"
            )
        path, profile = folder / LAYERS_NAME, profile or _there(folder / PROFILE_NAME)
    engine = parse_engine(_text(path), str(path))
    check_detailed(engine, str(path))
    if profile is None:
        return engine
    operators = parse_profile(_text(profile), str(profile))
    times = [(one.name, (one.time_us or 0.0) / 1e3) for one in operators]
    return with_times(engine, times, str(profile))


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot be read: {error.strerror}. trtexec --exportLayerInfo and "
            "--exportProfile write such files, and bench.sh of a bundle calls it so"
        ) from error

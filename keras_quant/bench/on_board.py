"""Loads a file on a board's own processor, and times calls of it, as it is told by standard input.

It is sent to the board with `timer`, and needs Python 3.6, numpy and the runtime. A request is a
line of JSON, and so is the answer: {"ok": ...} or {"error": ...}; nothing is sent while calls are
timed. The first line, {"ok": "ready"}, answers nothing. The process that is started loads no
runtime itself: it starts another one for that, tells where that one died, and ends it where
standard input is closed, as by a connection that was lost.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from keras_quant.bench.timer import time_calls, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = "keras_quant.bench.on_board"
_SERVE = "serve"
# What `bench.machine.describe_machine` reads, and what a Jetson says of itself.
_CPU = "/sys/devices/system/cpu"
_FILES = (
    *("/proc/cpuinfo", "/proc/stat", "/proc/loadavg"),
    *("/etc/nv_tegra_release", "/proc/device-tree/model"),
    *(_CPU + name for name in ("/intel_pstate/no_turbo", "/cpufreq/boost", "/smt/active")),
    *(
        f"{_CPU}/cpu{core}/cpufreq/{name}"
        for core in range(os.cpu_count() or 1)
        for name in ("scaling_governor", "scaling_cur_freq")
    ),
)
_LITERT_PACKAGES = ("ai_edge_litert", "tflite_runtime")
_LAST_WORDS = 5  # lines
_LAST_SECONDS = 5


class MissingError(Exception):
    """A package that is not installed."""


def main() -> None:
    """Watches over the process that loads files, and passes lines on."""
    _say({"ok": "ready"})
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", MODULE, _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said = []  # type: list[str]
    watchers = [
        threading.Thread(target=_pass_on, args=(child.stdout,)),
        threading.Thread(target=_remember, args=(child.stderr, said)),
    ]
    for watcher in watchers:
        watcher.daemon = True
        watcher.start()
    threading.Thread(target=_feed, args=(child,), daemon=True).start()
    code = child.wait()
    for watcher in watchers:
        watcher.join(_LAST_SECONDS)
    if code:
        _say({"died": code, "said": said[-_LAST_WORDS:]})
    os._exit(0)  # the thread that feeds may still wait for a line


def serve() -> None:
    """Answers requests, one after the other."""
    infer = []  # type: list[Callable[[], object]]
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": _REQUESTS[request.pop("do")](infer, **request)}
        except MissingError as error:
            answer = {"error": str(error), "kind": "missing"}
        except Exception as error:  # of a runtime, which has many
            answer = {"error": f"{type(error).__name__}: {error}", "kind": "model"}
        _say(answer)


def _machine(infer: "list[Any]") -> "dict[str, Any]":
    texts = {}
    for name in _FILES:
        try:
            with open(name, errors="replace") as stream:
                texts[name] = stream.read().replace("\0", "")
        except OSError:
            pass
    return {
        "texts": texts,
        "power_mode": _output(["nvpmodel", "-q"]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count() or "unknown"),
    }


def _describe(infer: "list[Any]", runtime: str, file: str, inputs: "dict[str, Any]") -> Any:
    return _RUNTIMES[runtime][0](file, _arrays(inputs, 0))


def _load(
    infer: "list[Any]", runtime: str, file: str, threads: int, inputs: "dict[str, Any]", seed: int
) -> "dict[str, Any]":
    arrays = _arrays(inputs, seed)
    opens = _RUNTIMES[runtime][1](file, threads)
    _reset_peak()
    before = _status_bytes("VmRSS")
    started = time.perf_counter()
    opened = opens()
    load_ms = (time.perf_counter() - started) * 1e3
    infer[:] = [opened(arrays)]
    import gc

    gc.collect()
    gc.disable()  # it would fall into some samples and not into others
    warm = warm_up(infer[0])
    return {
        "load_ms": load_ms,
        "memory_before_bytes": before,
        "warm_up_calls": warm.calls,
        "warm_up_s": warm.seconds,
        "warm": warm.stable,
        "call_ns": warm.call_ns,
    }


def _round(infer: "list[Any]", calls: int, ahead: int) -> "dict[str, Any]":
    for _ in range(ahead):
        infer[0]()
    samples = time_calls(infer[0], calls)
    return {"samples": " ".join(map(str, samples)), "energy_uj": None}


def _finish(infer: "list[Any]") -> "dict[str, Any]":
    return {
        "memory_peak_bytes": _status_bytes("VmHWM"),
        "processor_s": sum(os.times()[:2]),
    }


def _describe_onnx(file: str, arrays: "dict[str, Any]") -> "dict[str, Any]":
    """Runs a file once with the profiler on, which tells the operators that ran."""
    ort = _onnxruntime()
    options = _options(ort, 1)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "profile")
        session = _session(ort, file, options)
        session.run(None, arrays)
        with open(session.end_profiling(), encoding="utf-8") as stream:
            events = json.load(stream)
    nodes = {
        event["name"]: event["args"].get("op_name", "?")
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    }
    names = sorted(nodes.values())
    counts = sorted((-names.count(name), name) for name in set(names))
    return {
        "kernels": [f"{-count} {name}" for count, name in counts],
        "versions": {"onnxruntime": ort.__version__},
    }


def _open_onnx(file: str, threads: int) -> "Callable[[], Any]":
    ort = _onnxruntime()
    options = _options(ort, threads)

    def opens() -> "Callable[[Any], Any]":
        session = _session(ort, file, options)
        names = [output.name for output in session.get_outputs()]
        return lambda arrays: lambda: session.run(names, arrays)

    return opens


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options


def _session(ort: Any, file: str, options: Any) -> Any:
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _describe_litert(file: str, arrays: "dict[str, Any]") -> "dict[str, Any]":
    package, version, interpreter_class = _litert()
    interpreter = _allocated(interpreter_class(model_path=file, num_threads=1), arrays)
    listed = getattr(interpreter, "_get_ops_details", list)()  # type: list[dict[str, Any]]
    delegated = any(one["op_name"] == "DELEGATE" for one in listed)
    return {
        "kernels": ["XNNPACK"] if delegated else ["not told"],
        "versions": {package: version},
    }


def _open_litert(file: str, threads: int) -> "Callable[[], Any]":
    _, _, interpreter_class = _litert()

    def opens() -> "Callable[[Any], Any]":
        interpreter = interpreter_class(model_path=file, num_threads=threads)
        interpreter.allocate_tensors()

        def opened(arrays: Any) -> "Callable[[], object]":
            _allocated(interpreter, arrays)
            outputs = [one["index"] for one in interpreter.get_output_details()]

            def infer() -> object:
                interpreter.invoke()
                return [interpreter.get_tensor(index) for index in outputs]

            return infer

        return opened

    return opens


def _allocated(interpreter: Any, arrays: "dict[str, Any]") -> Any:
    """Gives an interpreter its inputs."""
    details = {one["name"]: one for one in interpreter.get_input_details()}
    for name, array in arrays.items():
        if tuple(details[name]["shape"]) != array.shape:
            interpreter.resize_tensor_input(details[name]["index"], array.shape)
    interpreter.allocate_tensors()
    for name, array in arrays.items():
        interpreter.set_tensor(details[name]["index"], array)
    return interpreter


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError(_how("onnxruntime", error)) from error
    return onnxruntime


def _litert() -> "tuple[str, str, Any]":
    """The name, version and interpreter of the first package that is there."""
    import importlib

    for package in _LITERT_PACKAGES:
        try:
            module = importlib.import_module(package + ".interpreter")
        except ImportError as error:
            last = error
            continue
        name = package.replace("_", "-")
        return name, _version(name, package), module.Interpreter
    raise MissingError(_how("ai-edge-litert (or tflite-runtime)", last))


def _version(name: str, package: str) -> str:
    """Of an installed package; Python 3.8 is the first that knows it by its name."""
    import importlib

    try:
        metadata = importlib.import_module("importlib.metadata")
        return str(metadata.version(name))
    except Exception:  # it is of another name, or Python is older
        return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def _how(package: str, error: Exception) -> str:
    return (
        f"{sys.executable} has no {package} ({error}). Install it on the board: "
        f"python3 -m pip install --user {package.split()[0]}"
    )


def _arrays(inputs: "dict[str, Any]", seed: int) -> "dict[str, Any]":
    """A batch of any values, by input; see `bench.worker`."""
    try:
        import numpy as np
    except ImportError as error:
        raise MissingError(_how("numpy", error)) from error
    random = np.random.RandomState(seed)
    arrays = {}
    for name, (dtype, shape) in inputs.items():
        kind = np.dtype(dtype)
        if kind.kind == "f":
            arrays[name] = random.random_sample(shape).astype(kind)
        else:
            arrays[name] = random.randint(0, 2 if kind.kind == "b" else 128, shape).astype(kind)
    return arrays


def _reset_peak() -> None:
    """Makes what the process holds its peak (proc(5), clear_refs), where the system allows it."""
    try:
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")
    except OSError:
        pass


def _status_bytes(name: str) -> "int | None":
    """A line of /proc/self/status, which has kibibytes."""
    try:
        with open("/proc/self/status") as stream:
            found = [line.split()[1] for line in stream if line.startswith(name + ":")]
    except OSError:
        return None
    return int(found[0]) * 1024 if found else None


def _output(command: "list[str]") -> str:
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10).decode()
    except (OSError, subprocess.SubprocessError):
        return ""


def _feed(child: Any) -> None:
    """Passes requests on, and ends the child where they end."""
    try:
        for line in sys.stdin.buffer:
            child.stdin.write(line)
            child.stdin.flush()
    except OSError:
        return  # it died, which is told elsewhere
    child.kill()
    time.sleep(_LAST_SECONDS)
    os._exit(0)  # what is still to be said may wait for a reader who is gone


def _pass_on(stream: Any) -> None:
    for line in stream:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def _remember(stream: Any, said: "list[str]") -> None:
    for line in stream:
        said.append(line.decode(errors="replace").rstrip())


def _say(answer: "dict[str, Any]") -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


_RUNTIMES = {
    "onnxruntime": (_describe_onnx, _open_onnx),
    "litert": (_describe_litert, _open_litert),
}
_REQUESTS = {
    "machine": _machine,
    "describe": _describe,
    "load": _load,
    "round": _round,
    "finish": _finish,
}  # type: dict[str, Callable[..., Any]]

if __name__ == "__main__":
    serve() if sys.argv[1:] == [_SERVE] else main()

"""The frozen options of each command, with their defaults and bounds; ``resolve.py`` fills them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvmbuild.support.border import Count, Finite, NotNegative, Positive, Seconds, Seed, Share, Threads
from tvmbuild.support.precision import Precision
from tvmbuild.support.weights import Prefer, Weights


@dataclass(frozen=True)
class Switch:
    """A flag, variable or key that sets one side of an option and leaves the other as it is.

    Attributes:
        apply: the option's value and whether the switch is on become its new value.
        off: name of the flag that turns it off; "" for none.
    """

    apply: Callable[[Any, bool], Any]
    off: str = ""


#: The field's metadata under which its switches stand, by name.
SWITCHES = "switches"
_FP16: Mapping[str, Switch] = {
    "fp16": Switch(lambda precision, on: precision.with_floats("float16" if on else "float32"), off="fp32")
}
_INT8: Mapping[str, Switch] = {"int8": Switch(lambda precision, on: precision.with_codes("int8" if on else ""))}


@dataclass(frozen=True)
class BuildOptions:
    """How to build a model.

    Attributes:
        target: name of a built-in target or path of a TOML file.
        shape: input shapes as given ("x=1,3,224,224"), one an input.
        value: inputs frozen to a constant ("sr=16000").
        output: folder for the artifact.
        name: stem of the artifact's files; "" for ``<model>-<target>``.
        toolchain: "gnu" or "zig"; "" for the target's first that is installed.
        compare: run the prepared model against the original in ONNX Runtime before compiling.
        seed: seed of the inputs of that comparison.
        precision: what is computed in; to quantize a float model first has options of its own, ``QuantizeOptions``.
            "fp16" and "int8" are switches of it.
        weights: form of the constant weights of float32 layers in the library; None for what ``prefer`` means:
            float32, or float16 where size is preferred.
        prefer: speed, or a library whose weights take no more than the model's.
        calibrate: samples for a precision that quantizes, or None to use a calibration table alone.
        dump_ir: folder for the module after each phase, or None.
        records: folder of tuning records; it need not exist.
        use_records: whether to take schedules from it.
        board: beginning of the name of the board whose records to use; "" for the only one.
        limit: raised limits of reading and preparing the model ("seconds=3600"); see ``budget.Limits``.
        strict: refuse a kernel that multiplies and has no fast schedule, instead of warning of it.
        strips: whether chains of layers may run strip by strip, where that is predicted to be faster; not where all
            weights are to be float16 or size is preferred, as a chain is computed by what is fastest in float32.
    """

    target: str = "rpi4"
    shape: tuple[str, ...] = ()
    value: tuple[str, ...] = ()
    output: Path = Path("dist")
    name: str = ""
    toolchain: str = ""
    compare: bool = True
    seed: Seed = 0
    precision: Precision = field(default=Precision.FP32, metadata={SWITCHES: {**_FP16, **_INT8}})
    weights: Weights | None = None
    prefer: Prefer = Prefer.SPEED
    calibrate: Path | None = None
    dump_ir: Path | None = None
    records: Path = Path("tuning_logs")
    use_records: bool = True
    board: str = ""
    limit: tuple[str, ...] = ()
    strict: bool = False
    strips: bool = True

    @property
    def stored_weights(self) -> Weights:
        """Form of the weights, where ``weights`` leaves it open too."""
        return self.weights or (Weights.FP16 if self.prefer is Prefer.SIZE else Weights.FP32)

    @property
    def runs_strips(self) -> bool:
        """Whether chains may run strip by strip: their algorithms are the fastest and their weights are float32."""
        return self.strips and self.prefer is Prefer.SPEED and self.stored_weights is not Weights.FP16


@dataclass(frozen=True)
class InspectOptions:
    """How to look at a model.

    Attributes:
        target: name of a built-in target or path of a TOML file; the board to plan for.
        shape: input shapes as given ("x=1,3,224,224"), one an input.
        value: inputs frozen to a constant ("sr=16000").
        limit: raised limits of reading and preparing the model ("seconds=3600"); see ``budget.Limits``.
        strips: whether chains of layers may run strip by strip, where that is predicted to be faster.
    """

    target: str = "rpi4"
    shape: tuple[str, ...] = ()
    value: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    strips: bool = True


@dataclass(frozen=True)
class TuneOptions:
    """How to tune a model.

    Attributes:
        target: name of a built-in target or path of a TOML file.
        shape: input shapes as given ("x=1,3,224,224"), one an input.
        value: inputs frozen to a constant ("sr=16000").
        precision: tune the kernels of a build in this precision, which does not quantize: that is done to the model
            before. "fp16" is a switch of it.
        toolchain: "gnu" or "zig"; "" for the target's first that is installed.
        emulate: predict cycles instead of measuring.
        tracker: "HOST:PORT" of a TVM tracker; "" for none.
        key: key of the boards at the tracker; "" for the target's name.
        trials: number of trials; 0 for no limit.
        time: duration ("90s", "30m", "2h"); "" for no limit.
        task: only tasks whose name or shape matches this pattern ("*winograd*"); "" for all.
        seed: of the search and of the kernels' inputs.
        min_gain: share of the model's time below which the gain still expected ends the run.
        records: folder of tuning records.
        workers: compiling processes; 0 for one a core.
        resume: go on with the interrupted run of this model and board.
        limit: raised limits of reading and preparing the model ("seconds=3600"); see ``budget.Limits``.
    """

    target: str = "rpi4"
    shape: tuple[str, ...] = ()
    value: tuple[str, ...] = ()
    precision: Precision = field(default=Precision.FP32, metadata={SWITCHES: _FP16})
    toolchain: str = ""
    emulate: bool = False
    tracker: str = ""
    key: str = ""
    trials: Count = 0
    time: str = ""
    task: str = ""
    seed: Seed = 0
    min_gain: Share = 0.01
    records: Path = Path("tuning_logs")
    workers: Threads = 0
    resume: bool = False
    limit: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantizeOptions:
    """How to turn a float model into an int8 one.

    Attributes:
        shape: input shapes as given ("x=1,3,224,224"), one an input.
        value: inputs frozen to a constant ("sr=16000").
        calibrate_mode: how activations get their ranges: "kl_divergence", "percentile", "mse" or "max".
        weight_scale: how weights get their scales: "max" or "mse".
        percentile: percent of the elements inside the range, for "percentile".
        symmetric: activations have the zero point 0.
        power2: scales are powers of two.
        images: how pictures become inputs: a preset's name or a TOML file.
        table: calibration table; read when the file is there, else written.
        keep_fp32: patterns ("conv2d_4*") of layers that stay in float.
        force_int8: leave no layer in float because int8 is predicted to be slower on the board.
        budget: accuracy to reach by leaving layers in float ("sqnr>=30"), or "".
        metric: measure of a model's outputs ("module:function" or a command), or "".
        bias_correction: take the mean error of each layer out of its bias.
        held_out: share of the samples that judge the result and do not calibrate.
        seed: of the division into calibration and held-out samples.
        min_samples: the fewest to calibrate with.
        compare: check in ONNX Runtime that preparing the model does not change it.
        limit: raised limits of reading and preparing the model ("seconds=3600"); see ``budget.Limits``.
    """

    shape: tuple[str, ...] = ()
    value: tuple[str, ...] = ()
    calibrate_mode: str = "kl_divergence"
    weight_scale: str = "max"
    percentile: Finite = 99.99
    symmetric: bool = False
    power2: bool = False
    images: str = "plain"
    table: Path | None = None
    keep_fp32: tuple[str, ...] = ()
    force_int8: bool = False
    budget: str = ""
    metric: str = ""
    bias_correction: bool = False
    held_out: Finite = 0.2
    seed: Seed = 0
    min_samples: Count = 8
    compare: bool = True
    limit: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifyOptions:
    """How to check an artifact against ONNX Runtime.

    Attributes:
        on: device: "auto", "local", "emulated" or "rpc".
        tracker: "HOST:PORT" of the tracker, for "rpc".
        key: what to ask the tracker for; "" for the target's name.
        inputs: sample inputs (.npz, .npy, an image, or a folder of them); None for seeded random ones.
        samples: number of random inputs, or the most to take from a folder.
        seed: seed of the random inputs.
        tolerance: largest difference allowed, relative to the largest reference value; 0 for the default of the
            output's dtype and the artifact's precision (``difference.DEFAULT_TOLERANCE``, ``Precision.tolerance``);
            models that round to codes are judged by their root mean square then (``int8_rounding``).
        threads: threads of the runtime; 0 for one a core.
        timeout: seconds that one run may take.
        limit: raised limits of reading and preparing the model ("seconds=3600"); see ``budget.Limits``.
    """

    on: str = "auto"
    tracker: str = ""
    key: str = ""
    inputs: Path | None = None
    samples: Positive = 1
    seed: Seed = 0
    tolerance: NotNegative = 0.0
    threads: Threads = 0
    timeout: Seconds = 600.0
    limit: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchOptions:
    """How to time an artifact.

    Attributes:
        on: device: "auto", "local", "emulated" or "rpc".
        tracker: "HOST:PORT" of the tracker, for "rpc".
        key: what to ask the tracker for; "" for the target's name.
        runs: timed runs in all, spread over the rounds.
        warmup: runs before each round that are not timed.
        inputs: one sample (.npz, .npy or an image); None for seeded random ones.
        seed: seed of the random inputs.
        threads: threads of the runtime; 0 for one a core.
        timeout: seconds that one round may take.
    """

    on: str = "auto"
    tracker: str = ""
    key: str = ""
    runs: Positive = 50
    warmup: Count = 2
    inputs: Path | None = None
    seed: Seed = 0
    threads: Threads = 0
    timeout: Seconds = 600.0


@dataclass(frozen=True)
class DeviceOptions:
    """Which boards the device commands mean.

    Attributes:
        tracker: "HOST:PORT" of the tracker.
        key: what boards are registered as; "" for the target's name.
    """

    tracker: str = "127.0.0.1:9190"
    key: str = ""


@dataclass(frozen=True)
class CacheOptions:
    """Where built artifacts are shared with other machines.

    Attributes:
        remote_cache: folder or URL that fsspec opens ("s3://bucket/path"); "" for none.
        cache_trusted_key: public keys; an entry is read if one of them signed it.
        cache_key: private key; entries are written only with it, and those of its public half are read.
        cache_unsigned: read and write entries without signatures.
        cache_timeout: seconds that the remote may take to answer.
    """

    remote_cache: str = ""
    cache_trusted_key: tuple[str, ...] = ()
    cache_key: str = ""
    cache_unsigned: bool = False
    cache_timeout: Seconds = 10.0

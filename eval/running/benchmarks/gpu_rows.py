"""The full measurement table of Stable Diffusion 1.5 and SDXL on one device, weights random, nothing downloaded.

    python -m eval.running.benchmarks.gpu_rows                        a GPU: writes reports/example-h200
    python -m eval.running.benchmarks.gpu_rows --small --device cpu --out FOLDER      the same in small, anywhere

Each model is built in one process and measured in another, so that its first picture is a cold one and nothing else
is on the device. Written are README.md, the table for
people; cells.csv, with a sweep's columns; measured.json, with all raw samples; and environment.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from eval.hardware_plan import HardwarePlan
from eval.measured import Measured
from eval.records import Cell, CellResult
from eval.running.benchmarks.random_models import architectures, write_model
from eval.running.serial import decode, encode

MODULE = "eval.running.benchmarks.gpu_rows"
OUT = Path(__file__).resolve().parents[3] / "reports" / "example-h200"
SAMPLER = "dpmpp_2m_karras"
PROMPTS = ("a photograph of an astronaut riding a horse", "a bowl of oranges on a wooden table, oil painting")


def main(arguments: list[str] | None = None) -> None:
    """Measure each model and write the folder."""
    chosen = _parse(arguments)
    if chosen.build is not None:
        built = architectures(small=chosen.small)[chosen.one]
        write_model(built, Path(chosen.build), device=chosen.device, dtype=chosen.dtype)
        return
    if chosen.one is not None:
        chosen.out.write_bytes(encode(measure(chosen)))
        return
    from eval.reporting.tables import write_cells_csv
    from eval.running.atomic import write_atomic
    from eval.running.benchmarks.gpu_page import page
    from eval.running.environment import environment

    with tempfile.TemporaryDirectory() as work:
        results = [_in_process(name, chosen, Path(work)) for name in architectures(small=chosen.small)]
    found = environment(results[0].device)
    chosen.out.mkdir(parents=True, exist_ok=True)
    titles = [each.title for each in architectures(small=chosen.small).values()]
    command = f"python -m {MODULE}{' --small' if chosen.small else ''} --device {chosen.device}"
    write_atomic(chosen.out / "README.md", page(results, titles, found, command).encode())
    write_atomic(chosen.out / "measured.json", encode(results))
    write_atomic(chosen.out / "environment.json", encode_plain(found))
    write_cells_csv(results, chosen.out / "cells.csv")
    print(chosen.out / "README.md")  # noqa: T201


def measure(chosen: argparse.Namespace) -> CellResult:
    """The row of one model: loaded, called cold, then measured."""
    from eval.running.cold import ColdCalls
    from eval.running.measure import measure_cell
    from sdkit import Session

    architecture = architectures(small=chosen.small)[chosen.one]
    session = Session(chosen.model, device=chosen.device, dtype=chosen.dtype)
    session.load()
    cell = Cell(
        model_fingerprint=session.fingerprint,
        sampler=SAMPLER,
        steps=chosen.steps,
        guidance=architecture.guidance,
        prompts_digest="",
        count=0,
        seed=0,
        width=architecture.side_px,
        height=architecture.side_px,
        dtype=session.dtype,
        device_type=chosen.device.partition(":")[0],
    )
    hardware = HardwarePlan(
        batch=1,
        latency_repeats=chosen.latency_repeats,
        throughput_repeats=chosen.throughput_repeats,
        search_batch=True,
        max_batch=chosen.max_batch,
        noise_bound=0.05,
        price_per_hour=chosen.price_per_hour,
    )
    cold = ColdCalls().first(session, PROMPTS, cell, hardware)
    measured: Measured = measure_cell(session, PROMPTS, cell, hardware, cold=cold)
    evals = session.model_evals(SAMPLER, chosen.steps)
    return CellResult(cell, session.device_name, evals, measured=measured)


def encode_plain(found: dict[str, str]) -> bytes:
    """A flat record as indented JSON."""
    return (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode()


def _in_process(name: str, chosen: argparse.Namespace, work: Path) -> CellResult:
    file, model = work / f"{name}.json", work / name
    command = [sys.executable, "-m", MODULE, "--one", name, "--out", str(file)]
    for option in (
        "device",
        "dtype",
        "steps",
        "latency_repeats",
        "throughput_repeats",
        "max_batch",
        "price_per_hour",
    ):
        value = getattr(chosen, option)
        if value is not None:
            command += [f"--{option.replace('_', '-')}", str(value)]
    command += ["--small"] if chosen.small else []
    subprocess.run([*command, "--build", str(model)], check=True)
    subprocess.run([*command, "--model", str(model)], check=True)
    shutil.rmtree(model)
    return decode(CellResult, json.loads(file.read_bytes()))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the full measurement table of SD 1.5 and SDXL")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", help="bfloat16 by default, float32 on a CPU")
    parser.add_argument("--small", action="store_true", help="narrow models of 64 px and few repeats")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--latency-repeats", type=int, help="100 carry p99")
    parser.add_argument("--throughput-repeats", type=int)
    parser.add_argument("--max-batch", type=int)
    parser.add_argument("--price-per-hour", type=float, help="US dollars")
    parser.add_argument("--out", type=Path, default=OUT)
    for inner in ("--one", "--build", "--model"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    whole, small = (20, 100, 5, 64), (2, 2, 2, 2)
    names = ("steps", "latency_repeats", "throughput_repeats", "max_batch")
    for name, default in zip(names, small if chosen.small else whole, strict=True):
        if getattr(chosen, name) is None:
            setattr(chosen, name, default)
    chosen.dtype = chosen.dtype or ("float32" if chosen.device == "cpu" else "bfloat16")
    if chosen.small and chosen.out == OUT:
        parser.error("--small needs --out FOLDER: its figures are no example")
    return chosen


if __name__ == "__main__":
    main()

"""`sdkit generate "a small red star" -o out.png` and `sdkit samplers`; exit code 2 for a user's mistake."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sdkit._errors import SdkitError
from sdkit._request import DEFAULT_SAMPLER, MAX_GUIDANCE
from sdkit._samplers import MAX_STEPS, samplers


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 2 with one line on standard error.

    Args:
        arguments: None takes the command line's.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "samplers":
            _print_samplers()
        else:
            _generate(options)
    except SdkitError as error:
        print(f"sdkit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sdkit: stopped", file=sys.stderr)
        return 130
    return 0


def _generate(options: argparse.Namespace) -> None:
    from sdkit._generate import generate
    from sdkit._result import check_target

    check_target(options.out)
    generation = generate(
        options.prompt,
        model=options.model,
        negative_prompt=options.negative,
        sampler=options.sampler,
        steps=options.steps,
        guidance_scale=options.guidance,
        seed=options.seed,
        num_images=options.num_images,
        width=options.width,
        height=options.height,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.dtype,
        progress=sys.stderr.isatty(),
    )
    for seed, path in zip(generation.seeds, generation.save(options.out), strict=True):
        print(f"{path}  seed {seed}")


def _print_samplers() -> None:
    for sampler in samplers():
        calls = f"{sampler.evals_per_step if sampler.evals_per_step > 1 else ''}N"
        calls += f"{sampler.extra_evals:+d}" if sampler.extra_evals else ""
        nature = "stochastic" if sampler.stochastic else "deterministic"
        print(f"{sampler.name:16} {sampler.title:16} order {sampler.order}  {calls:>4} calls  {nature}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sdkit", description="Pictures from text, by diffusers pipelines.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("samplers", help="list the samplers, their order and their cost in N steps")
    make = commands.add_parser("generate", help="make pictures of a prompt")
    make.add_argument("prompt")
    make.add_argument(
        "-o", "--out", required=True, help="file to write; several images become out-0000.png ..."
    )
    make.add_argument("--model", help="diffusers folder or hub id; left out: a small demonstration model")
    make.add_argument("--negative", metavar="PROMPT", help="what to steer away from")
    make.add_argument("--sampler", default=DEFAULT_SAMPLER, help="see `sdkit samplers`; default %(default)s")
    make.add_argument("--steps", type=int, help=f"1..{MAX_STEPS}; left out: the model's default")
    make.add_argument(
        "--guidance", type=float, help=f"1..{MAX_GUIDANCE:g}, 1 is off; left out: the model's default"
    )
    make.add_argument("--seed", type=int, help="of the first image; left out: drawn, and printed")
    make.add_argument("--num-images", type=int, default=1, metavar="N")
    make.add_argument("--width", type=int, metavar="PX")
    make.add_argument("--height", type=int, metavar="PX")
    make.add_argument("--batch-size", type=int, default=8, metavar="N", help="images made at once")
    make.add_argument("--device", help="cpu, cuda, cuda:1, mps; left out: a GPU where there is one")
    make.add_argument("--dtype", help="float32, float16 or bfloat16")
    return parser


if __name__ == "__main__":
    sys.exit(main())

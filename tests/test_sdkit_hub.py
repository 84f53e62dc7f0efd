"""Hub ids: which files of a repository are asked for, at which revision, and where they are found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdkit import HubUnreachable, ModelError, ModelNotFound, UnsafeModel
from sdkit._hub import fetch_file, fetch_part, fetch_snapshot
from sdkit._models import resolve
from sdkit._spec import make_spec

PIPELINE = [
    "README.md", "model_index.json", "big.safetensors", "scheduler/scheduler_config.json", "tokenizer/vocab.json",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin", "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors",
    "safety_checker/model.safetensors", "text_encoder/openvino_model.xml", "unet/onnx/model.safetensors",
]  # fmt: skip


@dataclass
class Asked:
    """What the hub was asked for."""

    revision: str | None = None
    patterns: list[str] | None = None


Hub = Callable[[list[str], Path], Asked]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub with one repository of these paths, which lies in this folder once it is fetched."""
    import huggingface_hub
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def open_hub(paths: list[str], folder: Path) -> Asked:
        asked = Asked()

        class Listing:
            siblings = [type("Sibling", (), {"rfilename": path}) for path in paths]  # noqa: RUF012

        def list_files(*_arguments: Any, revision: str | None, **_options: Any) -> type[Listing]:
            asked.revision = revision
            return Listing

        def download(_hub_id: str, *, allow_patterns: list[str] | None, **_options: Any) -> str:
            asked.patterns = allow_patterns
            return str(folder)

        monkeypatch.setattr(HfApi, "model_info", list_files)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        return asked

    return open_hub


def test_of_a_pipeline_come_settings_and_plain_safetensors_and_fp16_where_there_are_no_others(
    hub: Hub, tmp_path: Path
) -> None:
    asked = hub(PIPELINE, tmp_path)
    assert fetch_snapshot("a/b", revision="v2", local_files_only=False) == tmp_path
    assert asked.revision == "v2"
    assert sorted(asked.patterns or ()) == [
        "model_index.json", "scheduler/scheduler_config.json", "sdkit.json", "tokenizer/vocab.json",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]  # fmt: skip


def test_of_a_part_comes_what_lies_at_the_top(hub: Hub, tmp_path: Path) -> None:
    asked = hub(
        ["config.json", "a.safetensors", "a.fp16.safetensors", "a.bin", "other/b.safetensors"], tmp_path
    )
    assert fetch_part("a/b", local_files_only=False) == tmp_path
    assert asked.patterns == ["config.json", "a.safetensors"]


def test_a_file_of_a_repository_is_named_behind_it(hub: Hub, tmp_path: Path, tiny_sd: Path) -> None:
    (tmp_path / "styles").mkdir()
    (tmp_path / "styles" / "ink.safetensors").write_bytes(b"ink")
    asked = hub(["styles/ink.safetensors", "styles/oil.safetensors"], tmp_path)
    found = resolve(make_spec(tiny_sd, loras=["a/b/styles/ink.safetensors"])).loras
    assert found == (tmp_path / "styles" / "ink.safetensors",)
    assert asked.patterns == ["styles/ink.safetensors"]


def test_a_repository_of_one_lora_needs_no_file_name(hub: Hub, tmp_path: Path, tiny_sd: Path) -> None:
    (tmp_path / "ink.safetensors").write_bytes(b"ink")
    hub(["ink.safetensors"], tmp_path)
    assert resolve(make_spec(tiny_sd, loras=["a/b"])).loras == (tmp_path / "ink.safetensors",)
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"usual")
    assert resolve(make_spec(tiny_sd, loras=["a/b"])).loras == (
        tmp_path / "pytorch_lora_weights.safetensors",
    )


def test_what_a_repository_does_not_hold_is_said(hub: Hub, tmp_path: Path) -> None:
    hub(["one.safetensors"], tmp_path)
    with pytest.raises(ModelNotFound, match=r"^model a/b has no file two\.safetensors$"):
        fetch_file("a/b", "two.safetensors", local_files_only=False)
    with pytest.raises(UnsafeModel, match=r"^file one\.ckpt of a/b must be \.safetensors to be downloaded"):
        fetch_file("a/b", "one.ckpt", local_files_only=False)
    with pytest.raises(
        ModelError, match=r"has no model_index\.json; for one of its files, name it: a/b/FILE\.safe"
    ):
        fetch_snapshot("a/b", local_files_only=False)
    with pytest.raises(HubUnreachable, match=r"^file one\.safetensors of a/b is not in the local cache"):
        fetch_file("a/b", "one.safetensors", local_files_only=True)

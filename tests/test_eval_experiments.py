"""Published protocols as configurations: what each pins, and that the files it names are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from eval.config import CONF, to_plan
from eval.records import Plan
from eval.schema import register
from sdkit import InvalidRequest

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def plan_of(*overrides: str) -> Plan:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_plan(compose("sweep", overrides=list(overrides)))


@pytest.fixture
def moments(tmp_path: Path) -> str:
    path = tmp_path / "val2014.npz"
    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048))
    return f"reference.path={path}"


def _captions(path: Path, count: int) -> str:
    rows = "".join(f"{i}\tcaption {i}\t{i}.jpg\n" for i in range(count))
    path.write_text(f"id\tcaption\tfile_name\n{rows}", encoding="utf-8")
    return f"prompts.path={path}"


def test_mlperf_is_the_published_protocol(tmp_path: Path, moments: str) -> None:
    plan = plan_of("experiment=mlperf-sdxl", _captions(tmp_path / "captions_source.tsv", 5000), moments)
    assert (plan.grid.samplers, plan.grid.steps, plan.grid.guidances) == (("euler_leading",), (20,), (8.0,))
    assert plan.grid.shared_seed
    assert plan.grid.seed == 0
    assert plan.model.source == "stabilityai/stable-diffusion-xl-base-1.0"
    assert (plan.model.width, plan.model.height, plan.model.dtype) == (1024, 1024, "float32")
    assert (
        plan.model.negative_prompt
        == "normal quality, low quality, worst quality, low res, blurry, nsfw, nude"
    )
    assert len(plan.prompts.texts) == 5000
    assert plan.metrics.clip == "ViT-B-32-quickgelu/openai"
    assert plan.metrics.extractors == ("inception-pytorch-fid",)
    assert [(each.score, each.low, each.high) for each in plan.windows] == [
        ("clip_score", 31.68631873, 31.81331801),
        ("fid[inception-pytorch-fid]", 23.01085758, 23.95007626),
    ]


def test_mlperf_reads_the_benchmarks_own_captions(moments: str) -> None:
    path = DATA / "mlperf-captions_source.tsv"
    if not path.is_file():
        pytest.skip("the MLPerf captions do not lie beside this checkout")
    plan = plan_of("experiment=mlperf-sdxl", f"prompts.path={path}", moments)
    assert len(plan.prompts.texts) == 5000
    assert plan.prompts.texts[0] == "A city at night with people walking around."


def test_mlperf_without_its_files_says_which_are_missing(tmp_path: Path, moments: str) -> None:
    with pytest.raises(InvalidRequest, match=r"prompts\.path must be a file"):
        plan_of("experiment=mlperf-sdxl", moments)
    with pytest.raises(InvalidRequest, match=r"reference\.path"):
        plan_of("experiment=mlperf-sdxl", _captions(tmp_path / "c.tsv", 5000))
    with pytest.raises(InvalidRequest, match="5000"):
        plan_of("experiment=mlperf-sdxl", _captions(tmp_path / "c.tsv", 10), moments)


def test_the_model_card_sweeps_guidance_over_ten_thousand_captions(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(2000)]
    captions = [{"image_id": i % 2000, "id": i, "caption": f"caption {i}"} for i in range(10_001)]
    path = tmp_path / "captions_val2017.json"
    path.write_text(json.dumps({"images": images, "annotations": captions}))
    (tmp_path / "val2017").mkdir()
    for image in images:
        (tmp_path / "val2017" / str(image["file_name"])).touch()
    plan = plan_of(
        "experiment=sd-model-card",
        f"prompts.path={path}",
        f"reference.path={path}",
        f"reference.images={tmp_path / 'val2017'}",
    )
    assert plan.grid.samplers == ("pndm_leading",)
    assert plan.grid.steps == (50,)
    assert plan.grid.guidances == (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    assert len(set(plan.prompts.texts)) == 10_000, "a sample of all captions, not the first of each image"
    assert (plan.model.width, plan.model.height) == (512, 512)
    assert not plan.grid.shared_seed

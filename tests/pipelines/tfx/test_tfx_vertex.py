"""The pipeline file for Vertex AI: the golden one, and what a submission asks for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines import config as configuration
from pipelines.cli import main
from pipelines.config import Paths, RunConfig
from preprocessing.base.errors import LongtailError
from tests.e2e import shop

pytest.importorskip("tfx")
pytestmark = pytest.mark.slow  # importing TFX takes ten seconds
GOLDEN = Path(__file__).parent / "golden" / "vertex_pipeline.json"
VERTEX = (
    "vertex={project: shop-project, region: europe-west4, staging_bucket: gs://shop-bucket}",
    "pipeline.image=europe-west4-docker.pkg.dev/shop-project/longtail/longtail:1",
)


class Recorder:
    """A cloud that does what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def require_bucket(self, uri: str, key: str) -> None:
        self.asked.append((key, uri))

    def exists(self, uri: str) -> bool:
        raise AssertionError(uri)

    def upload(self, path: Path, uri: str) -> None:
        raise AssertionError(uri)

    def create_custom_job(self, job: dict[str, Any]) -> str:
        raise AssertionError(job)

    def create_pipeline_job(self, job: dict[str, Any]) -> str:
        self.asked.append(("pipeline", job))
        return "projects/1/locations/europe-west4/pipelineJobs/2"


@pytest.fixture
def loaded(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunConfig, Paths]:
    """The shop by relative paths, its files of one age: nothing of this machine."""
    shop.write_sources(tmp_path)
    path = tmp_path / "shop.yaml"
    document = shop.documented_config(root)
    path.write_text(json.dumps(document))
    for name in ("orders.csv", "articles.parquet"):
        os.utime(tmp_path / name, (0, 0))
    monkeypatch.chdir(tmp_path)
    return configuration.load(path, VERTEX)


def test_the_compiled_pipeline_is_the_golden_one(loaded: tuple[RunConfig, Paths]) -> None:
    """Where a change is wanted, copy the new file here and read the difference."""
    from pipelines.tfx.vertex import compile_pipeline

    spec = json.loads(compile_pipeline(*loaded, Console(quiet=True)).read_text())
    assert spec == json.loads(GOLDEN.read_text())
    tasks = spec["pipelineSpec"]["root"]["dag"]["tasks"]
    assert {"Preprocessing", "Trainer", "RecallGate", "Pusher"} <= set(tasks)
    assert "DataGate" in tasks["Trainer"]["dependentTasks"]


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({}, []),
        (
            {"beam_options": ["--direct_num_workers=2"]},
            ["--runner=DirectRunner", "--direct_num_workers=2"],
        ),
        ({"runner": "FlinkRunner"}, ["--runner=FlinkRunner"]),
    ],
)
def test_components_are_given_options_of_beam_only_where_it_needs_some(
    loaded: tuple[RunConfig, Paths], settings: dict[str, Any], given: list[str]
) -> None:
    from pipelines.tfx.pipeline import beam_arguments

    config, _ = loaded
    preprocess = config.preprocess.model_copy(update=settings)
    assert beam_arguments(config.model_copy(update={"preprocess": preprocess})) == given


def test_a_continued_training_asks_for_the_blessed_model(loaded: tuple[RunConfig, Paths]) -> None:
    from pipelines.tfx.vertex import compile_pipeline

    config, paths = loaded
    section = config.pipeline.model_copy(update={"continue_blessed": True})
    config = config.model_copy(update={"pipeline": section})
    spec = json.loads(compile_pipeline(config, paths, Console(quiet=True)).read_text())
    trainer = spec["pipelineSpec"]["root"]["dag"]["tasks"]["Trainer"]
    base = trainer["inputs"]["artifacts"]["base_model"]["taskOutputArtifact"]
    assert base["producerTask"].startswith("LatestBlessedModel")


def test_the_log_may_come_from_an_example_gen(
    loaded: tuple[RunConfig, Paths], tmp_path: Path
) -> None:
    from tfx.components import ImportExampleGen

    from pipelines.tfx.pipeline import create_pipeline

    config, _ = loaded
    log = ImportExampleGen(input_base="gs://shop-bucket/log")
    made = create_pipeline(
        config,
        pipeline_name="shop",
        pipeline_root=str(tmp_path),
        push_directory=str(tmp_path / "export"),
        log=log,
    )
    nodes = {node.id: node for node in made.components}
    assert nodes["Preprocessing"].inputs["log"].producer_component_id == "ImportExampleGen"
    assert "ImportExampleGen" in nodes


def test_versions_may_go_to_a_bucket_that_is_not_mounted_here(
    loaded: tuple[RunConfig, Paths], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = (*VERTEX, "rollout.export_dir=gs://models/served", f"work_dir={tmp_path}")
    words = [word for change in changes for word in ("--set", change)]
    assert main(["pipeline", "run", "shop.yaml", "--runner", "vertex", *words]) == 0
    assert "gs://models/served/shop" in (tmp_path / "tfx" / "pipeline.json").read_text()
    assert main(["pipeline", "run", "shop.yaml", *words]) == 2
    assert "expected gs://models mounted" in capsys.readouterr().err


def test_a_file_for_a_schedule_asks_for_no_cache(loaded: tuple[RunConfig, Paths]) -> None:
    from pipelines.tfx.vertex import compile_pipeline

    config, paths = loaded
    section = config.pipeline.model_copy(update={"cache": False})
    spec = compile_pipeline(
        config.model_copy(update={"pipeline": section}), paths, Console(quiet=True)
    )
    tasks = json.loads(spec.read_text())["pipelineSpec"]["root"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks.values())
    golden = json.loads(GOLDEN.read_text())["pipelineSpec"]["root"]["dag"]["tasks"]
    assert golden["Trainer"]["cachingOptions"]["enableCache"]


def test_a_submission_names_bucket_account_and_labels(loaded: tuple[RunConfig, Paths]) -> None:
    from google.cloud import aiplatform_v1

    from pipelines.tfx.vertex import compile_pipeline, submit

    config, paths = loaded
    assert config.vertex is not None
    account = {"service_account": "runner@shop-project.iam.gserviceaccount.com"}
    vertex = config.vertex.model_copy(update={**account, "labels": {"team": "recall"}})
    config, cloud = config.model_copy(update={"vertex": vertex}), Recorder()
    name = submit(
        config, compile_pipeline(config, paths, Console(quiet=True)), cloud, Console(quiet=True)
    )
    assert name.endswith("pipelineJobs/2")
    job = aiplatform_v1.PipelineJob(cloud.asked[0][1])  # refuses fields that it does not know
    assert job.service_account == account["service_account"]
    assert dict(job.labels) == {"team": "recall"}
    assert job.runtime_config.gcs_output_directory == "gs://shop-bucket/shop/tfx"


def test_an_image_is_asked_for(loaded: tuple[RunConfig, Paths]) -> None:
    from pipelines.tfx.vertex import compile_pipeline

    config, paths = loaded
    without = config.pipeline.model_copy(update={"image": None})
    with pytest.raises(LongtailError, match=r"pipeline\.image: expected a container image"):
        compile_pipeline(
            config.model_copy(update={"pipeline": without}), paths, Console(quiet=True)
        )

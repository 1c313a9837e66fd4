"""The compiled pipeline, task by task, by the entry point that Vertex AI calls in the image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("tfx")
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)

from pipelines import config as configuration
from pipelines.tfx.pipeline import beam_arguments, create_pipeline
from serving.export.folder import read_labels, version_paths
from tests.e2e import days
from tests.e2e.vertex_machine import Machine


def compiled(root: Path, day: int) -> dict[str, Any]:
    document = days.document(root, day, root / "work")
    document["pipeline"] = {"continue_blessed": True}
    path = root / f"day-{day}.yaml"
    path.write_text(yaml.safe_dump(document))
    config, _ = configuration.load(path)
    pipeline = create_pipeline(
        config,
        pipeline_name="shop",
        pipeline_root=str(root / "bucket"),
        push_directory=str(root / "export" / "shop"),
        beam_pipeline_args=beam_arguments(config),
    )
    settings = KubeflowV2DagRunnerConfig(default_image="longtail:1")
    runner = KubeflowV2DagRunner(settings, output_dir=str(root), output_filename="spec.json")
    spec: dict[str, Any] = runner.run(pipeline, write_out=False)
    return spec


def test_two_days_of_jobs_continue_compare_and_push(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "bucket")
    first = machine.run(compiled(tmp_path, 1), "job-1")
    assert first["LatestBlessedModel-model-resolver"] == {"model": []}
    (blessing,) = first["RecallGate"]["blessing"]
    (model,) = first["Trainer"]["model"]
    # The name of the model, and no number, is what the resolver looks for.
    assert blessing["metadata"]["current_model_id"] == model["name"]
    folder = tmp_path / "export" / "shop"
    assert len(version_paths(folder)) == 1

    second = machine.run(compiled(tmp_path, 2), "job-2")
    assert second["LatestBlessedModel-model-resolver"] == {"model": [model]}
    trained = json.loads((tmp_path / "bucket/job-2/Trainer/model_run/manifest.json").read_text())
    assert trained["continued"]["rows"]["customer"] == {"kept": 52, "new": 5, "gone": 0}
    checks = json.loads((tmp_path / "bucket/job-2/RecallGate/blessing/checks.json").read_text())
    assert "recall@10/all overall against the blessed model" in [c["name"] for c in checks]
    assert sorted(read_labels(str(folder)).values()) == [max(version_paths(folder))]
    assert len(version_paths(folder)) == 2

"""Vertex AI Pipelines as far as a container can tell: runs a compiled pipeline by the entry point of TFX's images.

It resolves inputs, hands every task its invocation as JSON, and remembers the artifacts with their metadata under
resource names, by which the next job's resolvers find them. Places are folders of this machine instead of a bucket,
and a task's folder is not there before the task makes it, as in a bucket.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as entry_point

_STORE = "projects/1/locations/europe-west4/metadataStores/default/artifacts"
Json = dict[str, Any]


class Machine:
    """The jobs of one project.

    Attributes:
      known: artifacts of all jobs, oldest first.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.known: list[Json] = []

    def run(self, spec: Json, job: str) -> dict[str, dict[str, list[Json]]]:
        """Runs every task in an order that its inputs allow; task -> output -> artifacts."""
        pipeline = spec["pipelineSpec"]
        waiting, made = dict(pipeline["root"]["dag"]["tasks"]), {}
        while waiting:
            name = next(n for n, task in waiting.items() if _needs(task) <= set(made))
            task = waiting.pop(name)
            component = pipeline["components"][task["componentRef"]["name"]]
            executor = pipeline["deploymentSpec"]["executors"][component["executorLabel"]]
            inputs = {
                key: made[source["producerTask"]].get(source["outputArtifactKey"], [])
                for key, source in _sources(task).items()
            }
            if "resolver" in executor:
                queries = executor["resolver"]["outputArtifactQueries"]
                made[name] = {
                    key: self._resolve(query["filter"], inputs) for key, query in queries.items()
                }
            else:
                made[name] = self._run(f"{job}/{name}", task, component, executor, inputs)
        return made

    def _run(
        self, place: str, task: Json, component: Json, executor: Json, inputs: dict[str, Any]
    ) -> dict[str, list[Json]]:
        folder = self._root / place
        outputs = {
            key: {
                "name": f"{_STORE}/{len(self.known) + number}",
                "uri": str(folder / key),
                "type": definition["artifactType"],
            }
            for number, (key, definition) in enumerate(
                component["outputDefinitions"]["artifacts"].items(), 1
            )
        }
        if any("title: tfx.String" in str(each["type"]) for each in outputs.values()):
            folder.mkdir(parents=True)  # TFX writes a value as an object, which needs no folder
        given = task.get("inputs", {}).get("parameters", {})
        invocation = {
            "inputs": {
                "artifacts": {key: {"artifacts": found} for key, found in inputs.items() if found},
                "parameters": {k: v["runtimeValue"]["constantValue"] for k, v in given.items()},
            },
            "outputs": {
                "artifacts": {key: {"artifacts": [each]} for key, each in outputs.items()},
                "outputFile": str(folder / "executor_output.json"),
            },
        }
        words = [
            json.dumps(invocation) if w == "{{$}}" else w for w in executor["container"]["args"]
        ]
        entry_point.main(entry_point._parse_flags(["", *words]))
        written = json.loads((folder / "executor_output.json").read_text())["artifacts"]
        made = {
            key: [{**outputs[key], **each} for each in found["artifacts"]]
            for key, found in written.items()
        }
        self.known += [each for found in made.values() for each in found]
        return made

    def _resolve(self, query: str, inputs: dict[str, list[Json]]) -> list[Json]:
        """The newest artifact that a resolver's filter describes, if there is one."""
        (title,) = re.findall(r'schema_title="([\w.]+)"', query)
        found = [
            each for each in self.known if f"title: {title}\n" in each["type"]["instanceSchema"]
        ]
        if "metadata.blessed.number_value=1" in query:
            found = [each for each in found if each.get("metadata", {}).get("blessed") == 1]
        if "current_model_id" in query:
            wanted = [each["metadata"]["current_model_id"] for each in inputs["input"]]
            found = [each for each in found if each["name"] in wanted]
        return found[-1:]


def _sources(task: Json) -> dict[str, Json]:
    given = task.get("inputs", {}).get("artifacts", {})
    return {key: source["taskOutputArtifact"] for key, source in given.items()}


def _needs(task: Json) -> set[str]:
    produced = {source["producerTask"] for source in _sources(task).values()}
    return produced | set(task.get("dependentTasks", ()))

"""The request for a training job: ``google.cloud.aiplatform_v1.CustomJob`` as a plain dict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.vertex.vertex_config import VertexConfig
from preprocessing.base.locations import mounted

_RUN = 'python3 -m pip install --no-cache-dir "$1" && shift && {libraries}exec python3 -m trainer.task "$@"'
# TensorFlow 2.16 does not find the CUDA libraries that pip installs beside it.
_CUDA = (
    "export LD_LIBRARY_PATH=\"$(python3 -c 'import glob, nvidia; "
    'print(":".join(glob.glob(list(nvidia.__path__)[0] + "/*/lib")))\'):${LD_LIBRARY_PATH:-}" && '
)


def training_job(
    name: str, vertex: VertexConfig, package: str, config: str, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """The job whose machines install the package and run ``python -m trainer.task CONFIG``.

    Of several machines the first is the chief, the others are workers; Vertex AI tells each by ``TF_CONFIG``.

    Args:
      name: of the run.
      vertex: project and machines.
      package: ``gs://`` address of an sdist or wheel.
      config: ``gs://`` address of the configuration.
      overrides: ``section.key=value`` pairs, as of ``--set``.
    """
    train = vertex.train
    machine: dict[str, Any] = {"machine_type": train.machine_type}
    extra = ""
    if train.accelerator_type:
        machine["accelerator_type"] = train.accelerator_type
        machine["accelerator_count"] = train.accelerator_count
        extra = "[gpu]" if train.accelerator_type.startswith("NVIDIA") else ""
    sets = [word for override in overrides for word in ("--set", override)]
    pool = {
        "machine_spec": machine,
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": train.boot_disk_gb},
        "container_spec": {
            "image_uri": train.image,
            # Values go in as arguments: no quoting, whatever they hold.
            "command": ["sh", "-c", _RUN.format(libraries=_CUDA if extra else ""), "longtail"],
            "args": [f"{mounted(package)}{extra}", str(mounted(config)), *sets],
        },
    }
    pools = [{**pool, "replica_count": 1}]
    if train.replicas > 1:
        pools.append({**pool, "replica_count": train.replicas - 1})
    spec: dict[str, Any] = {
        "worker_pool_specs": pools,
        "scheduling": {
            "timeout": {"seconds": round(train.timeout_hours * 3600)},
            "strategy": "SPOT" if train.spot else "STANDARD",
            # The workers of one step belong together: none can go on with a restarted one.
            "restart_job_on_worker_restart": train.replicas > 1,
        },
    }
    if vertex.service_account:
        spec["service_account"] = vertex.service_account
    return {
        "display_name": f"longtail-train-{name}",
        "labels": {"longtail": "train", **vertex.labels},
        "job_spec": spec,
    }

"""Which way of computing a training a cluster asks for."""

from __future__ import annotations

from trainer.config.sections import TrainerSections
from trainer.distributed.cluster import Cluster
from trainer.distributed.parameter_servers import OnParameterServers
from trainer.distributed.synchronous import Mirrored, SingleProcess


def distribute(cluster: Cluster | None, config: TrainerSections) -> SingleProcess:
    """How this process takes part in the training.

    Args:
      cluster: of which this process is a task; None where it trains alone.
      config: the sections of the trainer.

    Raises:
      LongtailError: the configuration does not fit the cluster.
    """
    if cluster is None:
        return SingleProcess()
    return (OnParameterServers if cluster.has_servers else Mirrored)(cluster, config)

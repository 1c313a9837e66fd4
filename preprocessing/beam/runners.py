"""Beam's runner and options for the passes, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from preprocessing.base import google_cloud
from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import MOUNT, SCHEME
from preprocessing.beam import overhead
from preprocessing.config import DataSections

_LOCAL, _DATAFLOW = "DirectRunner", "DataflowRunner"


class Runner:
    """Runner and options of all passes: those of the configuration, then those of the command, which win."""

    def __init__(self, config: DataSections, beam_options: Iterable[str] = ()) -> None:
        self._config = config
        self._arguments = [*config.preprocess.beam_options, *beam_options]
        given = self.options().view_as(StandardOptions).runner
        self.name = str(given or config.preprocess.runner).rpartition(".")[2]

    def options(self) -> PipelineOptions:
        """A new object; the main session is never pickled: workers import what they run."""
        options = overhead.Options(
            self._arguments, save_main_session=False, pipeline_type_check=False
        )
        setup = options.view_as(SetupOptions)
        setup.save_main_session = False
        if setup.setup_file:  # Beam changes into its folder
            setup.setup_file = str(Path(setup.setup_file).absolute())
        return options

    def make(self) -> Any:
        """What ``beam.Pipeline`` takes as its runner."""
        # The same engine, without the search for another one that costs seconds a pass.
        return FnApiRunner() if self.name == _LOCAL else self.name

    def check(self, data_dir: Path) -> None:
        """Looks at what would otherwise fail after minutes, on machines that are paid for.

        Raises:
          LongtailError: an option is unknown or missing, a file is out of the workers' reach, there are no
            credentials, or the bucket does not exist.
        """
        setup = self.options().view_as(SetupOptions)
        if setup.setup_file and not Path(setup.setup_file).is_file():
            raise LongtailError(
                f"--setup_file expected an existing file, received {setup.setup_file}: give the "
                "setup.py of the source tree"
            )
        if self.name in (_LOCAL, _DATAFLOW):  # other runners take options that Python does not know
            known, given = (
                set(self.options().get_all_options(retain_unknown_options=retain))
                for retain in (False, True)
            )
            if given - known:
                raise LongtailError(
                    f"expected options of Beam's {self.name}, received unknown "
                    f"{', '.join(f'--{name}' for name in sorted(given - known))}"
                )
        if self.name == _DATAFLOW:
            self._check_dataflow(data_dir)

    def _check_dataflow(self, data_dir: Path) -> None:
        cloud = self.options().view_as(GoogleCloudOptions)
        wanted = {
            "--project=PROJECT": cloud.project,
            "--region=REGION": cloud.region,
            "--temp_location=gs://BUCKET/tmp": cloud.temp_location,
        }
        missing = [option for option, value in wanted.items() if not value]
        if missing:
            raise LongtailError(
                f"{_DATAFLOW} needs {', '.join(missing)}: add to preprocess.beam_options, or --beam=..."
            )
        setup = self.options().view_as(SetupOptions)
        image = self.options().view_as(WorkerOptions).sdk_container_image
        if not (setup.setup_file or setup.extra_packages or image):
            raise LongtailError(
                f"{_DATAFLOW} needs --setup_file=./setup.py, --extra_package=SDIST or an "
                "--sdk_container_image with longtail: its workers import these packages"
            )
        if not data_dir.is_relative_to(MOUNT):
            raise LongtailError(
                f"{_DATAFLOW} expected a data directory in a bucket, received {data_dir}: "
                "--set work_dir=gs://BUCKET/..."
            )
        tables = self._config.data.interactions, self._config.data.items, self._config.data.users
        local = [
            table.path
            for table in tables
            if table and table.in_files and not table.path.startswith(SCHEME)
        ]
        if local:
            raise LongtailError(
                f"{_DATAFLOW} expected sources as gs://BUCKET/... or in BigQuery, received {', '.join(local)}"
            )
        client = google_cloud.storage_client(cloud.project, google_cloud.credentials())
        google_cloud.require_bucket(client, cloud.temp_location, "--temp_location")

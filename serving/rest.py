"""The REST API of TF Serving as an ASGI application: paths, status codes and bodies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from serving.codec import InputTypes, decode_request
from serving.metrics import METRICS_PATH, RequestMetrics
from serving.status import StatusError, invalid
from serving.tensor_json import encode_response
from serving.versions import Lease, ModelVersions, servable_not_found

LOG = logging.getLogger("longtail.serving")
DEFAULT_MAX_BODY_BYTES = 64 * 2**20

_MODEL = r"(?i)/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_PREDICTION_PATH = re.compile(_MODEL + r":(classify|regress|predict)")
_STATUS_PATH = re.compile(_MODEL + r"(?:/(metadata))?")
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_NOT_FOUND_PAGE = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD>"
    "<BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
)


class _BodyTooLarge(Exception):
    pass


def create_app(
    versions_by_model: Mapping[str, ModelVersions],
    *,
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    workers: int | None = None,
) -> FastAPI:
    """The application that answers for these models, which must have been started.

    Args:
      versions_by_model: the models by the name in the URL.
      max_body_bytes: a larger request is refused with 413 (TF Serving has no such limit).
      workers: threads that run predictions; four per core by default, as in TF Serving.
    """
    api = _Api(versions_by_model, max_body_bytes, workers or 4 * (os.cpu_count() or 1))
    app = FastAPI(title="Longtail", docs_url=None, redoc_url=None, openapi_url=None)
    # One route: TF Serving's paths (`m:predict`, any case, "Malformed request" for the rest) do not
    # fit path templates. Starlette's route spares each request FastAPI's parameter machinery.
    app.add_route("/{path:path}", api.handle, methods=_METHODS)
    return app


class _Api:
    def __init__(
        self, models: Mapping[str, ModelVersions], max_body_bytes: int, workers: int
    ) -> None:
        self._models = models
        self._max_body_bytes = max_body_bytes
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="longtail-predict")
        self._metrics = RequestMetrics()

    async def handle(self, request: Request) -> Response:
        path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
        if path == METRICS_PATH:
            return PlainTextResponse(self._metrics.text())
        if not path.lower().startswith("/v1/"):
            return HTMLResponse(_NOT_FOUND_PAGE, 404)
        start = time.perf_counter()
        model, code = "", "OK"
        try:
            if request.method == "POST" and (match := _PREDICTION_PATH.fullmatch(path)):
                name, version, label, verb = _parts(match)
                model = name if name in self._models else ""  # no metric per invented name
                if verb in ("classify", "regress"):
                    text = f"{verb} is not supported: no signature of this model is for it"
                    raise invalid(text + "; use predict")
                if verb != "predict":  # the path may be in any case, but not the verb
                    raise _malformed(request.method, path)
                body = await self._body(request)
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(
                    self._pool, self._predict, name, version, label, body
                )
                return Response(answer, media_type="application/json")
            if request.method == "GET":
                return _json_response(self._describe(path))
            raise _malformed(request.method, path)
        except StatusError as error:
            code = error.code
            return _error_response(error.http_status, error.message)
        except _BodyTooLarge:
            code = "RESOURCE_EXHAUSTED"
            text = f"Request body is larger than {self._max_body_bytes} bytes; send fewer examples"
            return _error_response(413, text)
        except ClientDisconnect:
            code = "CANCELLED"
            return Response(status_code=499)
        except Exception:
            code = "INTERNAL"
            LOG.exception("%s %s failed", request.method, path)
            return _error_response(500, "Internal error; the log of the server has the details")
        finally:
            if model:
                self._metrics.record(model, code, time.perf_counter() - start)

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise _BodyTooLarge
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise _BodyTooLarge
        return bytes(body)

    def _predict(self, model: str, version: int | None, label: str | None, body: bytes) -> bytes:
        """Runs in the pool: reading JSON is work, too, and must not hold up the event loop."""
        with ExitStack() as stack:
            leases: list[Lease] = []

            def input_types(signature_name: str) -> InputTypes:
                # One lease for the whole request: a new version must not come in between.
                versions = self._versions(model, version)
                leases.append(stack.enter_context(versions.use(version, label)))
                return leases[0].servable.input_types(signature_name)

            request = decode_request(body, input_types)
            outputs = leases[0].servable.run(request.signature_name, request.inputs)
        return encode_response(outputs, request.format)

    def _describe(self, path: str) -> dict[str, Any]:
        """The answer to GET: the states of a model's versions, or a version's signatures."""
        match = _STATUS_PATH.fullmatch(path)
        if match is None:
            if path.lower() in ("/v1/models", "/v1/models/metadata"):
                raise invalid("Missing model name in request.")
            raise _malformed("GET", path)
        model, version, label, resource = _parts(match)
        if resource:
            with self._versions(model, version).use(version, label) as lease:
                spec = {"name": model, "signature_name": "", "version": str(lease.version)}
                signatures = {"signature_def": lease.servable.metadata()}
            return {"model_spec": spec, "metadata": {"signature_def": signatures}}
        if model not in self._models:
            what = "any versions" if version is None else f"version {version}"
            raise StatusError("NOT_FOUND", f"Could not find {what} of model {model}")
        # As there, a label in a status path is not looked at.
        return {"model_version_status": self._models[model].status(version)}

    def _versions(self, model: str, version: int | None) -> ModelVersions:
        if model not in self._models:
            raise servable_not_found(model, version)
        return self._models[model]


def _parts(match: re.Match[str]) -> tuple[str, int | None, str | None, str]:
    model, version, label, last = match.groups()
    if version and int(version) >= 2**63:
        raise invalid(f"Failed to convert version: {version} to numeric.")
    number = int(version) if version else None
    return unquote(model), number, unquote(label) if label else None, last or ""


def _malformed(method: str, path: str) -> StatusError:
    return invalid(f"Malformed request: {method} {path}")


def _error_response(status: int, message: str) -> Response:
    return _json_response({"error": message}, status)


def _json_response(content: dict[str, Any], status: int = 200) -> Response:
    body = json.dumps(content, indent=4, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return Response(body, status, media_type="application/json")

"""The REST API of TF Serving as an ASGI application: paths, status codes and bodies."""

from __future__ import annotations

import asyncio
import json
import logging
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
from starlette.types import Receive, Scope, Send

from serving.server.codec import InputTypes, decode_request
from serving.server.limits import RETRY_AFTER, BodyBytes, Limits, Load
from serving.server.metrics import METRICS_PATH, RequestMetrics
from serving.server.status import StatusError, invalid
from serving.server.tensor_json import encode_response
from serving.server.versions import Lease, ModelVersions, servable_not_found

LOG = logging.getLogger("longtail.serving")

_MODEL = r"(?i)/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_PREDICTION_PATH = re.compile(_MODEL + r":(classify|regress|predict)")
_STATUS_PATH = re.compile(_MODEL + r"(?:/(metadata))?")
_NOT_FOUND_PAGE = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD>"
    "<BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
)


class _BodyRefused(Exception):
    """A body that is not read to its end; after the answer the connection is closed."""

    def __init__(self, http_status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.http_status, self.code, self.message = http_status, code, message


def create_app(
    versions_by_model: Mapping[str, ModelVersions], limits: Limits | None = None
) -> FastAPI:
    """The application that answers for these models, which must have been started.

    Args:
      versions_by_model: the models by the name in the URL.
      limits: what it takes on at once; TF Serving has no limits of this kind.
    """
    api = _Api(versions_by_model, limits or Limits())
    app = FastAPI(title="Longtail", docs_url=None, redoc_url=None, openapi_url=None)
    # No routes: TF Serving's paths (`m:predict`, any case, "Malformed request" for the rest) do not fit
    # path templates, and a route would not take every path and method.
    app.router.default = api
    return app


class _Api:
    def __init__(self, models: Mapping[str, ModelVersions], limits: Limits) -> None:
        self._models, self._limits, self._load = models, limits, Load(limits)
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="longtail-predict")
        self._metrics = RequestMetrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handle(Request(scope, receive))
        await response(scope, receive, send)

    async def _handle(self, request: Request) -> Response:
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
                answer = await self._answer(request, name, version, label)
                return Response(answer, media_type="application/json")
            if request.method == "GET":
                return _json_response(self._describe(path))
            raise _malformed(request.method, path)
        except StatusError as error:
            code = error.code
            return _error_response(error.http_status, error.message)
        except _BodyRefused as error:
            code = error.code
            return _error_response(error.http_status, error.message, connection="close")
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

    async def _answer(
        self, request: Request, model: str, version: int | None, label: str | None
    ) -> bytes:
        self._load.check()  # before anything is read
        with self._load.body() as counted:
            try:
                body = await asyncio.wait_for(
                    self._body(request, counted), self._limits.read_seconds
                )
            except asyncio.TimeoutError:
                text = f"The body did not arrive within {self._limits.read_seconds:g} s"
                raise _BodyRefused(408, "DEADLINE_EXCEEDED", text) from None
            with self._load.prediction():
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(
                    self._pool, self._predict, model, version, label, body
                )

    async def _body(self, request: Request, counted: BodyBytes) -> bytes:
        largest = self._limits.max_body_bytes
        text = f"Request body is larger than {largest} bytes; send fewer examples"
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > largest):
            raise _BodyRefused(413, "RESOURCE_EXHAUSTED", text)
        body = bytearray()
        async for chunk in request.stream():
            counted.add(len(chunk))
            body += chunk
            if len(body) > largest:
                raise _BodyRefused(413, "RESOURCE_EXHAUSTED", text)
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
    if version and (len(version) > 19 or int(version) >= 2**63):
        raise invalid(f"Failed to convert version: {version} to numeric.")
    number = int(version) if version else None
    return unquote(model), number, unquote(label) if label else None, last or ""


def _malformed(method: str, path: str) -> StatusError:
    return invalid(f"Malformed request: {method} {path}")


def _error_response(status: int, message: str, **headers: str) -> Response:
    if status == 503:
        headers["retry-after"] = RETRY_AFTER
    return _json_response({"error": message}, status, headers)


def _json_response(
    content: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    body = json.dumps(content, indent=4, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return Response(body, status, headers, media_type="application/json")

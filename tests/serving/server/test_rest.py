"""The REST API against what TF Serving 2.16 was seen to answer, case by case."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

Call = Callable[..., httpx.Response]
ROW_ERROR = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: "


def predict(call: Call, model: str, **body: Any) -> httpx.Response:
    return call("POST", f"/v1/models/{model}:predict", json.dumps(body))


def test_row_format_with_one_output_gives_the_bare_list(call: Call) -> None:
    response = predict(call, "linear", instances=[[1, 2, 3, 4], [0, 0, 0, 0]])
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"predictions": [[10.0, 10.0], [0.0, 0.0]]}


def test_row_format_with_several_outputs_gives_objects(call: Call) -> None:
    response = predict(call, "two", instances=[{"uid": "a", "x": 1}, {"x": 2, "uid": "é"}])
    expected = [{"name": "a!", "twice": 2.0}, {"name": "é!", "twice": 4.0}]
    assert response.json() == {"predictions": expected}


def test_columnar_format(call: Call) -> None:
    assert predict(call, "linear", inputs=[[1, 1, 1, 1]]).json() == {"outputs": [[4.0, 4.0]]}
    response = predict(call, "two", inputs={"uid": ["a"], "x": [1]})
    assert response.json() == {"outputs": {"name": ["a!"], "twice": [2.0]}}


def test_scalar_input_needs_the_columnar_format(call: Call) -> None:
    features = {"user_id": [["u"]], "age": [[30]], "history": [["i9"]], "exclude": [["i0"]]}
    response = predict(call, "recall", signature_name="recommend", inputs={**features, "k": 2})
    # i9 has 10 - 9 and 100 more, i0 is excluded, i1 is next with 10 - 1.
    assert response.json() == {"outputs": {"item_ids": [["i9", "i1"]], "scores": [[101.0, 9.0]]}}


CONTRACT = [
    ("linear", b'{"instances":[1,2',
     "JSON Parse error: Missing a comma or ']' after an array element. at offset: 17"),
    ("linear", b"hello", "JSON Parse error: Invalid value. at offset: 0"),
    ("linear", b"", "JSON Parse error: The document is empty"),
    ("linear", b"{}", "Missing 'inputs' or 'instances' key"),
    ("linear", b'{"instances":[]}',
     "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    ("two", b'{"instances":[{"wrong":1}]}',
     "Failed to process element: 0 key: wrong of 'instances' list. Error: INVALID_ARGUMENT: "
     "JSON object: does not have named input: wrong"),
    ("two", b'{"inputs":{"wrong":[1]}}', "Missing named input: uid in 'inputs' object."),
    ("two", b'{"instances":[{"uid":"a"}]}',
     "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"uid\": \"a\"\n} "
     "keys must be equal to: uid,x"),
    ("two", b'{"instances":["a"]}',
     "instances is a plain list, but expecting list of objects as multiple input tensors "
     "required as per tensorinfo_map"),
    ("two", b'{"inputs":["a"]}',
     "inputs is a plain value/list, but expecting an object as multiple input tensors "
     "required as per tensorinfo_map"),
    ("two", b'{"instances":[{"b64":"YQ=="}]}',
     "input size does not match signature: 1!=2 len({uid}) != len({uid,x}). Sent extra: {}. "
     "Missing but required: {x}."),
    ("linear", b'{"instances":[[1,2,3,4],[1,2,3]]}',
     ROW_ERROR.format(1) + "Expecting tensor size: 4 but got: 3"),
    ("echo", b'{"instances":[1]}',
     ROW_ERROR.format(0) + "JSON Value: 1 Type: Number is not of expected type: string"),
    ("linear", b'{"signature_name":"nope","instances":[1]}',
     'Serving signature name: "nope" not found in signature def'),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "text"), CONTRACT)
def test_refused_predictions(call: Call, model: str, body: bytes, text: str) -> None:
    response = call("POST", f"/v1/models/{model}:predict", body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.text == '{\n    "error": ' + json.dumps(text, ensure_ascii=False) + "\n}"


def test_wrong_shape_gets_the_message_of_the_op(call: Call) -> None:
    response = predict(call, "linear", instances=[[1, 2, 3]])
    assert response.status_code == 400
    message = "Matrix size-incompatible: In[0]: [1,3], In[1]: [4,2]"
    assert response.json()["error"].startswith(message)


def test_check_in_the_model_is_told(call: Call) -> None:
    inputs = {"user_id": [["u"]], "age": [[-1]], "history": [[""]], "exclude": [[""]]}
    response = predict(call, "recall", inputs=inputs)
    assert response.status_code == 400
    assert "x >= 0 did not hold" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
        ("GET", "/v1/models/nope/metadata", 404, "Servable not found for request: Latest(nope)"),
        ("GET", "/v1/models/nope", 404, "Could not find any versions of model nope"),
        ("POST", "/v1/models/linear/versions/9:predict", 404,
         "Servable not found for request: Specific(linear, 9)"),
        ("GET", "/v1/models/linear/versions/9/metadata", 404,
         "Servable not found for request: Specific(linear, 9)"),
        ("GET", "/v1/models/linear/versions/9", 404, "Could not find version 9 of model linear"),
        ("GET", "/v1/models/nope/versions/9", 404, "Could not find version 9 of model nope"),
        ("POST", "/v1/models/linear/labels/x:predict", 400,
         "Unrecognized servable version label: x"),
        ("GET", "/v1/models/linear/versions/99999999999999999999", 400,
         "Failed to convert version: 99999999999999999999 to numeric."),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("POST", "/v1/models/m:foo", 400, "Malformed request: POST /v1/models/m:foo"),
        ("POST", "/v1/models/m:explain", 400, "Malformed request: POST /v1/models/m:explain"),
        ("POST", "/v1/models/linear:PREDICT", 400,
         "Malformed request: POST /v1/models/linear:PREDICT"),
        ("POST", "/v1/models/linear", 400, "Malformed request: POST /v1/models/linear"),
        ("GET", "/v1/models/m:predict", 400, "Malformed request: GET /v1/models/m:predict"),
        ("PUT", "/v1/models/m:predict", 400, "Malformed request: PUT /v1/models/m:predict"),
        ("TRACE", "/v1/models/linear", 400, "Malformed request: TRACE /v1/models/linear"),
        ("POST", "/v1/models/linear/labels/%0a:predict", 400,
         "Unrecognized servable version label: \n"),
        ("POST", "/v1/models/a%0ab:predict", 404, "Servable not found for request: Latest(a\nb)"),
        ("GET", "/v1/models/linear/versions/" + "9" * 5000, 400,
         f"Failed to convert version: {'9' * 5000} to numeric."),
        ("GET", "/v1/else?a=b", 400, "Malformed request: GET /v1/else"),
        ("POST", "/v1/models/linear:classify", 400, "classify is not supported: no signature of "
         "this model is for it; use predict"),
    ],
)  # fmt: skip
def test_refused_paths(call: Call, method: str, path: str, status: int, text: str) -> None:
    response = call(method, path, b'{"instances":[[1,2,3,4]]}' if method == "POST" else None)
    assert (response.status_code, response.json()) == (status, {"error": text})


@pytest.mark.parametrize("path", ["/", "/v2/models/m", "/healthz", "/docs", "/openapi.json"])
def test_paths_outside_get_an_html_page(call: Call, path: str) -> None:
    response = call("GET", path)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")


def test_status(call: Call) -> None:
    expected = {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    for path in ("/v1/models/linear", "/v1/models/linear/versions/1", "/V1/Models/linear"):
        assert call("GET", path).json() == expected


def test_metadata(call: Call) -> None:
    answer = call("GET", "/v1/models/two/versions/1/metadata").json()
    assert answer["model_spec"] == {"name": "two", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    x = signature["inputs"]["x"]
    assert (x["dtype"], x["name"]) == ("DT_FLOAT", "serving_default_x:0")
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert x["tensor_shape"] == shape


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("serving_default", ["a", "é\n\"", ""]),
        ("binary", [{"b64": "/w=="}]),
        ("float32", [0.1, -1.5e-30, 1e10]),
        ("float64", [[0.1], [1e300]]),
        ("int8", [-128, 127]),
        ("int32", -5),
        ("int64", [2**63 - 1, -(2**63)]),
        ("uint64", [2**64 - 1]),
        ("bool", [[True, False]]),
        ("float32", []),
    ],
)  # fmt: skip
def test_each_dtype_comes_back(call: Call, signature: str, value: Any) -> None:
    response = predict(call, "echo", signature_name=signature, inputs=value)
    (answer,) = response.json().values()
    assert answer == (pytest.approx(value, rel=1e-6) if signature == "float32" else value)


def test_nan_and_infinity_pass_in_and_out(call: Call) -> None:
    body = b'{"signature_name": "float32", "instances": [NaN, Infinity, -Infinity, Inf]}'
    response = call("POST", "/v1/models/echo:predict", body)
    assert response.text == '{"predictions": [NaN, Infinity, -Infinity, Infinity]}'
    assert math.isnan(response.json()["predictions"][0])


def test_dtypes_without_json(call: Call) -> None:
    response = predict(call, "echo", signature_name="float16", inputs=[1])
    assert response.status_code == 501
    response = predict(call, "echo", signature_name="to_half", inputs=[1])
    assert response.status_code == 400
    assert response.json()["error"] == "Failed to write JSON value for tensor type: half"


def test_row_answer_needs_a_batch(call: Call) -> None:
    response = predict(call, "echo", signature_name="int32", inputs=1)
    assert response.json() == {"outputs": 1}


def test_large_body_is_refused(call: Call) -> None:
    response = call("POST", "/v1/models/linear:predict", b" " * 100_001)
    assert response.status_code == 413
    assert "larger than 100000 bytes" in response.json()["error"]

    async def chunks() -> Any:  # no content-length
        for _ in range(11):
            yield b" " * 10_000

    assert call("POST", "/v1/models/linear:predict", chunks()).status_code == 413


def test_many_threads_get_their_own_answers(call: Call) -> None:
    def ask(number: int) -> bool:
        response = predict(call, "linear", instances=[[number, 0, 0, 0]])
        return bool(response.json() == {"predictions": [[float(number)] * 2]})

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


def test_metrics_count_known_models_only(app: FastAPI, call: Call) -> None:
    predict(call, "linear", instances=[[0, 0, 0, 0]])
    predict(call, "linear", instances=[])
    predict(call, "invented", instances=[1])
    page = call("GET", "/monitoring/prometheus/metrics").text
    count = ":tensorflow:serving:request_count"
    assert f'{count}{{model_name="linear",status="OK"}} ' in page
    assert f'{count}{{model_name="linear",status="INVALID_ARGUMENT"}} ' in page
    assert ':tensorflow:serving:request_latency_bucket{model_name="linear",API="predict"' in page
    assert "invented" not in page

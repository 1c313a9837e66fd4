"""JSON to tensors and back: TF Serving's rules, RapidJSON's errors, and round trips."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.codec import PredictRequest, decode_request
from serving.server.json_parse import parse_json
from serving.server.json_values import debug_text
from serving.server.status import StatusError
from serving.server.tensor_json import decimal_texts, encode_response

few = settings(max_examples=40, deadline=None)  # seconds, on two shared cores
ONE: dict[str, tf.DType] = {"x": tf.float32}


def decode(document: Any, **types: tf.DType) -> PredictRequest:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_request(body, lambda _: types or ONE)


def error(document: Any, **types: tf.DType) -> str:
    with pytest.raises(StatusError) as caught:
        decode(document, **types)
    assert caught.value.http_status == 400
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"hello", "Invalid value. at offset: 0"),
        (b'{"instances":[1,2', "Missing a comma or ']' after an array element. at offset: 17"),
        (b'{"instances":[1 2]}', "Missing a comma or ']' after an array element. at offset: 16"),
        (b'{"instances":[1,]}', "Invalid value. at offset: 16"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'{"a":', "Invalid value. at offset: 5"),
        (b'{"a":nul}', "Invalid value. at offset: 8"),
        (b'{"a":"b', "Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a":"\\q"}', "Invalid escape character in string. at offset: 6"),
        (b'{"a":"\n"}', "Invalid encoding in string. at offset: 6"),
        (b'{"a":"\\u12g4"}', "Incorrect hex digit after \\u escape in string. at offset: 6"),
        (b'{"a":"\\ud800"}', "The surrogate pair in string is invalid. at offset: 6"),
        (b'{"a":1.}', "Miss fraction part in number. at offset: 7"),
        (b'{"a":1e}', "Miss exponent in number. at offset: 7"),
        (b'{"a":1e999}', "Number too big to be stored in double. at offset: 5"),
        (b'{"a":1} x', "The document root must not be followed by other values. at offset: 8"),
        (b"  ", "The document is empty. at offset: 2"),
        # The offset counts bytes: the e with its accent is two of them.
        ('{"é":1,}'.encode(), "Missing a name for object member. at offset: 8"),
        (b"[" * 100_000, "The document is nested too deeply."),
    ],
)
def test_parse_error_reads_like_rapidjson(body: bytes, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_json(body)
    assert caught.value.message == f"JSON Parse error: {message}"


def test_parse_takes_what_rapidjson_takes() -> None:
    text = b'\xef\xbb\xbf{"a": [NaN, Inf, -Infinity, -0, 12345678901234567890123], "a": 2, '
    text += b'"e": "\\ud83d\\ude00"}'
    document = parse_json(text)
    assert math.isnan(document["a"][0])
    assert document["a"][1:] == [math.inf, -math.inf, 0, 12345678901234567890123.0]
    assert document["e"] == "\N{GRINNING FACE}"
    assert parse_json(b'{"a":1}\0junk') == {"a": 1}
    assert parse_json(b'"\xff"').encode("utf-8", "surrogateescape") == b"\xff"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    # RapidJSON may miss the last bit of other doubles, here as in TF Serving.
    | st.floats(-1000, 1000).map(lambda x: round(x, 3))
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@few
@given(JSON, st.booleans(), st.sampled_from([b"", b"\xff"]))
def test_reads_what_python_wrote(value: Any, ascii_only: bool, prefix: bytes) -> None:
    # The byte that is not UTF-8 sends the document another way.
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse_json(b'["' + prefix + b'", ' + body + b"]")[1] == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'["\xff", 1e999]', "Number too big to be stored in double. at offset: 8"),
        (b'["\xff", "\\ud800"]', "The surrogate pair in string is invalid. at offset: 9"),
        (b'["\xff", ' + b"[" * 5000, "Maximum parse recursion depth exceeded!"),
        (b'["\xff"', "Missing a comma or ']' after an array element. at offset: 6"),
    ],
)
def test_bytes_that_are_no_text_hide_no_error(body: bytes, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_json(body)
    assert caught.value.message == f"JSON Parse error: {message}"


def test_bytes_that_are_no_text_survive() -> None:
    body = b'\xef\xbb\xbf{"a": ["\xff", NaN, 123456789012345678901234, 1], "a": 2}\0\xff'
    document = parse_json(body)
    assert document["a"][0].encode("utf-8", "surrogateescape") == b"\xff"
    assert document["a"][2:] == [123456789012345678901234.0, 1]


@few
@given(st.binary(max_size=30))
def test_any_bytes_give_a_value_or_a_status(body: bytes) -> None:
    for prefix in (b"", b'{"instances": ['):
        with contextlib.suppress(StatusError):  # whatever else it raised would be a 500
            parse_json(prefix + body)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "JSON Value: [\n    1\n] Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": []},
         'JSON Value: {\n    "instances": []\n} No values in \'instances\' array'),
        ({"signature_name": 1},
         'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
         "'signature_name' key must be a string value."),
        ({"instances": [[1, [2]]]}, "Failed to process element: 0 of 'instances' list. Error: "
         "INVALID_ARGUMENT: Encountered list at unexpected level: 1 expected < 1"),
        ({"instances": [[[1], 2]]}, "Failed to process element: 0 of 'instances' list. Error: "
         "INVALID_ARGUMENT: JSON Value: 2 found at incorrect level: 2 in the JSON DOM. "
         "Expected at level: 2"),
        ({"inputs": [[1, 2], [3]]},
         "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ({"instances": [[1, 2], [[1], [2]]]}, "Failed to process element: 1 of 'instances' list. "
         "Error: INVALID_ARGUMENT: Expecting shape [2] but got: [2,1]"),
        ({"instances": [1, {"x": 2}]},
         "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [{"x": 2}, 1]}, "Expecting object but got list at item 1 of input list"),
        ({"inputs": True}, "JSON Value: true Type: True is not of expected type: float"),
        ({"inputs": {"b64": "eA=="}}, 'JSON Value: {\n    "b64": "eA=="\n} Type: Object is not of '
         "expected type: float"),
    ],
)  # fmt: skip
def test_error_texts(document: Any, message: str) -> None:
    assert error(document) == message


def test_both_keys_are_refused() -> None:
    text = error({"inputs": [1], "instances": [1]})
    assert text.endswith("expecting only one of 'inputs' or 'instances' keys to exist ")
    assert error({"instances": 1}).endswith(" Excepting 'instances' to be an list/array")


ALIKE = 5000
"""More than are looked at together."""


@pytest.mark.parametrize(
    ("rows", "types", "message"),
    [
        ([1] * ALIKE + ["a"], ONE, "element: 5000 of 'instances' list. Error: INVALID_ARGUMENT: "
         'JSON Value: "a" Type: String'),
        ([[1]] * ALIKE + [[1, 2]], ONE, "element: 5000 of 'instances' list. Error: "
         "INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2"),
        ([{"x": 1, "s": "a"}] * ALIKE + [{"x": 1}, 7], {"x": tf.float32, "s": tf.string},
         'element: 5000 of \'instances\' list. JSON object: {\n    "x": 1\n} keys must be equal'),
        ([{"x": 1, "s": "a"}] * ALIKE + [{"x": 1, "t": "a"}], {"x": tf.float32, "s": tf.string},
         "element: 5000 key: t of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not"),
        ([{"x": 1}] * ALIKE + [7], ONE, "Expecting object but got list at item 5000"),
        ([1] * ALIKE + [{"x": 1}], ONE, "Expecting value/list but got object at item 5000"),
    ],
)  # fmt: skip
def test_the_first_bad_row_of_many_is_named(
    rows: list[Any], types: dict[str, tf.DType], message: str
) -> None:
    assert message in error({"instances": rows}, **types)
    assert message in error({"instances": [*rows, *rows]}, **types)


def test_many_rows_give_what_few_give() -> None:
    rows = [{"x": [[n, 1.5]], "s": [f"é{n}", {"b64": "/w=="}]} for n in range(ALIKE)]
    request = decode({"instances": rows}, x=tf.float32, s=tf.string)
    assert request.inputs["x"].shape == (ALIKE, 1, 2)
    assert request.inputs["x"][:, 0, 0].tolist() == list(range(ALIKE))
    assert request.inputs["s"][-1].tolist() == ["é4999".encode(), b"\xff"]
    columns = {"x": [r["x"] for r in rows], "s": [r["s"] for r in rows]}
    columnar = decode({"inputs": columns}, x=tf.float32, s=tf.string)
    for name in ("x", "s"):
        np.testing.assert_array_equal(columnar.inputs[name], request.inputs[name])


def test_more_dimensions_than_an_array_can_have() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert error({"inputs": deep}) == "Expecting at most 32 dimensions but got: 40"
    assert "Expecting at most 32 dimensions but got: 39" in error({"instances": deep})


@pytest.mark.parametrize("text", ["YQ=", "YQ==", "YQ", "Y Q\n=="])
def test_base64_with_and_without_padding(text: str) -> None:
    assert decode({"inputs": [{"b64": text}]}, x=tf.string).inputs["x"].tolist() == [b"a"]


@pytest.mark.parametrize("text", ["Y", "YQ!", "Y=Q", "é", "_-_-"])
def test_what_is_no_base64(text: str) -> None:
    assert error({"inputs": [{"b64": text}]}, x=tf.string) == "Unable to base64 decode"


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        (tf.int32, 1.0, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        (tf.int32, 2**31, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        (tf.uint64, -1, "JSON Value: -1 Type: Number is not of expected type: uint64"),
        (tf.int64, True, "JSON Value: true Type: True is not of expected type: int64"),
        (tf.bool, 1, "JSON Value: 1 Type: Number is not of expected type: bool"),
        (tf.float64, "a", 'JSON Value: "a" Type: String is not of expected type: double'),
        (tf.float32, None, "JSON Value: null Type: Null is not of expected type: float"),
        (tf.string, {"b64": "!"}, "Unable to base64 decode"),
        (tf.string, {"b": 1},
         'JSON Value: {\n    "b": 1\n} not formatted correctly for base64 data'),
    ],
)  # fmt: skip
def test_values_that_a_dtype_does_not_take(dtype: tf.DType, value: Any, message: str) -> None:
    assert error({"inputs": {"x": value}}, x=dtype) == message


def test_unsupported_dtype_is_unimplemented() -> None:
    with pytest.raises(StatusError) as caught:
        decode({"inputs": [1]}, x=tf.float16)
    assert caught.value.http_status == 501
    assert caught.value.message == "Conversion of JSON Value: 1 to type: half"


def test_small_integers_wrap_and_large_floats_overflow() -> None:
    assert decode({"inputs": [300]}, x=tf.int8).inputs["x"].tolist() == [44]  # 300 - 256
    assert decode({"inputs": [1e300]}).inputs["x"].tolist() == [math.inf]


def test_row_format_stacks_each_input() -> None:
    rows = [{"x": [1, 2], "s": "a"}, {"s": {"b64": "/w"}, "x": [3, 4]}]  # padding is optional
    request = decode({"instances": rows, "signature_name": "sig"}, x=tf.float32, s=tf.string)
    assert (request.signature_name, request.format) == ("sig", "row")
    assert request.inputs["x"].dtype == np.float32
    assert request.inputs["x"].tolist() == [[1, 2], [3, 4]]
    assert request.inputs["s"].tolist() == [b"a", b"\xff"]


def test_columnar_format_keeps_shapes() -> None:
    request = decode({"inputs": {"x": [[1.5]], "k": 3}}, x=tf.float32, k=tf.int32)
    assert request.format == "columnar"
    assert (request.inputs["x"].shape, request.inputs["k"].shape) == ((1, 1), ())
    assert decode({"inputs": {"x": []}}).inputs["x"].shape == (0,)
    assert decode({"inputs": [[], []]}).inputs["x"].shape == (2, 0)


def test_large_values_are_cut_in_errors() -> None:
    assert len(debug_text(["x" * 50] * 1000)) < 400
    assert len(debug_text({"b64": "x" * 5000})) == 512


def test_floats_are_written_short() -> None:
    # Six digits where they are enough, else nine; %g's exponent form; .0 on whole numbers.
    values = np.array([0.2, 1 / 3, 100, 9e6, 3e-5, -0.0, np.nan, np.inf, -np.inf], np.float32)
    assert decimal_texts(values) == [
        "0.2", "0.333333343", "100.0", "9e+06", "3e-05", "-0.0", "NaN", "Infinity", "-Infinity",
    ]  # fmt: skip
    assert decimal_texts(np.array([1 / 3])) == ["0.33333333333333331"]


def test_outputs() -> None:
    x, names = np.array([[1.0], [2.0]], np.float32), np.array([b"a", b'"\xff'], object)
    assert encode_response({"x": x}, "row") == b'{"predictions": [[1.0], [2.0]]}'
    assert encode_response({"x": x}, "columnar") == b'{"outputs": [[1.0], [2.0]]}'
    assert (
        encode_response({"n": names, "x": x[:, 0]}, "row")
        == b'{"predictions": [{"n": "a", "x": 1.0}, {"n": "\\"\xff", "x": 2.0}]}'
    )
    assert (
        encode_response({"n_bytes": names}, "row")
        == b'{"predictions": [{"b64": "YQ=="}, {"b64": "Iv8="}]}'
    )
    assert encode_response({"k": np.array(True)}, "columnar") == b'{"outputs": true}'


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"k": np.array(1)}, "Tensor name: k has no shape information "),
        (
            {"a": np.zeros(2), "b": np.zeros(3)},
            "Tensor name: b has inconsistent batch size: 3 expecting: 2",
        ),
        ({"h": np.zeros(1, np.float16)}, "Failed to write JSON value for tensor type: half"),
    ],
)
def test_outputs_without_json(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(StatusError) as caught:
        encode_response(outputs, "row")
    assert caught.value.message == message


def shapes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nested lists of one shape, of rank 1 to 3."""
    return st.lists(st.integers(1, 3), min_size=1, max_size=3).flatmap(
        lambda shape: st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)).map(
            lambda flat: np.array(flat, object).reshape(shape).tolist()
        )
    )


ROUND_TRIPS = {
    tf.float32: st.floats(width=32),
    tf.float64: st.floats(),
    tf.int64: st.integers(-(2**63), 2**63 - 1),
    tf.uint64: st.integers(0, 2**64 - 1),
    tf.bool: st.booleans(),
    tf.string: TEXT,
}


@pytest.mark.parametrize("dtype", ROUND_TRIPS, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("key", ["instances", "inputs"])
@few
@given(data=st.data())
def test_round_trip(dtype: tf.DType, key: str, data: st.DataObject) -> None:
    values = data.draw(shapes(ROUND_TRIPS[dtype]))
    request = decode({key: values}, x=dtype)
    answer = json.loads(encode_response(request.inputs, request.format))
    (answered,) = answer.values()
    answered, given = (np.array(x, dtype.as_numpy_dtype) for x in (answered, values))
    if dtype == tf.float64:  # RapidJSON may miss the last bits
        np.testing.assert_allclose(answered, given, rtol=1e-15)
    else:
        np.testing.assert_array_equal(answered, given)


@few
@given(data=st.data())
def test_binary_round_trip(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.binary(), min_size=1))
    encoded = [{"b64": base64.b64encode(value).decode()} for value in values]
    request = decode({"instances": encoded}, x=tf.string)
    assert request.inputs["x"].tolist() == values
    answer = json.loads(encode_response({"x_bytes": request.inputs["x"]}, "row"))
    assert answer["predictions"] == encoded

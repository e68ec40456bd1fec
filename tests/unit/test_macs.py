"""Multiply-adds of forms that shape inference does not see through."""

from __future__ import annotations

import numpy as np
import onnx

from rankine.models.macs import count_graph_macs


def model_of(body: str, **constants: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[rows, 12] x) => (float[a, b] y) {{ {body} }}'
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    return model


def test_macs_count_all_letters_when_a_product_is_an_einsum() -> None:
    body = (
        's = Constant<value = int64[3] {-1, 3, 4}>() v = Reshape(x, s) p = Einsum<equation = "bfd,bgd->bfg">(v, v) '
        "f = Constant<value = int64[2] {-1, 9}>() y = Reshape(p, f)"
    )
    assert count_graph_macs(model_of(body)) == 3 * 3 * 4


def test_macs_are_those_of_the_run_graph_when_sizes_are_computed_from_the_rows() -> None:
    body = (
        "r = Shape<start = 0, end = 1>(x) t = Constant<value = int64[1] {3}>() many = Mul(r, t) o = Squeeze(many) "
        "m = Constant<value = int64[1] {-1}>() q = Reshape(o, m) d = Constant<value = int64[1] {4}>() "
        "s = Concat<axis = 0>(q, d) v = Reshape(x, s) y = MatMul(v, W)"
    )
    assert count_graph_macs(model_of(body, W=np.ones((4, 5), np.float32))) == 3 * 4 * 5

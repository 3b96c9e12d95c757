"""Trains and quantizes the network of this folder: handwritten digits, 8x8 pixels, ten classes.

    pip install "qcompile[train]"
    python examples/digits/train_digits.py            # writes the three files beside this one
    python examples/digits/train_digits.py --plain    # writes digits_plain_float.onnx instead
    python examples/digits/train_digits.py --measure  # prints the accuracies of the files there

Data: the 1,797 handwritten digits inside scikit-learn's wheel (UCI's optical recognition set, test
part), pixels 0..16. Every fifth image is held out, 360 of them; neither training nor calibration
sees these.

Network: a 3x3 convolution, a depthwise-separable block, a 3x3 convolution with stride 2, a
depthwise-separable block with a residual Add, global average pooling, and a linear layer to ten
logits. It trains with batch normalization, which the float model holds folded into its weights;
the input is pixels as they are. The plain network is the same without the Add, for hardware that
adds no tensors; it is kept in float only. Quantization is ONNX Runtime's `quantize_static`: QDQ,
int8 activations with zero points, int8 weights with a scale a channel, int32 biases.
"""

# pyright: reportMissingImports=false
# jax and scikit-learn come with the extra `train`, which the checks of this project do not install.

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from jax import lax
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from sklearn.datasets import load_digits

FOLDER = Path(__file__).resolve().parent
FLOAT_MODEL = FOLDER / "digits_float.onnx"
PLAIN_MODEL = FOLDER / "digits_plain_float.onnx"
INT8_MODEL = FOLDER / "digits_int8.onnx"
TEST_INPUTS = FOLDER / "digits_test.npz"

SEED = 8
EPOCHS = 30
BATCH = 64
PEAK_LEARNING_RATE = 1e-2
VARIANCE_FLOOR = 1e-3
HELD_OUT_EVERY = 5
CALIBRATION_IMAGES = 400
OPSET = 17
IR_VERSION = 9  # of ONNX 1.14, which every runtime of the last years reads

# name: (output channels, input channels of a filter, kernel, stride)
CONVOLUTIONS = {
    "stem": (16, 1, 3, 1),
    "separable/depthwise": (16, 1, 3, 1),
    "separable/pointwise": (32, 16, 1, 1),
    "down": (32, 32, 3, 2),
    "residual/depthwise": (32, 1, 3, 1),
    "residual/pointwise": (32, 32, 1, 1),
}
FEATURES = 32
CLASSES = 10

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
Parameters = dict[str, jax.Array]


def load() -> tuple[Float32Array, Int64Array, Float32Array, Int64Array]:
    """Training images [N, 1, 8, 8] and labels, then the held-out ones."""
    pixels, targets = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 1, 8, 8)
    labels = np.asarray(targets, np.int64)
    held_out = np.arange(len(labels)) % HELD_OUT_EVERY == 0
    return images[~held_out], labels[~held_out], images[held_out], labels[held_out]


# ---------------------------------------------------------------------------------------- training


def initial_parameters(key: jax.Array) -> Parameters:
    """He-normal weights, scales of one, zero biases."""
    parameters = {"logits/bias": jnp.zeros(CLASSES)}
    shapes = {name: (o, i, k, k) for name, (o, i, k, _) in CONVOLUTIONS.items()}
    for name, shape in {**shapes, "logits": (CLASSES, FEATURES)}.items():
        key, subkey = jax.random.split(key)
        deviation = (2 / np.prod(shape[1:])) ** 0.5
        parameters[f"{name}/weight"] = deviation * jax.random.normal(subkey, shape)
    for name, shape in shapes.items():
        parameters[f"{name}/scale"] = jnp.ones(shape[0])
        parameters[f"{name}/bias"] = jnp.zeros(shape[0])
    return parameters


def by_channel(values: jax.Array) -> jax.Array:
    """[C] as [C, 1, 1], which broadcasts over images."""
    return values[:, jnp.newaxis, jnp.newaxis]


def convolve(weight: jax.Array, name: str, x: jax.Array) -> jax.Array:
    """One convolution of the table, padded so that stride 1 keeps the size."""
    _, filter_channels, kernel, stride = CONVOLUTIONS[name]
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=[(kernel // 2, kernel // 2)] * 2,
        feature_group_count=x.shape[1] // filter_channels,
    )


def batch_normalized(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    """Convolution, normalized with the batch's own mean and variance."""
    y = convolve(parameters[f"{name}/weight"], name, x)
    mean, variance = y.mean(axis=(0, 2, 3)), y.var(axis=(0, 2, 3))
    factor = parameters[f"{name}/scale"] * lax.rsqrt(variance + VARIANCE_FLOOR)
    return (y - by_channel(mean)) * by_channel(factor) + by_channel(parameters[f"{name}/bias"])


def forward(
    parameters: Parameters,
    pixels: jax.Array,
    layer: Callable[[Parameters, str, jax.Array], jax.Array] = batch_normalized,
    *,
    plain: bool,
) -> jax.Array:
    """Logits [N, 10] of images [N, 1, 8, 8]; `layer` computes one convolution, plain has no Add."""
    relu = jax.nn.relu
    x = relu(layer(parameters, "stem", pixels))
    x = relu(layer(parameters, "separable/depthwise", x))
    x = relu(layer(parameters, "separable/pointwise", x))
    x = relu(layer(parameters, "down", x))
    y = relu(layer(parameters, "residual/depthwise", x))
    y = layer(parameters, "residual/pointwise", y)
    x = relu(y if plain else x + y).mean(axis=(2, 3))
    return x @ parameters["logits/weight"].T + parameters["logits/bias"]


def folded(parameters: Parameters, images: Float32Array, *, plain: bool) -> dict[str, Float32Array]:
    """Weights and biases with the normalization inside, from the statistics of all `images`."""
    result = {name: parameters[name] for name in ("logits/weight", "logits/bias")}

    def fold(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
        weight = parameters[f"{name}/weight"]
        y = convolve(weight, name, x)
        mean, variance = y.mean(axis=(0, 2, 3)), y.var(axis=(0, 2, 3))
        factor = parameters[f"{name}/scale"] * lax.rsqrt(variance + VARIANCE_FLOOR)
        result[f"{name}/weight"] = weight * by_channel(factor)[..., jnp.newaxis]
        result[f"{name}/bias"] = parameters[f"{name}/bias"] - mean * factor
        return convolve(result[f"{name}/weight"], name, x) + by_channel(result[f"{name}/bias"])

    forward(parameters, jnp.asarray(images), fold, plain=plain)
    return {name: np.array(value) for name, value in result.items()}


def loss(parameters: Parameters, pixels: jax.Array, labels: jax.Array, plain: bool) -> jax.Array:
    """Cross entropy with a little label smoothing."""
    targets = 0.9 * jax.nn.one_hot(labels, CLASSES) + 0.1 / CLASSES
    return (
        -(targets * jax.nn.log_softmax(forward(parameters, pixels, plain=plain))).sum(axis=1).mean()
    )


@partial(jax.jit, static_argnames=("steps", "plain"))
def adam_step(
    parameters: Parameters,
    moments: tuple[Parameters, Parameters],
    pixels: jax.Array,
    labels: jax.Array,
    step: jax.Array,
    steps: int,
    plain: bool,
) -> tuple[Parameters, tuple[Parameters, Parameters]]:
    """One step of Adam; the learning rate falls from its peak to zero along a cosine."""
    gradients = jax.grad(loss)(parameters, pixels, labels, plain)
    rate = PEAK_LEARNING_RATE * 0.5 * (1 + jnp.cos(jnp.pi * step / steps))
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradients)
    t = step + 1

    def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p - rate * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return jax.tree.map(moved, parameters, first, second), (first, second)


def shifted(images: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Two images in five moved by a pixel along each axis, the border filled with zeros."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = rng.choice([0, 1, 1, 1, 2], size=(2, len(images)))
    rows = down[:, np.newaxis] + np.arange(images.shape[2])
    columns = right[:, np.newaxis] + np.arange(images.shape[3])
    index = np.arange(len(images))[:, np.newaxis, np.newaxis]
    moved = padded[index, 0, rows[:, :, np.newaxis], columns[:, np.newaxis, :]]
    return moved[:, np.newaxis]


def train(images: Float32Array, labels: Int64Array, *, plain: bool) -> dict[str, Float32Array]:
    """Folded weights and biases after EPOCHS passes over the images."""
    rng = np.random.default_rng(SEED)
    parameters = initial_parameters(jax.random.key(SEED))
    moments = (jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters))
    batches = len(labels) // BATCH
    for epoch in range(EPOCHS):
        order = rng.permutation(len(labels))
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            step = jnp.float32(epoch * batches + batch)
            parameters, moments = adam_step(
                parameters,
                moments,
                shifted(images[chosen], rng),
                labels[chosen],
                step,
                EPOCHS * batches,
                plain,
            )
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {loss(parameters, images, labels, plain):.4f}")
    return folded(parameters, images, plain=plain)


# ------------------------------------------------------------------------------------------- files


def convolution_node(name: str, source: str, channels: int) -> onnx.NodeProto:
    """One convolution of the table as ONNX."""
    _, filter_channels, kernel, stride = CONVOLUTIONS[name]
    return helper.make_node(
        "Conv",
        [source, f"{name}/weight", f"{name}/bias"],
        [f"{name}/conv"],
        name,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[kernel // 2] * 4,
        group=channels // filter_channels,
    )


def float_model(parameters: Mapping[str, Float32Array], *, plain: bool) -> onnx.ModelProto:
    """The network of `forward` as ONNX."""

    def relu(source: str, name: str) -> onnx.NodeProto:
        return helper.make_node("Relu", [source], [f"{name}/relu"], f"{name}/relu")

    last = "residual/pointwise/conv" if plain else "residual/sum"
    shortcut = helper.make_node(
        "Add", ["down/relu", "residual/pointwise/conv"], ["residual/sum"], "residual"
    )
    nodes = [
        convolution_node("stem", "image", 1),
        relu("stem/conv", "stem"),
        convolution_node("separable/depthwise", "stem/relu", 16),
        relu("separable/depthwise/conv", "separable/depthwise"),
        convolution_node("separable/pointwise", "separable/depthwise/relu", 16),
        relu("separable/pointwise/conv", "separable/pointwise"),
        convolution_node("down", "separable/pointwise/relu", 32),
        relu("down/conv", "down"),
        convolution_node("residual/depthwise", "down/relu", 32),
        relu("residual/depthwise/conv", "residual/depthwise"),
        convolution_node("residual/pointwise", "residual/depthwise/relu", 32),
        *([] if plain else [shortcut]),
        relu(last, "residual"),
        helper.make_node("GlobalAveragePool", ["residual/relu"], ["pool/mean"], "pool"),
        helper.make_node("Reshape", ["pool/mean", "features/shape"], ["features"], "features"),
        helper.make_node(
            "Gemm",
            ["features", "logits/weight", "logits/bias"],
            ["logits"],
            "logits",
            transB=1,
        ),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in parameters.items()]
    shape = np.array([1, -1], np.int64)
    constants.append(numpy_helper.from_array(shape, "features/shape"))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    model.producer_name = "train_digits.py"
    onnx.checker.check_model(model, full_check=True)
    return model


class TrainingImages(CalibrationDataReader):
    """Gives the calibration one image at a time."""

    def __init__(self, images: Float32Array) -> None:
        self._images: Iterator[Float32Array] = iter(images)

    def get_next(self) -> dict[str, Float32Array]:
        """The next image as the model's input, or nothing after the last."""
        image = next(self._images, None)
        return {} if image is None else {"image": image[np.newaxis]}


def write_files() -> None:
    """Train, and write the float model, the int8 model and the held-out inputs."""
    images, labels, test_images, test_labels = load()
    onnx.save(float_model(train(images, labels, plain=False), plain=False), FLOAT_MODEL)
    quantize_static(
        FLOAT_MODEL,
        INT8_MODEL,
        TrainingImages(images[:CALIBRATION_IMAGES]),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    np.savez_compressed(TEST_INPUTS, x=test_images, y=test_labels)


def write_plain() -> None:
    """Train the network without the Add, and write its float model."""
    images, labels, _, _ = load()
    onnx.save(float_model(train(images, labels, plain=True), plain=True), PLAIN_MODEL)


def accuracy(model: Path, images: Float32Array, labels: Int64Array) -> float:
    """Share of the images that ONNX Runtime classifies rightly."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    scores = [np.asarray(session.run(None, {"image": image[np.newaxis]})[0]) for image in images]
    return float((np.concatenate(scores).argmax(axis=1) == labels).mean())


def main() -> None:
    """Write the files (unless --measure) and print what they reach."""
    parser = argparse.ArgumentParser(description="train and quantize the digits network")
    parser.add_argument("--measure", action="store_true", help="only print the accuracies")
    parser.add_argument("--plain", action="store_true", help="only the network without the Add")
    arguments = parser.parse_args()
    if arguments.plain:
        write_plain()
    elif not arguments.measure:
        write_files()
    held_out = np.load(TEST_INPUTS)
    for model in (FLOAT_MODEL, INT8_MODEL, PLAIN_MODEL):
        reached = accuracy(model, held_out["x"], held_out["y"])
        print(f"{model.name}: {reached:.2%} of {len(held_out['y'])} held-out digits")


if __name__ == "__main__":
    main()

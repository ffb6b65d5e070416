"""The engine's public surface: every name that users of the original Lucid know (docs/from-the-original.md).

A name that is not there yet stands in ``NOT_YET``, and the test fails when it appears: the list only gets shorter.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest


def sided(*names: str) -> str:
    """``Conv`` as ``Conv1d Conv2d Conv3d``."""
    return " ".join(f"{name}{sides}d" for name in names for sides in (1, 2, 3))


ELEMENTWISE = """add sub multiply div power minimum maximum exp log log2 sqrt square cube abs sign reciprocal
sin cos tan arcsin arccos arctan sinh cosh tanh clip round floor ceil where masked_fill"""
REDUCTIONS = "sum mean var min max argmin argmax cumsum cumprod trace all any"
PRODUCTS = "matmul dot inner outer tensordot"
SHAPES = """reshape ravel flatten squeeze unsqueeze expand_dims transpose swapaxes broadcast_to repeat tile concatenate
stack hstack vstack split chunk unbind pad roll meshgrid diagonal tril triu"""
ORDER = "sort argsort topk unique nonzero histogram"
FUNCTIONS = " ".join((ELEMENTWISE, REDUCTIONS, PRODUCTS, SHAPES, ORDER))

SURFACE = {
    "lucid": f"""tensor to_tensor zeros ones empty full eye arange linspace diag zeros_like ones_like empty_like
        full_like {FUNCTIONS} histogram2d no_grad grad_enabled count_flops save load register_model newaxis
        Int8 Int16 Int32 Int64 Float16 Float32 Float64""",
    "lucid.Tensor": f"""{FUNCTIONS} backward grad zero_grad detach item numpy tolist astype to is_cpu is_gpu is_leaf
        register_hook T mT shape ndim size dtype device __array__ __dlpack__ __getitem__ __setitem__ __contains__
        __iadd__ __isub__ __imul__ __itruediv__ __floordiv__ __rfloordiv__ __mod__ __rmod__ __pow__ __rpow__
        __and__ __or__ __xor__ __invert__""",
    "lucid.nn": f"""Module Parameter Buffer Sequential ModuleList ModuleDict ParameterList ParameterDict Identity
        Flatten Linear Bilinear Embedding {sided("Conv", "ConvTranspose")} Unfold Upsample
        {sided("ConvBNReLU", "DepthSeparableConv")} SEModule SelectiveKernel
        {sided("BatchNorm", "InstanceNorm")} LayerNorm GroupNorm GlobalResponseNorm
        {sided("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool")}
        ReLU ReLU6 LeakyReLU ELU SELU GELU Sigmoid HardSigmoid HardSwish Swish Tanh Softmax
        Dropout {sided("Dropout")} AlphaDropout DropBlock DropPath
        MSELoss BCELoss NLLLoss CrossEntropyLoss HuberLoss
        ScaledDotProductAttention MultiHeadAttention Transformer TransformerEncoder TransformerDecoder
        TransformerEncoderLayer TransformerDecoderLayer RMSNorm Rearrange ResNet""",
    "lucid.nn.Module": """forward parameters named_parameters buffers modules named_modules children add_module
        register_parameter register_buffer apply to train eval state_dict load_state_dict register_forward_hook
        register_backward_hook count_parameters parameter_size extra_repr""",
    "lucid.nn.Sequential": "from_modules from_ordered_dict",
    "lucid.nn.ModuleDict": "clear",
    "lucid.nn.functional": f"""linear bilinear embedding {sided("conv", "conv_transpose")}
        unfold interpolate grid_sample affine_grid normalize rotate
        batch_norm instance_norm layer_norm group_norm rms_norm global_response_norm
        {sided("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")}
        relu relu6 leaky_relu elu selu gelu sigmoid hard_sigmoid hard_swish swish tanh softmax log_softmax
        dropout {sided("dropout")} alpha_dropout drop_block drop_path
        mse_loss binary_cross_entropy nll_loss cross_entropy huber_loss scaled_dot_product_attention""",
    "lucid.nn.init": "uniform normal constant xavier_uniform xavier_normal kaiming_uniform kaiming_normal",
    "lucid.optim": "SGD ASGD Adam AdamW Adamax NAdam RAdam Adagrad Adadelta RMSprop Rprop",
    "lucid.optim.lr_scheduler": """LambdaLR StepLR MultiStepLR ExponentialLR CosineAnnealingLR CyclicLR
        ReduceLROnPlateau""",
    "lucid.linalg": "inv det solve cholesky norm eig qr svd matrix_power pinv",
    "lucid.random": "seed rand randn uniform randint bernoulli permutation",
    "lucid.einops": "rearrange reduce repeat einsum",
    "lucid.data": "Dataset ConcatDataset DataLoader",
    "lucid.transforms": """Compose ToTensor Normalize Resize CenterCrop RandomCrop RandomHorizontalFlip
        RandomVerticalFlip RandomRotation RandomGrayscale""",
    "lucid.types": "Numeric",
    "lucid.models": """ResNet resnet_18 resnet_34 resnet_50 resnet_101 resnet_152 resnet_200 resnet_269 resnet_1001
        wide_resnet_50 wide_resnet_101 summarize get_model_names get_model""",
    "lucid.models.blocks": "BasicBlock Bottleneck PreActBottleneck",
}
NOT_YET = """
"""
MISSING = frozenset(NOT_YET.split())


def names() -> Iterator[str]:
    for place, found in SURFACE.items():
        yield from (f"{place}.{name}" for name in found.split())


def there(path: str) -> bool:
    place, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(place), name)
    except ModuleNotFoundError:  # a class, or nothing
        outer, _, inner = place.rpartition(".")
        return bool(outer) and there(place) and hasattr(getattr(importlib.import_module(outer), inner), name)


@pytest.mark.parametrize("place", SURFACE)
def test_the_names_are_there(place: str) -> None:
    absent = {path for path in names() if path.rpartition(".")[0] == place and not there(path)}
    assert absent == {path for path in MISSING if path.rpartition(".")[0] == place}


def test_what_is_missing_was_asked_for() -> None:
    assert set(names()) >= MISSING

"""EfficientNet-B0 as IDC and MinimaxDiffusion use it: the efficientnet_pytorch package with random weights."""

from __future__ import annotations

from ddbench_plugins.networks.bridges import Bridged


def build(*, in_channels: int, image_size: int, num_classes: int) -> Bridged:
    """Build EfficientNet-B0 with TensorFlow's "same" padding and dropout 0.2, for any image size.

    Made from timm's model with that package's settings: batch norm of momentum 0.01 and eps 1e-3, blocks dropped with
    a chance growing to 0.2, PyTorch's default initialisation.
    """
    import timm

    model = timm.create_model(
        "tf_efficientnet_b0",
        in_chans=in_channels,
        num_classes=num_classes,
        drop_rate=0.2,
        drop_path_rate=0.2,
        bn_momentum=0.01,
        bn_eps=1e-3,
    )
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return Bridged(model)

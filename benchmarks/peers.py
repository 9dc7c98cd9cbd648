"""Grad-CAM by MONAI, captum, torchcam and pytorch-grad-cam, each as its own documentation calls it.

Where a peer can leave out bringing the map to the input's grid (MONAI) or normalising it (torchcam), it does, as ours
is raw too. MONAI and pytorch-grad-cam leave traces on the network, so each peer works on a copy of its own.
"""

from __future__ import annotations

import copy
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import torchcam.methods
from captum.attr import LayerGradCam
from monai.visualize import GradCAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.networks import Setting

    Run = Callable[[], object]

os.environ["TQDM_DISABLE"] = "1"  # pytorch-grad-cam draws progress bars


def _stand_in_for_torchvision() -> None:
    """Give pytorch-grad-cam the names that it imports and that class activation maps do not use.

    torchvision's wheel is compiled against a CUDA build of torch: beside torch for the CPU its import fails ("operator
    torchvision::nms does not exist").
    """
    names = {
        "torchvision": (),
        "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
        "torchvision.transforms.functional": ("resize",),
    }
    for name, attributes in names.items():
        module = ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, None)
        sys.modules[name] = module


_stand_in_for_torchvision()
import pytorch_grad_cam  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402


def by_monai(setting: Setting) -> Run:
    """``monai.visualize.GradCAM``, without upsampling and normalising."""
    cam = GradCAM(nn_module=copy.deepcopy(setting.network), target_layers=setting.last_layer)
    return lambda: cam.compute_map(setting.inputs, class_idx=1)


def by_captum(setting: Setting) -> Run:
    """``captum.attr.LayerGradCam``."""
    network = copy.deepcopy(setting.network)
    cam = LayerGradCam(network, network.get_submodule(setting.last_layer))
    return lambda: cam.attribute(setting.inputs, target=1, relu_attributions=True)


def by_torchcam(setting: Setting) -> Run:
    """``torchcam.methods.GradCAM``, not normalised."""
    network = copy.deepcopy(setting.network)

    def run() -> object:
        with torchcam.methods.GradCAM(network, setting.last_layer) as cam:
            return cam(1, network(setting.inputs), normalized=False)

    return run


def by_pytorch_grad_cam(setting: Setting, method: str = "GradCAM") -> Run:
    """``pytorch_grad_cam.GradCAM``, or another of its methods; upsampling and normalising cannot be left out."""
    network = copy.deepcopy(setting.network)

    def run() -> object:
        # The layer is looked up each time: Ablation-CAM puts another in its place and may leave it there.
        layers = [network.get_submodule(setting.last_layer)]
        with getattr(pytorch_grad_cam, method)(model=network, target_layers=layers) as cam:
            return cam(input_tensor=setting.inputs, targets=[ClassifierOutputTarget(1)])

    return run

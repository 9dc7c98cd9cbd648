"""Small bundles with random weights, written as the five classifiers of MONAI's model zoo are.

``python -m tests.classifiers.zoo FOLDER`` writes all of them. Those whose network is torchvision's need it, or the
small stand-in :class:`Vision`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.networks.nets import DenseNet121, SEResNet50
from torch import Tensor, nn

Content = dict[str, Any]

SMALL = {"init_features": 4, "growth_rate": 4, "block_config": [2, 2], "bn_size": 1}
"""Arguments that make a DenseNet121 small."""


class Vision:
    """Stands for ``torchvision.models``: its two networks that the zoo uses, with their names and few channels."""

    class ResNet(nn.Module):
        """Parts that are called as in ``torchvision.models.resnet18``."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False)
            self.bn1, self.relu = nn.BatchNorm2d(4), nn.ReLU()
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            channels = (4, 4, 6, 8, 8)
            for number in range(1, 5):
                block = nn.Conv2d(channels[number - 1], channels[number], 3, stride=1 if number == 1 else 2, padding=1)
                setattr(self, f"layer{number}", nn.Sequential(block, nn.ReLU()))
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 1000)

        def forward(self, x: Tensor) -> Tensor:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(self.avgpool(x).flatten(1))

    class Inception(nn.Module):
        """Parts that are called as in ``torchvision.models.inception_v3``, with its second head for the training."""

        def __init__(self) -> None:
            super().__init__()
            self.Conv2d_1a_3x3 = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
            self.AuxLogits = nn.Linear(4, 1000)
            self.Mixed_7c = nn.Sequential(nn.Conv2d(4, 8, 3, stride=8), nn.ReLU())
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 1000)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.avgpool(self.Mixed_7c(self.Conv2d_1a_3x3(x))).flatten(1))

    @staticmethod
    def resnet18(weights: Any = None) -> nn.Module:
        """Build the network, never with weights from elsewhere."""
        assert weights is None
        return Vision.ResNet()

    @staticmethod
    def inception_v3(weights: Any = None) -> nn.Module:
        """Build the network, never with weights from elsewhere."""
        assert weights is None
        return Vision.Inception()


def write(
    folder: Path, inference: Content, metadata: Content, network: nn.Module, *, ending: str = "json", scripts: str = ""
) -> Path:
    """Write a bundle."""
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    text = json.dumps(inference, indent=4) if ending == "json" else yaml.safe_dump(inference, sort_keys=False)
    (folder / f"configs/inference.{ending}").write_text(text)
    (folder / "configs/metadata.json").write_text(json.dumps(metadata, indent=4))
    (folder / "configs/logging.conf").write_text("[loggers]\nkeys=root\n")
    (folder / "docs/README.md").write_text("# Random weights\n")
    (folder / "LICENSE").write_text("Apache License\n")
    if scripts:
        (folder / "scripts").mkdir()
        (folder / "scripts/__init__.py").write_text("")
        (folder / "scripts/own.py").write_text(scripts)
    torch.save(network.state_dict(), folder / "models/model.pt")
    return folder


def metadata(name: str, channels: int, size: int, outputs: Content, **image: Any) -> Content:
    """Write what all of them say of themselves."""
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema.json",
        "version": "0.1.1",
        "changelog": {"0.1.0": "first", "0.1.1": "second"},
        "monai_version": "1.3.0",
        "pytorch_version": "2.0.0",
        "task": f"{name}, task",
        "description": f"{name}, with random weights.",
        "authors": "nobody",
        "copyright": "Copyright (c) nobody",
        "intended_use": "A test of its reading.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image", "format": "RGB", "num_channels": channels, "spatial_shape": [size, size],
                    "dtype": "float32", "value_range": [0, 1], "is_patch_data": False, **image,
                },
            },
            "outputs": {"pred": outputs},
        },
    }  # fmt: skip


EVALUATION: Content = {
    "dataset": {"_target_": "CacheDataset", "data": "@data", "transform": "@preprocessing", "cache_rate": 0.0},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False},
    "handlers": [
        {
            "_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"}, "map_location": "@device",
        },
        {"_target_": "StatsHandler", "iteration_log": False},
    ],
    "evaluator": {
        "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader", "network": "@network",
        "inferer": "@inferer", "postprocessing": "@postprocessing", "val_handlers": "@handlers",
    },
    "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', True)"],
    "run": ["$@evaluator.run()"],
}  # fmt: skip
"""What every one of them would run, and what none is run of here."""

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"


BREAST_SCRIPT = '''
import json


def create_dataset(path):
    """List pictures."""
    return json.load(open(path))
'''


def breast_density(folder: Path) -> Path:
    """Write breast_density_classification: ``import`` for ``imports``, ``pretrained``, a script that lists files."""
    from monai.networks.nets import TorchVisionFCModel

    classes = {"0": "A", "1": "B", "2": "C", "3": "D"}
    network = {
        "_target_": "TorchVisionFCModel", "model_name": "inception_v3", "num_classes": 4, "pool": None,
        "use_conv": False, "bias": True, "pretrained": True,
    }  # fmt: skip
    inference = {
        "import": ["$import glob", "$import os"],
        "bundle_root": ".",
        "model_dir": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/output'",
        "data": {"_target_": "scripts.own.create_dataset", "path": "$@bundle_root + '/sample_data/list.json'"},
        "device": DEVICE,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImageD", "keys": "image", "image_only": True, "ensure_channel_first": True},
                {"_target_": "Resized", "keys": "image", "spatial_size": [299, 299]},
                {"_target_": "ScaleIntensityd", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}],
        },
        **EVALUATION,
    }
    outputs = {
        "type": "probabilities", "format": "classes", "num_channels": 4, "spatial_shape": [1, 4],
        "channel_def": classes,
    }  # fmt: skip
    built = TorchVisionFCModel(**{k: v for k, v in network.items() if k not in ("_target_", "pretrained")})
    described = metadata("Breast density", 3, 299, outputs, channel_def={"0": "red", "1": "green", "2": "blue"})
    return write(folder, inference, described, built, scripts=BREAST_SCRIPT)


def classification_template(folder: Path) -> Path:
    """Write classification_template: YAML, and postprocessing that needs the label."""
    inference = {
        "imports": ["$import glob", "$import os", "$import ignite"],
        "bundle_root": ".",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "dataset_dir": "/workspace/data",
        "device": DEVICE,
        "spatial_dims": "$len(@spatial_shape)",
        "spatial_shape": [128, 128],
        "num_classes": 4,
        "network_def": {
            "_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": "@num_classes", **SMALL,
        },
        "network": "$@network_def.to(@device)",
        "data": "$[{'image': i} for i in glob.glob(@dataset_dir + '/*.png')]",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": ["image", "label"], "image_only": True},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "ScaleIntensityd", "keys": "@image"},
                {"_target_": "Resized", "keys": "image", "spatial_size": "@spatial_shape"},
                {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
            ],
        },
        "image": "$'image'",
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False],
                    "to_onehot": "@num_classes",
                },
            ],
        },
        **EVALUATION,
    }  # fmt: skip
    outputs = {
        "type": "probabilities", "format": "classes", "num_channels": 4, "spatial_shape": [1, 4], "dtype": "float32",
        "value_range": [0, 1], "channel_def": {"0": "class0", "1": "class1", "2": "class2", "3": "class3"},
    }  # fmt: skip
    described = metadata("Template", 1, 128, outputs, modality="n/a", channel_def={"0": "image"})
    return write(folder, inference, described, DenseNet121(2, 1, 4, **SMALL), ending="yaml")


def endoscopic_inbody(folder: Path) -> Path:
    """Write endoscopic_inbody_classification: argmax alone, so that the probabilities must be derived."""
    inference = {
        "imports": ["$import os", "$import json"],
        "bundle_root": ".",
        "test_json": "$@bundle_root+'/label/test_samples.json'",
        "device": DEVICE,
        "network_def": {
            "_target_": "SEResNet50", "spatial_dims": 2, "in_channels": 3, "num_classes": 2, "layers": [1, 1, 1, 1],
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "AsChannelFirstd", "keys": "image"},
                {"_target_": "Resized", "keys": "image", "spatial_size": [256, 256], "mode": "bilinear"},
                {"_target_": "CastToTyped", "dtype": "$torch.float32", "keys": "image"},
                {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True, "keys": ["image"]},
                {"_target_": "EnsureTyped", "keys": ["image"]},
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "AsDiscreted", "argmax": True, "to_onehot": 2, "keys": ["pred", "label"]},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@bundle_root"},
            ],
        },
        **EVALUATION,
    }  # fmt: skip
    outputs = {
        "type": "probabilities", "format": "classification", "num_channels": 2, "spatial_shape": [1],
        "channel_def": {"0": "out body", "1": "in body"},
    }  # fmt: skip
    described = metadata("Inbody", 3, 256, outputs, modality="RGB", channel_def={"0": "R", "1": "G", "2": "B"})
    built = SEResNet50(spatial_dims=2, in_channels=3, num_classes=2, layers=(1, 1, 1, 1))
    return write(folder, inference, described, built)


def tumor_detection(folder: Path) -> Path:
    """Write pathology_tumor_detection: a convolution as its head, one logit of shape (1, 1, 1, 1)."""
    from monai.networks.nets import TorchVisionFCModel

    network = {
        "_target_": "TorchVisionFCModel", "model_name": "resnet18", "num_classes": 1, "use_conv": True,
        "pretrained": False,
    }  # fmt: skip
    inference = {
        "bundle_root": "/workspace/bundle",
        "dataset_json": "$@bundle_root + '/testing.json'",
        "region_size": [7680, 7680],
        "patch_size": [224, 224],
        "number_intensity_ch": 3,
        "device": DEVICE,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Lambdad", "keys": "label", "func": "$lambda x: x.reshape((1, 1))"},
                {"_target_": "CastToTyped", "keys": "image", "dtype": "float32"},
                {
                    "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0.0, "a_max": 255.0, "b_min": -1.0,
                    "b_max": 1.0,
                },
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                {"_target_": "SaveClassificationd", "keys": "pred", "filename": "$@bundle_root + '/out.csv'"},
            ],
        },
        **EVALUATION,
    }  # fmt: skip
    outputs = {
        "type": "probabilities", "format": "classification", "num_channels": 1, "spatial_shape": [1, 1],
        "value_range": [0, 1], "channel_def": {"0": "metastasis"},
    }  # fmt: skip
    built = TorchVisionFCModel(**{k: v for k, v in network.items() if k != "_target_"})
    return write(folder, inference, metadata("Tumour", 3, 224, outputs, value_range=[0, 255]), built)


NUCLEI_SCRIPT = '''
from monai.transforms import MapTransform


class FlattenLabeld(MapTransform):
    def __call__(self, data):
        return dict(data)


class AddMaskd(MapTransform):
    """The label becomes a fourth channel."""

    def __call__(self, data):
        return dict(data)
'''


def nuclei_classification(folder: Path) -> Path:
    """Write pathology_nuclei_classification: RGB and a mask, put together by its scripts from the label."""
    inference = {
        "imports": ["$import glob", "$import os", "$import scripts"],
        "bundle_root": ".",
        "device": DEVICE,
        "network_def": {"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 4, "out_channels": 4, **SMALL},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": ["image", "label"], "dtype": "uint8"},
                {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
                {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1},
                {"_target_": "scripts.own.FlattenLabeld", "keys": "label"},
                {"_target_": "scripts.own.AddMaskd", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
        **EVALUATION,
    }
    outputs = {
        "type": "probabilities", "format": "classes", "num_channels": 4, "spatial_shape": [1, 4],
        "channel_def": {"0": "Other", "1": "Inflammatory", "2": "Epithelial", "3": "Spindle-Shaped"},
    }  # fmt: skip
    described = metadata(
        "Nuclei", 4, 128, outputs, channel_def={"0": "R", "1": "G", "2": "B", "3": "mask"}, value_range=[0, 1]
    )
    return write(folder, inference, described, DenseNet121(2, 4, 4, **SMALL), scripts=NUCLEI_SCRIPT)


BUNDLES = {
    "breast_density_classification": breast_density,
    "classification_template": classification_template,
    "endoscopic_inbody_classification": endoscopic_inbody,
    "pathology_tumor_detection": tumor_detection,
    "pathology_nuclei_classification": nuclei_classification,
}
"""What they are called in the zoo, and how each is written."""


def main() -> None:
    """Write all of them into the folder that is named."""
    from monai.networks.nets import torchvision_fc

    torchvision_fc.models = Vision  # weights of the stand-in: the bundles are for tests
    for name, make in BUNDLES.items():
        torch.manual_seed(0)
        make(Path(sys.argv[1]) / name)


if __name__ == "__main__":
    main()

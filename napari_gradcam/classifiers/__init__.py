"""A network, its preprocessing and its classes. Importing this room loads torch and MONAI."""

from napari_gradcam.classifiers.bundle import load_classifier
from napari_gradcam.classifiers.classifier import Classifier

__all__ = ["Classifier", "load_classifier"]

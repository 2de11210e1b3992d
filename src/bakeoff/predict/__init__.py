"""Trained model x image files -> predictions: CSV, JSON lines, COCO, masks and pictures."""

from bakeoff.predict.inputs import find_images
from bakeoff.predict.opening import open_predictor
from bakeoff.predict.output import write_coco, write_csv, write_jsonl
from bakeoff.predict.pictures import Folders, illustrated
from bakeoff.predict.prediction import Prediction, predict
from bakeoff.predict.predictor import Predictor
from bakeoff.predict.writing import Output, write

__all__ = [
    "Folders",
    "Output",
    "Prediction",
    "Predictor",
    "find_images",
    "illustrated",
    "open_predictor",
    "predict",
    "write",
    "write_coco",
    "write_csv",
    "write_jsonl",
]

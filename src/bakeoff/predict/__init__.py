"""Trained model x image files -> predictions: CSV, JSON lines, COCO, masks and pictures."""

from bakeoff.predict.inputs import find_images
from bakeoff.predict.output import write_coco, write_csv, write_jsonl
from bakeoff.predict.pictures import Folders, illustrated
from bakeoff.predict.prediction import Prediction, predict
from bakeoff.predict.writing import Output, write

__all__ = [
    "Folders",
    "Output",
    "Prediction",
    "find_images",
    "illustrated",
    "predict",
    "write",
    "write_coco",
    "write_csv",
    "write_jsonl",
]

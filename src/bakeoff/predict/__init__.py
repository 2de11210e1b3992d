"""Predictor x images and videos -> predictions: CSV, JSON lines, COCO, YOLO, VOC, masks, pictures and videos."""

from bakeoff.predict.inputs import find_images
from bakeoff.predict.opening import open_predictor
from bakeoff.predict.options import Options
from bakeoff.predict.output import write_coco, write_csv, write_jsonl
from bakeoff.predict.pictures import Folders, illustrated
from bakeoff.predict.prediction import Prediction, predict
from bakeoff.predict.predictor import Predictor
from bakeoff.predict.writing import Output, write

__all__ = [
    "Folders",
    "Options",
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

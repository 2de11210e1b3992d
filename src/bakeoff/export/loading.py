"""The few lines with which somebody without bakeoff uses an exported file: part of its model card."""

from __future__ import annotations

from collections.abc import Mapping

from bakeoff.data.decode import PADDING, Resize
from bakeoff.models.trained import Trained

RESIZED: Mapping[Resize, str] = {
    "squash": "image.resize(({size}, {size}), Image.Resampling.BICUBIC)",
    "crop": "ImageOps.fit(image, ({size}, {size}), Image.Resampling.BICUBIC)",
    "pad": "ImageOps.pad(image, ({size}, {size}), Image.Resampling.BICUBIC, color={padding})",
}
OPENED = """image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
images = np.asarray({resized})[None]  # (1, {size}, {size}, 3) uint8
"""
ONNX = """```python
import json
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
{opened}{outputs} = session.run(None, {{"images": images}})
print({answer})
```

Normalisation and softmax are inside; the file's metadata hold task, classes, size and resize. With bakeoff, and without
torch: `bakeoff predict {file} photos`.
"""
PT2 = """```python
import numpy as np
import torch
from PIL import Image, ImageOps

classes = {classes}
network = torch.export.load("{file}").module()
{opened}with torch.no_grad():
    probabilities = network(torch.from_numpy(images.copy()))
print({answer})
```

Normalisation and softmax are inside.
"""
HUB = """```python
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model("local-dir:.", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
with torch.no_grad():
    probabilities = model(transform(image)[None]).softmax(dim=1)
print(model.pretrained_cfg["label_names"][probabilities[0].argmax()])
```

Run it in this folder, or name the folder behind `local-dir:`.
"""
ANSWERS = {
    "classification": "classes[probabilities[0].argmax()]",
    "semantic": "[classes[index] for index in np.unique(probabilities[0].argmax(0))]",
    "detection": "[(classes[label], score) for label, score in zip(labels, scores) if score >= 0.5]",
    "instance": "[(classes[label], score) for label, score in zip(labels, scores) if score >= 0.5]",
}
OUTPUTS = {
    "classification": "(probabilities,)",
    "semantic": "(probabilities,)",
    "detection": "boxes, labels, scores",
    "instance": "boxes, labels, scores, masks",
}


def loading(model: Trained, form: str, file: str) -> str:
    """Return Markdown: a program that labels photo.jpg with a file in the form onnx, pt2 or hub."""
    if form == "hub":
        return HUB
    resized = RESIZED[model.resize].format(size=model.size, padding=PADDING)
    opened = OPENED.format(resized=resized, size=model.size)
    answer = ANSWERS[model.task]
    if form == "pt2":
        tensor = answer.replace("np.unique(probabilities[0].argmax(0))", "probabilities[0].argmax(0).unique()")
        return PT2.format(classes=list(model.classes), file=file, opened=opened, answer=tensor)
    return ONNX.format(file=file, opened=opened, outputs=OUTPUTS[model.task], answer=answer)
